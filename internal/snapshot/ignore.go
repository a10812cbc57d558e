package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ignores says which paths of a folder are left out of its snapshot: those that the folder's .amlignore names, or, if
// it has none, its .gitignore, as Azure's v2 client does; and always .git.
type ignores struct{ rules []rule }

// rule is one line of an ignore file in gitignore's grammar.
type rule struct {
	segments []string // of the pattern; "**" stands for any number of segments
	anchored bool     // the pattern begins at the folder
	folder   bool     // only folders match
	keep     bool     // "!": what matches is not left out
}

func readIgnores(dir string) (ignores, error) {
	for _, name := range []string{".amlignore", ".gitignore"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			return parseIgnores(text), nil
		}
		if !os.IsNotExist(err) {
			return ignores{}, err
		}
	}
	return ignores{}, nil
}

func parseIgnores(text []byte) ignores {
	var g ignores
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))) {
		if r, ok := parseRule(strings.TrimRight(string(line), "\r\n")); ok {
			g.rules = append(g.rules, r)
		}
	}
	return g
}

func parseRule(line string) (r rule, ok bool) {
	for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
		line = line[:len(line)-1]
	}
	if line == "" || line[0] == '#' {
		return r, false
	}
	if line[0] == '!' {
		r.keep, line = true, line[1:]
	}
	r.folder = strings.HasSuffix(line, "/")
	line = strings.TrimSuffix(line, "/")
	r.anchored = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false
	}
	r.segments = strings.Split(line, "/")
	for i, segment := range r.segments {
		if len(segment) > 2 && strings.Trim(segment, "*") == "" {
			r.segments[i] = "**" // git takes any number of them for two
		}
	}
	return r, true
}

// leftOut tells whether path, relative and slash-separated, is left out. The last rule that matches decides. What lies
// in a folder that is left out is not asked for.
func (g ignores) leftOut(path string, folder bool) bool {
	if path == ".git" || strings.HasSuffix(path, "/.git") {
		return true
	}
	for _, r := range slices.Backward(g.rules) {
		if r.matches(path, folder) {
			return !r.keep
		}
	}
	return false
}

func (r rule) matches(path string, folder bool) bool {
	if r.folder && !folder {
		return false
	}
	segments := strings.Split(path, "/")
	if !r.anchored {
		return glob(r.segments[0], segments[len(segments)-1])
	}
	return globPath(r.segments, segments)
}

func globPath(pattern, path []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			if len(pattern) == 1 {
				return len(path) > 0
			}
			for i := range len(path) + 1 {
				if globPath(pattern[1:], path[i:]) {
					return true
				}
			}
			return false
		}
		if len(path) == 0 || !glob(pattern[0], path[0]) {
			return false
		}
		pattern, path = pattern[1:], path[1:]
	}
	return len(path) == 0
}

// glob matches one segment: * any number of letters, ? one, [a-z] and [!a-z] one of a set, \x the letter x. It takes
// time in proportion to the product of the lengths.
func glob(pattern, name string) bool {
	p, s := []rune(pattern), []rune(name)
	i, j := 0, 0
	star, mark := -1, 0
	for j < len(s) {
		if i < len(p) && p[i] == '*' {
			star, mark = i, j
			i++
			continue
		}
		if n := one(p[i:], s[j]); n > 0 {
			i += n
			j++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// one matches c with what the pattern begins with, and gives the pattern's length of it, 0 for no match.
func one(p []rune, c rune) int {
	switch {
	case len(p) == 0:
		return 0
	case p[0] == '?':
		return 1
	case p[0] == '\\' && len(p) > 1:
		if p[1] == c {
			return 2
		}
		return 0
	case p[0] == '[':
		return set(p, c)
	case p[0] == c:
		return 1
	}
	return 0
}

func set(p []rune, c rune) int {
	i := 1
	not := i < len(p) && (p[i] == '!' || p[i] == '^')
	if not {
		i++
	}
	in := false
	for first := true; i < len(p) && (p[i] != ']' || first); first = false {
		low := p[i]
		if low == '\\' && i+1 < len(p) {
			i++
			low = p[i]
		}
		high := low
		if i+2 < len(p) && p[i+1] == '-' && p[i+2] != ']' {
			high = p[i+2]
			i += 2
		}
		in = in || low <= c && c <= high
		i++
	}
	if i == len(p) { // without its end it is only a bracket
		if c == '[' {
			return 1
		}
		return 0
	}
	if in == not {
		return 0
	}
	return i + 1
}
