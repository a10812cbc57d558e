package metric

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestBareWordsBecomeTexts(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":NaN}`:                         `{"a":"NaN"}`,
		`[Infinity,-Infinity, NaN,-1]`:      `["Infinity","-Infinity", "NaN",-1]`,
		`{"NaN":"a \"NaN\\","b":[NaN]}`:     `{"NaN":"a \"NaN\\","b":["NaN"]}`,
		`{"a":"Infinity","b":"\\"}`:         `{"a":"Infinity","b":"\\"}`,
		`{"a":1}`:                           `{"a":1}`,
		`{"a":"-Infinity\"","b":-Infinity}`: `{"a":"-Infinity\"","b":"-Infinity"}`,
	} {
		if got := string(quoteWords([]byte(in))); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// FuzzQuoteWords: a body that is JSON stays the same, and every other one stays a finite piece of text.
func FuzzQuoteWords(f *testing.F) {
	for _, seed := range []string{`{"a":NaN}`, `"NaN`, `\NaN`, `{"a":"\"NaN"}`, `-Infinity`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := quoteWords(bytes.Clone(b))
		if json.Valid(b) && !bytes.Equal(b, got) {
			t.Errorf("%q became %q", b, got)
		}
	})
}
