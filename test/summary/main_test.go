package main

import (
	"strings"
	"testing"
)

func summarise(t *testing.T, events string) (text string, ok bool) {
	t.Helper()
	var b strings.Builder
	s := &summary{w: &b, output: map[key]*strings.Builder{}, times: map[string]float64{}}
	if err := s.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	ok = s.print()
	return b.String(), ok
}

const passing = `{"Action":"output","Package":"m/a","Test":"TestX","Output":"noise\n"}
{"Action":"pass","Package":"m/a","Test":"TestX","Elapsed":0.1}
{"Action":"output","Package":"m/a","Test":"TestS","Output":"    x_test.go:3: no postgres here\n"}
{"Action":"skip","Package":"m/a","Test":"TestS"}
{"Action":"pass","Package":"m/a","Elapsed":1.5}
`

func TestSummaryCountsAndSaysWhyTestsWereSkipped(t *testing.T) {
	text, ok := summarise(t, passing)
	for _, want := range []string{"1 passed, 0 failed, 1 skipped\n", "m/a TestS: no postgres here", "ok  \tm/a\t1.5s"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if !ok || strings.Contains(text, "noise") {
		t.Errorf("ok %v:\n%s", ok, text)
	}
}

func TestSummaryShowsWhatFailed(t *testing.T) {
	for name, c := range map[string]struct{ events, want string }{
		"a test": {`{"Action":"output","Package":"m/b","Test":"TestY","Output":"    y_test.go:1: got 1\n"}
{"Action":"fail","Package":"m/b","Test":"TestY"}
{"Action":"fail","Package":"m/b","Elapsed":1}
`, "got 1"},
		"a package that ended early": {`{"Action":"output","Package":"m/b","Test":"TestY","Output":"panic: oh no\n"}
{"Action":"fail","Package":"m/b","Elapsed":1}
`, "panic: oh no"},
		"a package that does not build": {`{"ImportPath":"m/b","Action":"build-output","Output":"b.go:1: syntax error\n"}
{"ImportPath":"m/b","Action":"build-fail"}
{"Action":"fail","Package":"m/b","Elapsed":0,"FailedBuild":"m/b"}
`, "syntax error"},
	} {
		text, ok := summarise(t, passing+c.events)
		if ok || !strings.Contains(text, c.want) || !strings.Contains(text, "1 passed, 1 failed, 1 skipped\n") {
			t.Errorf("%s: ok %v:\n%s", name, ok, text)
		}
	}
}

func TestNoTestAtAllIsAFailure(t *testing.T) {
	if text, ok := summarise(t, "go: no packages\n"); ok || !strings.Contains(text, "go: no packages") {
		t.Errorf("ok %v:\n%s", ok, text)
	}
}
