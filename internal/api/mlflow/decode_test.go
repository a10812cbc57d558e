package mlflow

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// FuzzUnmarshal holds for any body: no panic, a fault is a Problem of class invalid, and what is read can be written.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"run_id":"a","metrics":[{"key":"m","value":"NaN","timestamp":"1","step":-1.0}]}`, `{"metrics":[{"value":"0x1p-2"}]}`,
		`{"metrics":[{"value":1e999,"timestamp":1e30}]}`, `{"tags":[{"key":1}]}`, `{"metrics":{"a":[1]}}`, `{"run_id":5}`, `{"params":null}`, `{"metrics":[{"step":"-"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q logBatch
		if err := unmarshal(body, &q); err != nil {
			p, is := errors.AsType[*workspace.Problem](err)
			if !is || p.Class != workspace.Invalid {
				t.Fatalf("%q: %#v", body, err)
			}
			return
		}
		for _, m := range q.Metrics {
			if p, err := m.point(""); err == nil {
				if math.IsNaN(p.Value) || math.IsInf(p.Value, 0) || !utf8.ValidString(p.Key) {
					t.Fatalf("%q: %+v", body, p)
				}
				if _, err := json.Marshal(metricOf(p)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestZeroCharactersAreFound(t *testing.T) {
	for body, want := range map[string]bool{
		`{"a":"\u0000"}`: true, `{"a":"x\\\u0000"}`: true, `{"a":"\\u0000"}`: false, `{"a":"\\\\u0000"}`: false, `{"a":"\\u0000\u0000"}`: true, `{}`: false,
		`{"a":"` + strings.Repeat(`\\u0000`, 1000) + `"}`: false,
	} {
		if got := hasZero([]byte(body)); got != want {
			t.Errorf("%.40s: %v", body, got)
		}
	}
}
