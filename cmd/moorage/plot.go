package main

import (
	"fmt"
	"math"
	"strings"
)

// point is one value of a metric.
type point struct{ Step, Value float64 }

// plot draws a metric as text: height lines of braille dots, two by four to a character, with the range beside it.
// Values that are not finite are left out; fewer than two points give one line of text.
func plot(name string, points []point, width, height int) string {
	points = finite(points)
	switch len(points) {
	case 0:
		return name + ": no values\n"
	case 1:
		return fmt.Sprintf("%s: %.4g\n", name, points[0].Value)
	}
	lo, hi := points[0], points[0]
	for _, p := range points {
		lo.Step, hi.Step = min(lo.Step, p.Step), max(hi.Step, p.Step)
		lo.Value, hi.Value = min(lo.Value, p.Value), max(hi.Value, p.Value)
	}
	canvas := make([][]rune, height)
	for i := range canvas {
		canvas[i] = []rune(strings.Repeat("\u2800", width))
	}
	dot := func(x, y int) {
		// The bits of a braille character, by row and column (Unicode, block 2800).
		bits := [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}
		canvas[height-1-y/4][x/2] |= bits[3-y%4][x%2]
	}
	place := func(p point) (x, y int) {
		return scale(p.Step, lo.Step, hi.Step, 2*width), scale(p.Value, lo.Value, hi.Value, 4*height)
	}
	for i := 1; i < len(points); i++ {
		x0, y0 := place(points[i-1])
		x1, y1 := place(points[i])
		steps := max(abs(x1-x0), abs(y1-y0), 1)
		for s := 0; s <= steps; s++ {
			dot(x0+(x1-x0)*s/steps, y0+(y1-y0)*s/steps)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, last %.4g\n", name, points[len(points)-1].Value)
	for i, line := range canvas {
		label := ""
		if i == 0 {
			label = fmt.Sprintf("%.4g", hi.Value)
		} else if i == height-1 {
			label = fmt.Sprintf("%.4g", lo.Value)
		}
		fmt.Fprintf(&b, "%8s ┤%s\n", label, string(line))
	}
	fmt.Fprintf(&b, "%8s  %-*.4g%.4g\n", "step", width-len(fmt.Sprintf("%.4g", hi.Step)), lo.Step, hi.Step)
	return b.String()
}

func finite(points []point) []point {
	var out []point
	for _, p := range points {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			out = append(out, p)
		}
	}
	return out
}

// scale maps v of [lo, hi] to 0 … n-1.
func scale(v, lo, hi float64, n int) int {
	if hi == lo {
		return n / 2
	}
	return min(int((v-lo)/(hi-lo)*float64(n)), n-1)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
