package main

import (
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestEndOfGoTestCounts(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		fine   bool
	}{
		"it passes":                         {`echo '{"Action":"pass","Package":"m/a","Test":"TestX"}'`, true},
		"a test says why it fails":          {`echo '{"Action":"fail","Package":"m/a","Test":"TestX"}'; exit 1`, true},
		"it fails, and all that ran passed": {`echo '{"Action":"pass","Package":"m/a","Test":"TestX"}'; exit 1`, false},
		"it is killed":                      {`echo '{"Action":"pass","Package":"m/a","Test":"TestX"}'; kill -9 $$`, false},
	} {
		s := &summary{w: io.Discard, output: map[key]*strings.Builder{}, times: map[string]float64{}}
		if err := s.run(exec.Command("sh", "-c", c.script)); (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatFailedIsRunAgainByItsLeaves(t *testing.T) {
	exam := []key{{"m/a", "TestExam/Logs"}, {"m/a", "TestExam"}, {"m/b", "TestX"}}
	for name, c := range map[string]struct {
		failed   []key
		pass     bool
		runs     []string
		unsteady int
		left     int
	}{
		"those that pass then are unsteady":   {exam, true, []string{"m/a TestExam/Logs", "m/b TestX"}, 2, 0},
		"one that fails again leaves them be": {exam, false, []string{"m/a TestExam/Logs"}, 0, 3},
		"a package is not run again":          {[]key{{"m/a", ""}}, true, nil, 0, 1},
		"nor is much":                         {[]key{{"m", "A"}, {"m", "B"}, {"m", "C"}, {"m", "D"}, {"m", "E"}, {"m", "F"}}, true, nil, 0, 6},
	} {
		s := &summary{w: io.Discard, failed: c.failed}
		var runs []string
		s.again(func(k key) bool { runs = append(runs, k.String()); return c.pass })
		if !slices.Equal(runs, c.runs) || len(s.unsteady) != c.unsteady || len(s.failed) != c.left {
			t.Errorf("%s: ran %v, unsteady %v, failed %v", name, runs, s.unsteady, s.failed)
		}
	}
}
