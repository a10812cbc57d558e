package control

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// commandLine makes the text that a POSIX shell runs for a run's definition: where its data stand, in which variables, and
// the script with its arguments. A word is text of the shell that stands for one value, quoted as it must be.
type commandLine struct {
	search    string            // word: a folder before all others on Python's path; "" for none
	variables map[string]string // words by the names of environment variables
	stands    []standing
	values    map[string]string // words by what the client wrote in their place, e.g. "DatasetConsumptionConfig:m"
}

// standing is a place that the definition gave to an input or output beside the one where the target has it.
type standing struct {
	at     string // word
	folder string // word: the one at the target
	output bool
}

// placing are the shell functions by which places stand for folders. What is there already is the script's or the machine's
// own, so it stays: files are copied into it, or out of it at the end.
const placing = `place() {
	if [ -d "$2" ] && [ ! -L "$2" ]; then cp -R "$1/." "$2/"; else link "$1" "$2"; fi || exit 1
}
stand() {
	[ -d "$2" ] && [ ! -L "$2" ] || link "$1" "$2" || exit 1
}
link() { mkdir -p "$(dirname "$2")" && ln -sfn "$1" "$2"; }
bring() {
	[ -L "$2" ] || cp -R "$2/." "$1/" || echo "what is in $2 could not be copied to $1" >&2
}
unplace() {
	if [ "$(readlink "$2")" = "$1" ]; then rm -f "$2"; fi
}
`

// Python has another name on many machines.
const (
	findPython = "python=$(command -v python || command -v python3) || { echo 'there is no Python on this machine' >&2; exit 127; }\n"
	orPython3  = "command -v python >/dev/null 2>&1 || python() { python3 \"$@\"; }\n"
)

// stand makes a folder stand at a place that the client chose, which counts from the working directory, and gives the word for
// that place. Without a place it is the folder itself.
func (l *commandLine) stand(at, folder string, output bool) string {
	if at == "" {
		return folder
	}
	word := shellWord(path.Clean(at))
	if !path.IsAbs(at) {
		word = `"$PWD"/` + shellWord(strings.TrimPrefix(path.Clean("/"+at), "/"))
	}
	l.stands = append(l.stands, standing{at: word, folder: folder, output: output})
	return word
}

// script is the text for a script and its arguments. Its Python is the environment's, which comes first on the path, or else
// the machine's.
func (l *commandLine) script(name string, arguments []string) string {
	words := []string{"\"$python\"", shellWord(name)}
	for _, a := range arguments {
		words = append(words, l.word(a))
	}
	return l.text(findPython, strings.Join(words, " "), true)
}

// command is the text for a command that the user wrote, with the words put in where it names data. It is several commands
// perhaps, so the shell stays.
func (l *commandLine) command(text string) string {
	parts := l.parts(text)
	for i, p := range parts {
		if value, known := l.values[p]; known {
			parts[i] = value
		}
	}
	return l.text(orPython3, strings.ReplaceAll(strings.Join(parts, ""), "\r\n", "\n"), false)
}

func (l *commandLine) text(before, main string, one bool) string {
	var b strings.Builder
	if l.search != "" {
		fmt.Fprintf(&b, "export PYTHONPATH=%s\"${PYTHONPATH:+:$PYTHONPATH}\"\n", l.search)
	}
	for _, name := range slices.Sorted(maps.Keys(l.variables)) {
		fmt.Fprintf(&b, "export %s=%s\n", name, l.variables[name])
	}
	b.WriteString(before)
	if len(l.stands) == 0 {
		if one {
			b.WriteString("exec ")
		}
		return b.String() + main + "\n"
	}
	b.WriteString(l.standing())
	return b.String() + main + "\n"
}

// standing makes the places before the command, and takes them away when the shell ends, also when it is asked to.
func (l *commandLine) standing() string {
	var before, after strings.Builder
	for _, s := range l.stands {
		if s.output {
			fmt.Fprintf(&before, "stand %s %s\n", s.folder, s.at)
			fmt.Fprintf(&after, " bring %s %s;", s.folder, s.at)
		} else {
			fmt.Fprintf(&before, "place %s %s\n", s.folder, s.at)
		}
		fmt.Fprintf(&after, " unplace %s %s;", s.folder, s.at)
	}
	return placing + "finish() {" + after.String() + " }\ntrap finish EXIT\ntrap 'exit 143' TERM\n" + before.String()
}

// word is an argument as a word: text of its own, with the values put in that it names.
func (l *commandLine) word(argument string) string {
	var b strings.Builder
	for _, p := range l.parts(argument) {
		if value, known := l.values[p]; known {
			b.WriteString(value)
		} else {
			b.WriteString(shellWord(p))
		}
	}
	if b.Len() == 0 {
		return "''"
	}
	return b.String()
}

// parts cuts a text into what stands for values and what does not. Names are case-sensitive (azureml-v1.md §21.3), and the
// longest one counts.
func (l *commandLine) parts(text string) []string {
	if len(l.values) == 0 {
		return []string{text}
	}
	names := make([]string, 0, len(l.values))
	for name := range l.values {
		names = append(names, regexp.QuoteMeta(name))
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	pattern := regexp.MustCompile(strings.Join(names, "|"))
	var parts []string
	at := 0
	for _, m := range pattern.FindAllStringIndex(text, -1) {
		if m[0] > at {
			parts = append(parts, text[at:m[0]])
		}
		parts = append(parts, text[m[0]:m[1]])
		at = m[1]
	}
	if at < len(text) {
		parts = append(parts, text[at:])
	}
	return parts
}

// harmless are texts that need no quotes.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// shellWord quotes a text for a POSIX shell. What the target would take for a placeholder is cut in two.
func shellWord(text string) string {
	if harmless.MatchString(text) {
		return text
	}
	return "'" + strings.NewReplacer("'", `'\''`, "${{", "$''{{").Replace(text) + "'"
}

// placeholder is the word for the path of an input or output; the target puts it in and quotes it.
func placeholder(kind, name string) string { return "${{" + kind + "." + name + "}}" }
