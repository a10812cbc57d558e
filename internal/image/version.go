package image

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// serves tells whether a Python of a full version is one that is asked for: "3.11", "3.8.13", or clauses as in
// ">=3.10,<3.13" and "!=3.11.*". Only as many numbers are compared as the clause has; what is not understood is not served.
func serves(version, wanted string) bool {
	if wanted == "" {
		return true
	}
	have, ok := numbers(version)
	if !ok {
		return false
	}
	for clause := range strings.SplitSeq(wanted, ",") {
		at := strings.IndexFunc(clause, func(r rune) bool { return !strings.ContainsRune("<>=!~", r) })
		if at < 0 {
			return false
		}
		operator, text := cmp.Or(clause[:at], "=="), strings.TrimSuffix(clause[at:], ".*")
		want, ok := numbers(text)
		if !ok || !holds(have, operator, want) {
			return false
		}
	}
	return true
}

func holds(have []int, operator string, want []int) bool {
	whole := slices.Compare(have, want)
	cut := slices.Compare(have[:min(len(have), len(want))], want)
	switch operator {
	case "==":
		return cut == 0
	case "!=":
		return cut != 0
	case ">=":
		return whole >= 0
	case "<=":
		return cut <= 0
	case ">":
		return cut > 0
	case "<":
		return cut < 0
	case "~=":
		return whole >= 0 && len(want) > 1 && slices.Compare(have[:len(want)-1], want[:len(want)-1]) == 0
	}
	return false
}

func numbers(version string) ([]int, bool) {
	var all []int
	for part := range strings.SplitSeq(strings.TrimSpace(version), ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		all = append(all, n)
	}
	return all, true
}
