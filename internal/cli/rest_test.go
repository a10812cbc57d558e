package cli

import (
	"strings"
	"testing"
)

func TestOnlyWhatIsNewOfATextIsPassedOn(t *testing.T) {
	var got strings.Builder
	r := &rest{to: &got}
	for _, reading := range [][]string{{"ab", "c"}, {}, {"a", "bcd", "e"}, {"abcde"}, {"abcdefg"}} {
		r.begin()
		for _, piece := range reading {
			if n, err := r.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Errorf("%q: %d, %v", piece, n, err)
			}
		}
	}
	if got.String() != "abcdefg" {
		t.Errorf("passed on %q", got.String())
	}
}
