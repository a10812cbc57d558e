// Package show prints what commands found: tables for people, JSON and YAML for programs, problems with their mends,
// and progress on a terminal. Package cli calls it; it does no other I/O.
package show

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/term"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Formats lists the values of --output.
func Formats() []string { return []string{"table", "json", "yaml"} }

// JSON writes a value, or raw JSON, indented.
func JSON(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("show: %w", err)
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// YAML writes a value, or raw JSON, as YAML with its fields in their order.
func YAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	_, err = w.Write(out)
	return err
}

// Pairs writes names and values, one pair a line; empty values are left out.
func Pairs(w io.Writer, pairs [][2]string) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", p[0], Plain(p[1]))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return trimmed(w, b.String())
}

func trimmed(w io.Writer, text string) error {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

// Plain is s on one line without control characters, so that a name from outside cannot steer a terminal.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return -1
		}
		return r
	}, s)
}

// Error writes an error as people read it: what and cause on one line, the mend below. Joined errors are written one by one.
func Error(w io.Writer, err error) {
	if err == nil {
		return
	}
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || !single(err) {
		if many, ok := err.(interface{ Unwrap() []error }); ok && !single(err) {
			for _, e := range many.Unwrap() {
				Error(w, e)
			}
			return
		}
		fmt.Fprintf(w, "moorage: %s\n", Plain(err.Error()))
	} else {
		problem(w, "moorage: ", *p)
	}
}

// single tells whether err is about one thing: it is not a list of independent errors.
func single(err error) bool {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return true
	}
	problems := 0
	for _, e := range many.Unwrap() {
		if _, ok := errors.AsType[*workspace.Problem](e); ok {
			problems++
		}
	}
	return problems == 1
}

// Warning writes a finding that stops nothing.
func Warning(w io.Writer, p workspace.Problem) { problem(w, "moorage: warning: ", p) }

// Finding writes what a pre-flight found, indented: it is one of several.
func Finding(w io.Writer, p workspace.Problem) {
	mark := "  ✗ "
	if p.Warning {
		mark = "  ! "
	}
	problem(w, mark, p)
}

func problem(w io.Writer, prefix string, p workspace.Problem) {
	line := Plain(p.Message)
	if line == "" {
		line = p.Code
	}
	if p.Cause != "" {
		line += ": " + Plain(p.Cause)
	}
	fmt.Fprintf(w, "%s%s\n", prefix, line)
	if p.Mend != "" {
		fmt.Fprintf(w, "%s%s\n", strings.Repeat(" ", 4), Plain(p.Mend))
	}
}

// Clip cuts s to n letters, the last of them "…" if something was cut.
func Clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// Terminal tells whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Size renders a number of bytes in powers of 1000, as file managers do.
func Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		value /= 1000
		if value < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// When renders an RFC 3339 time in local time, to the second; what is not one stays as it is.
func When(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
