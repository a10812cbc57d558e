package yaml

import "strings"

// nearest is the known name that word most likely means, or "" if none is near: at most a third of its letters differ.
func nearest(word string, known []string) string {
	word = strings.ToLower(word)
	if len(word) > 64 {
		return ""
	}
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, k := range known {
		if strings.HasPrefix(k, "$") {
			continue
		}
		d := distance(word, strings.ToLower(k))
		if d < bestDistance && d < max(len(k), len(word))-1 {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with a neighbour to turn a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
