package show

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"
)

// Table writes rows under a header, columns two spaces apart, without trailing spaces.
func Table(w io.Writer, header []string, rows [][]string) error {
	return table(w, plain(header, rows))
}

// FittedTable is a Table whose lines do not wrap on a terminal: of the last column is cut what there is no room for. Until
// it has room enough, columns named in spare are left out, the first of them first.
func FittedTable(w io.Writer, header []string, rows [][]string, spare ...string) error {
	return table(w, fit(width(w), plain(header, rows), spare))
}

func table(w io.Writer, lines [][]string) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, gap, ' ', 0)
	for _, line := range lines {
		_, _ = io.WriteString(t, strings.Join(line, "\t")+"\n") // Flush tells of errors
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return trimmed(w, b.String())
}

// width is how many letters a line of a terminal has; 0 for what is none.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}

func plain(header []string, rows [][]string) [][]string {
	lines := make([][]string, 0, len(rows)+1)
	for _, row := range append([][]string{header}, rows...) {
		line := make([]string, len(row))
		for i, cell := range row {
			line[i] = Plain(cell)
		}
		lines = append(lines, line)
	}
	return lines
}

const (
	enough = 32 // letters in which the last column says what matters
	least  = 12 // letters that are left of it however narrow the terminal is
	gap    = 2
)

// fit changes lines of equally many cells so that they have at most so many letters; 0 is any number.
func fit(letters int, lines [][]string, spare []string) [][]string {
	if letters == 0 || len(lines[0]) == 0 {
		return lines
	}
	room := func() int {
		left := letters
		for i := range lines[0][1:] {
			left -= longest(lines, i) + gap
		}
		return left
	}
	for _, name := range spare {
		if room() >= min(enough, longest(lines, len(lines[0])-1)) {
			break
		}
		if i := slices.Index(lines[0], name); i >= 0 {
			for n, line := range lines {
				lines[n] = slices.Delete(line, i, i+1)
			}
		}
	}
	left := max(room(), least)
	for _, line := range lines {
		last := len(line) - 1
		line[last] = Clip(line[last], left)
	}
	return lines
}

// longest is the number of letters of a column's longest cell.
func longest(lines [][]string, column int) int {
	n := 0
	for _, line := range lines {
		n = max(n, utf8.RuneCountInString(line[column]))
	}
	return n
}
