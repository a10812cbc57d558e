package main

import (
	"io"
	"slices"
	"testing"
)

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
