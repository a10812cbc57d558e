package main

import (
	"math"
	"strings"
	"testing"
)

func TestPlotShowsRangeAndLastValue(t *testing.T) {
	got := plot("loss", []point{{0, 2}, {1, 1}, {2, 0.5}, {3, math.NaN()}}, 20, 4)
	for _, want := range []string{"loss, last 0.5", "2 ┤", "0.5 ┤", "step"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if lines := strings.Count(got, "\n"); lines != 6 {
		t.Errorf("%d lines, want 6:\n%s", lines, got)
	}
}

func TestPlotOfLittleIsALine(t *testing.T) {
	if got := plot("m", nil, 20, 4); got != "m: no values\n" {
		t.Errorf("got %q", got)
	}
	if got := plot("m", []point{{0, 0.25}}, 20, 4); got != "m: 0.25\n" {
		t.Errorf("got %q", got)
	}
	if got := plot("flat", []point{{0, 1}, {1, 1}}, 20, 4); !strings.Contains(got, "flat, last 1") {
		t.Errorf("got %q", got)
	}
}
