package control

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// quantity is a number as Kubernetes writes it: "500m", "1.5", "8Gi", "1e3", or a plain number.
type quantity float64

// UnmarshalJSON reads a number, or a text in Kubernetes' form.
func (q *quantity) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = string(b)
	}
	n, err := parseQuantity(text)
	*q = quantity(n)
	return err
}

var (
	quantityForm = regexp.MustCompile(`^\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3}|[a-zA-Z]{0,2})$`)
	dockerForm   = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([bkmgtBKMGT]?)(?:[iI]?[bB])?$`)

	quantityUnits = map[string]float64{
		"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
		"g": 1 << 30, "t": 1 << 40, "b": 1, // Docker's, which Kubernetes does not have
	}
	dockerUnits = map[string]float64{"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
)

// parseQuantity reads a number as Kubernetes writes it.
func parseQuantity(text string) (float64, error) {
	m := quantityForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, notAQuantity(text)
	}
	number, unit := m[1], m[2]
	if len(unit) > 1 && (unit[0] == 'e' || unit[0] == 'E') && unit[1] != 'i' {
		number, unit = number+unit, ""
	}
	n, err := strconv.ParseFloat(number, 64)
	factor, known := quantityUnits[unit]
	if n *= factor; err != nil || !known || n > 1<<62 {
		return 0, notAQuantity(text)
	}
	return n, nil
}

func notAQuantity(text string) error {
	return fmt.Errorf("%s is not a quantity; write it like 500m, 2 or 8Gi", quote(text))
}

// dockerSize reads bytes as Docker's command line writes them, where every unit is binary: "2g", "512m" (azureml-v2.md §9).
func dockerSize(text string) (int64, error) {
	m := dockerForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, fmt.Errorf("%s is not a size; write it like 2g or 512m", quote(text))
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if n *= dockerUnits[strings.ToLower(m[2])]; err != nil || n > 1<<62 {
		return 0, fmt.Errorf("%s is too large a size", quote(text))
	}
	return int64(math.Ceil(n)), nil
}

// bytes is the quantity as a whole number.
func (q quantity) bytes() int64 { return int64(math.Ceil(float64(q))) }
