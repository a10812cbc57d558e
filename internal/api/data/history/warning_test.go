package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
)

func TestWarningsOfPreparingAreFound(t *testing.T) {
	var many []string
	for i := range maxWarnings + 5 {
		many = append(many, fmt.Sprintf("warning: %d", i))
	}
	for name, c := range map[string]struct {
		log  string
		want []string
	}{
		"nothing":            {"", nil},
		"no warnings":        {"environment by uv, because the machine has no conda tool\n+ sh ./venv.sh\nResolved 63 packages\n", nil},
		"among other words":  {"environment by uv; warning: from PyPI instead of conda: numpy; Python 3.8\n", []string{"from PyPI instead of conda: numpy"}},
		"a line":             {"environment by uv\r\nPython 3.8.13 is not on this machine\r\nwarning: Python 3.8.13 cannot be had; Python 3.11.2 is used\r\n", []string{"Python 3.8.13 cannot be had; Python 3.11.2 is used"}},
		"twice":              {"warning: a\nwarning: a\n", []string{"a"}},
		"in another's words": {"npm warning: a\nwarning:b\nx; warning: c\n", nil},
		"too many": {strings.Join(many, "\n"), func() (want []string) {
			for _, w := range many[:maxWarnings] {
				want = append(want, strings.TrimPrefix(w, "warning: "))
			}
			return want
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			var want []store.RunWarning
			for _, text := range c.want {
				want = append(want, store.RunWarning{Source: "environment", Message: "environment: " + text})
			}
			if got := warningsOf([]byte(c.log)); !slices.Equal(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}
