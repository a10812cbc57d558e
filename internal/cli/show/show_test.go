package show

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestErrorsHaveWhatCauseAndMend(t *testing.T) {
	p := &workspace.Problem{Message: "the thing is wrong", Cause: "it\x1b[31m broke\n", Mend: "mend it"}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{p, "moorage: the thing is wrong: it[31m broke \n    mend it\n"},
		{fmt.Errorf("outer: %w", p), "moorage: the thing is wrong: it[31m broke \n    mend it\n"},
		{errors.New("plain"), "moorage: plain\n"},
		{errors.Join(p, errors.New("plain"), &workspace.Problem{Code: "OnlyCode"}), "moorage: the thing is wrong: it[31m broke \n    mend it\nmoorage: plain\nmoorage: OnlyCode\n"},
	} {
		var b bytes.Buffer
		Error(&b, tc.err)
		if b.String() != tc.want {
			t.Errorf("got  %q\nwant %q", b.String(), tc.want)
		}
	}
}

func TestTablesHaveNoTrailingSpacesAndNoControlCharacters(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, []string{"A", "B"}, [][]string{{"long name", ""}, {"x\ty", "z\x1b]0;title\x07"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A          B\nlong name\nx y        z]0;title\n"; b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestJSONAndYAMLKeepTheOrderOfFields(t *testing.T) {
	raw := json.RawMessage(`{"z":1,"a":{"y":[1,2],"b":"x: y"}}`)
	var j, y bytes.Buffer
	if err := errors.Join(JSON(&j, raw), YAML(&y, raw)); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"z\": 1,\n  \"a\": {\n    \"y\": [\n      1,\n      2\n    ],\n    \"b\": \"x: y\"\n  }\n}\n"; j.String() != want {
		t.Errorf("%s", j.String())
	}
	if want := "z: 1\na:\n  \"y\":\n  - 1\n  - 2\n  b: \"x: y\"\n"; y.String() != want {
		t.Errorf("%s", y.String())
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 300 << 20: "314.6 MB", 2e12: "2.0 TB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}

func TestProgressIsPlainLinesOffATerminal(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := NewProgress(&b, "uploading", 1000, func() time.Time { return now })
	p.Total(10_000)
	p.Add(3000)
	now = now.Add(6 * time.Second)
	p.Add(3000)
	p.Add(1000)
	p.End()
	if want := "uploading 10.0 kB\nuploading 6.0 kB of 10.0 kB\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	p.Total(10)
	p.Add(10)
	p.End()
	if b.Len() > 0 {
		t.Errorf("a small transfer is shown: %q", b.String())
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("escape codes off a terminal")
	}
}
