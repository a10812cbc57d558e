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

func TestTablesDoNotWrapOnATerminal(t *testing.T) {
	header := []string{"NAME", "GROUP", "SINCE", "WHY"}
	rows := [][]string{
		{"calm_anchor_k2f9", "Default", "2026-11-24 08:00:00", "waits for a slot on compute gpü, as do others"},
		{"job", "Default", "2026-11-24 08:00:00", ""},
	}
	for _, tc := range []struct {
		letters       int
		columns, last string // last is the last cell of the first row
	}{
		{0, "NAME GROUP SINCE WHY", "waits for a slot on compute gpü, as do others"},
		{200, "NAME GROUP SINCE WHY", "waits for a slot on compute gpü, as do others"},
		{90, "NAME GROUP SINCE WHY", "waits for a slot on compute gpü, as do ot…"},
		{80, "NAME GROUP SINCE WHY", "waits for a slot on compute gpü…"},
		{78, "NAME SINCE WHY", "waits for a slot on compute gpü, as do…"},
		{60, "NAME WHY", "waits for a slot on compute gpü, as do ot…"},
		{20, "NAME WHY", "waits for a…"},
	} {
		lines := fit(tc.letters, plain(header, rows), []string{"GROUP", "SINCE"})
		if got := strings.Join(lines[0], " "); got != tc.columns {
			t.Errorf("%d letters: columns %s", tc.letters, got)
		}
		if got := lines[1][len(lines[1])-1]; got != tc.last {
			t.Errorf("%d letters: %q, want %q", tc.letters, got, tc.last)
		}
		all := -gap
		for i := range lines[0] {
			all += longest(lines, i) + gap
		}
		if tc.letters >= 60 && all > tc.letters {
			t.Errorf("%d letters: a line has %d", tc.letters, all)
		}
	}
	// What is short needs no room.
	rows[0][3] = "exit code 1"
	if lines := fit(70, plain(header, rows), []string{"GROUP"}); len(lines[0]) != 4 || lines[1][3] != "exit code 1" {
		t.Errorf("%q", lines)
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
	slow := NewProgress(&b, "hashing 3 files:", 0, func() time.Time { return now }).After(2 * time.Second)
	slow.Total(9000)
	for range 9 { // one a second
		now = now.Add(time.Second)
		slow.Add(1000)
	}
	slow.End()
	if want := "hashing 3 files: 2.0 kB of 9.0 kB\nhashing 3 files: 7.0 kB of 9.0 kB\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	slow.Total(9000)
	slow.Add(9000)
	slow.End()
	if b.Len() > 0 {
		t.Errorf("what is done at once is shown: %q", b.String())
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
