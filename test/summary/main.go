// Command summary runs go test with its own arguments and prints what a person wants of it: a line a package, the whole
// output of what failed, why tests were skipped, the slowest packages, and the counts. It fails if a test did, if none
// ran, or if go test failed for no test that is seen. It is run by make test.
//
// Tests wait for real engines on machines that others use too. So the few that failed are run once more, each alone; one
// that passes then is named as unsteady and does not fail the run.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string // in place of Package, where a build is told of
	Test       string
	Output     string
	Elapsed    float64
}

type key struct{ pkg, test string }

func (k key) String() string {
	if k.test == "" {
		return short(k.pkg) + " (the package itself)"
	}
	return short(k.pkg) + " " + k.test
}

type summary struct {
	w        io.Writer
	output   map[key]*strings.Builder
	passed   int
	skipped  []string
	failed   []key
	unsteady []string
	times    map[string]float64
}

func main() {
	s := &summary{w: os.Stdout, output: map[key]*strings.Builder{}, times: map[string]float64{}}
	err := s.run(exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...))
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
	} else {
		s.again(runAlone)
	}
	if !s.print() || err != nil {
		os.Exit(1)
	}
}

// run reads the events of a go test. That it fails is no error where a failed test says why.
func (s *summary) run(test *exec.Cmd) error {
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	if err := test.Start(); err != nil {
		return err
	}
	if err := s.read(events); err != nil {
		_ = test.Process.Kill()
		_ = test.Wait()
		return err
	}
	if err := test.Wait(); err != nil && len(s.failed) == 0 {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

func (s *summary) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(s.w, "%s", line) // of go itself, not of a test
			} else {
				s.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) take(e event) {
	k := key{cmp.Or(e.Package, e.ImportPath), e.Test}
	switch e.Action {
	case "output", "build-output":
		if s.output[k] == nil {
			s.output[k] = &strings.Builder{}
		}
		s.output[k].WriteString(e.Output)
		return
	case "pass", "fail", "skip":
	case "build-fail":
		fmt.Fprintf(s.w, "%s", s.text(k))
		delete(s.output, k)
		return
	default:
		return
	}
	if e.Test == "" {
		s.times[e.Package] = e.Elapsed
		s.endPackage(e)
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped = append(s.skipped, short(e.Package)+" "+e.Test+": "+reason(s.text(k)))
	case "fail":
		s.failed = append(s.failed, k)
		fmt.Fprintf(s.w, "%s", s.text(k))
	}
	delete(s.output, k)
}

func (s *summary) endPackage(e event) {
	k := key{e.Package, ""}
	defer delete(s.output, k)
	if e.Action == "fail" {
		fmt.Fprintf(s.w, "%sFAIL\t%s\t%.1fs\n", s.text(k), e.Package, e.Elapsed)
		if !slices.ContainsFunc(s.failed, func(f key) bool { return f.pkg == e.Package }) {
			s.failed = append(s.failed, k)
		}
		// Tests that were running when it ended have no event of their own.
		for other, text := range s.output {
			if other.pkg == e.Package && other.test != "" {
				fmt.Fprintf(s.w, "%s", text.String())
				delete(s.output, other)
			}
		}
		return
	}
	if e.Action == "pass" {
		fmt.Fprintf(s.w, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	}
}

func (s *summary) text(k key) string {
	if b := s.output[k]; b != nil {
		return b.String()
	}
	return ""
}

// print tells whether all is well.
func (s *summary) print() bool {
	if len(s.skipped) > 0 {
		fmt.Fprintln(s.w, "\nSkipped, and why:")
		for _, line := range s.skipped {
			fmt.Fprintln(s.w, "  "+line)
		}
	}
	var packages []string
	for p := range s.times {
		packages = append(packages, p)
	}
	slices.SortFunc(packages, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.times[b], s.times[a]), strings.Compare(a, b))
	})
	fmt.Fprintln(s.w, "\nSlowest packages:")
	for _, p := range packages[:min(5, len(packages))] {
		fmt.Fprintf(s.w, "  %6.1fs  %s\n", s.times[p], short(p))
	}
	if len(s.unsteady) > 0 {
		fmt.Fprintln(s.w, "\nUnsteady: failed at first, passed when run again alone:")
		for _, line := range s.unsteady {
			fmt.Fprintln(s.w, "  "+line)
		}
	}
	if len(s.failed) > 0 {
		fmt.Fprintln(s.w, "\nFailed:")
		for _, k := range s.failed {
			fmt.Fprintln(s.w, "  "+k.String())
		}
	}
	fmt.Fprintf(s.w, "\n%d passed, %d failed, %d skipped\n", s.passed, len(s.failed), len(s.skipped))
	return len(s.failed) == 0 && s.passed > 0
}

func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/moorage-ml/moorage/")
}

// reason is what a skipped test said.
func reason(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, said, ok := strings.Cut(line, ": "); ok {
			return said
		}
		return line
	}
	return "no reason given"
}
