package keeper

import (
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// A command goes to the shell, unless the shell would do nothing but start one program with the words as they stand. Then
// the program is started without one: a shell is a process more for as long as the job runs, takes as long to start as
// much of what the keeper does for a job, and makes an exit code of the signal that ended the program.

// commandLine is what runs a command: the one program that it names, or a shell.
func commandLine(text string, env []string) []string {
	if argv := simpleCommand(text, env); argv != nil {
		return argv
	}
	return []string{"/bin/sh", "-c", text}
}

// simpleCommand gives the program and its arguments, or nil if only the shell can tell. It is sure of a path and of a
// Python; other words may be the shell's own.
func simpleCommand(text string, env []string) []string {
	text = strings.TrimSpace(text)
	argv := plainWords(text)
	if len(argv) == 0 || !strings.HasPrefix(text, argv[0]) || strings.Contains(argv[0], "=") {
		return nil
	}
	if strings.Contains(argv[0], "/") {
		return argv
	}
	if strings.Trim(strings.TrimPrefix(argv[0], "python"), "0123456789.") != "" {
		return nil
	}
	argv[0] = find(argv[0], env)
	if argv[0] == "" {
		return nil
	}
	return argv
}

// plainWords splits text into words of which the shell expands none, or gives nil.
func plainWords(text string) []string {
	var (
		out  []string
		word strings.Builder
		in   bool
	)
	for text != "" {
		rest := text[1:]
		switch c := text[0]; {
		case c == '\'' || c == '"':
			quoted, after, ok := strings.Cut(rest, text[:1])
			if !ok || c == '"' && strings.ContainsAny(quoted, "\\$`") {
				return nil
			}
			word.WriteString(quoted)
			in, rest = true, after
		case c == ' ' || c == '\t':
			if in {
				out = append(out, word.String())
			}
			word.Reset()
			in = false
		case c >= utf8.RuneSelf, c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("_@%+=:,./-", c) >= 0:
			word.WriteByte(c)
			in = true
		default:
			return nil
		}
		text = rest
	}
	if in {
		out = append(out, word.String())
	}
	return out
}

// find looks for a program in the PATH of an environment; empty: it is not there.
func find(program string, env []string) string {
	for _, v := range env {
		path, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			full := filepath.Join(dir, program)
			if info, err := os.Stat(full); err == nil && filepath.IsAbs(full) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return full
			}
		}
	}
	return ""
}
