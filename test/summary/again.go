package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// many failed tests are no matter of chance.
const many = 5

// again runs what failed once more, unless it is much or a whole package, with a function that tells whether a test passes.
func (s *summary) again(passes func(key) bool) {
	leaves := s.leaves()
	if len(leaves) == 0 || len(leaves) > many {
		return
	}
	for _, k := range leaves {
		if k.test == "" {
			return
		}
	}
	for _, k := range leaves {
		fmt.Fprintf(s.w, "\nagain: %s\n", k)
		if !passes(k) {
			return
		}
	}
	for _, k := range leaves {
		s.unsteady = append(s.unsteady, k.String())
	}
	s.passed += len(s.failed)
	s.failed = nil
}

// leaves are the failed tests that have no failed test below them.
func (s *summary) leaves() []key {
	var out []key
	for _, k := range s.failed {
		leaf := true
		for _, other := range s.failed {
			leaf = leaf && (other.pkg != k.pkg || !strings.HasPrefix(other.test, k.test+"/"))
		}
		if leaf {
			out = append(out, k)
		}
	}
	return out
}

// runAlone runs one test and shows its output if it fails.
func runAlone(k key) bool {
	var parts []string
	for part := range strings.SplitSeq(k.test, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	out, err := exec.Command("go", "test", "-count=1", "-timeout", "20m", "-run", strings.Join(parts, "/"), k.pkg).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ok") {
		_, _ = os.Stdout.Write(out)
		return false
	}
	return true
}
