package workspace

import (
	"strings"
	"testing"
)

func TestNamesThatAzureTakesAreTaken(t *testing.T) {
	for _, tc := range []struct {
		name           string
		compute, asset bool
	}{
		{"gpu", true, true},
		{"a", false, true},
		{"a1", true, true},
		{"1a", false, true},
		{"cpu-cluster", true, true},
		{"cpu-", false, true},
		{"-cpu", false, false},
		{"_x", false, false},
		{".x", false, false},
		{"a.b_c-d", false, true},
		{"a/b", false, false},
		{"..", false, false},
		{"grüße", false, false},
		{"a\n", false, false},
		{"", false, false},
		{strings.Repeat("a", 32), true, true},
		{strings.Repeat("a", 33), false, true},
		{strings.Repeat("a", 255), false, true},
		{strings.Repeat("a", 256), false, false},
	} {
		if got := CheckComputeName(tc.name) == nil; got != tc.compute {
			t.Errorf("compute name %q: accepted %v", tc.name, got)
		}
		if got := CheckName("job", tc.name) == nil; got != tc.asset {
			t.Errorf("name %q: accepted %v", tc.name, got)
		}
	}
}
