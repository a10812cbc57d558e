package main

import (
	"fmt"
	"slices"
	"time"
)

// figure is one line of the table: what was measured, beside its floor, measured in the same run.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`           // in Unit
	Unit   string  `json:"unit"`            // "×" for a ratio
	Ours   float64 `json:"ours,omitempty"`  // median, milliseconds
	Floor  float64 `json:"floor,omitempty"` // median, milliseconds
	Of     string  `json:"of,omitempty"`    // what the floor is
	Goal   float64 `json:"goal"`
	Must   float64 `json:"must"`
	Least  bool    `json:"least,omitempty"` // Goal and Must are the least that Value may be; else the most
	Note   string  `json:"note,omitempty"`
	Failed string  `json:"failed,omitempty"`
	Absent string  `json:"absent,omitempty"` // what is not installed here, so that there is nothing to measure
}

// absent is the error of a measurement whose engine is not installed: its text is the reason and the mend.
type absent string

func (a absent) Error() string { return string(a) }

// verdict says whether the figure is within its goal or its must.
func (f figure) verdict() string {
	switch {
	case f.Absent != "":
		return "skipped"
	case f.Failed != "":
		return "not measured"
	case f.within(f.Goal):
		return "goal"
	case f.within(f.Must):
		return "must"
	}
	return "MISSED"
}

func (f figure) within(bound float64) bool {
	if f.Least {
		return f.Value >= bound
	}
	return f.Value <= bound
}

// bound shows a goal or a must with its direction, where that is not the usual one.
func (f figure) bound(bound float64) string {
	if f.Least {
		return fmt.Sprintf("≥ %g", bound)
	}
	return fmt.Sprintf("%g", bound)
}

// timed runs a function and takes its time.
func timed(fn func() error) (time.Duration, error) {
	begun := time.Now()
	err := fn()
	return time.Since(begun), err
}

// pairs runs two things in turn, A B A B …, n times after one uncounted round, and gives the medians and the median of
// the ratios pair by pair. The machine may be noisy; a pair is noisy together.
func pairs(n int, ours, floor func() (time.Duration, error)) (ratio, a, b float64, err error) {
	var ratios, as, bs []float64
	for i := range n + 1 {
		x, err := ours()
		if err != nil {
			return 0, 0, 0, fmt.Errorf("ours: %w", err)
		}
		y, err := floor()
		if err != nil {
			return 0, 0, 0, fmt.Errorf("floor: %w", err)
		}
		if i == 0 {
			continue
		}
		ratios = append(ratios, float64(x)/float64(y))
		as = append(as, milliseconds(x))
		bs = append(bs, milliseconds(y))
	}
	return median(ratios), median(as), median(bs), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func median(v []float64) float64 { return percentile(v, 50) }

// percentile gives the value below which p percent of v lie; 0 for none.
func percentile(v []float64, p int) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)*p/100, len(v)-1)]
}
