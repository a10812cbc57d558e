package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// timed is a response that notes the deadline for its writes.
type timed struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (d *timed) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }

func TestAQuietStreamIsNotCutOffAndASlowClientIs(t *testing.T) {
	for _, stream := range []bool{true, false} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		bounded := func(when string, want bool) {
			t.Helper()
			left := time.Until(w.deadline)
			if got := !w.deadline.IsZero(); got != want || got && (left <= 0 || left > patience) {
				t.Errorf("stream %v, %s: a deadline is set: %v (%s), want %v", stream, when, got, left, want)
			}
		}
		rt := newRouter(t, Route{Method: "GET", Pattern: "/log", Public: "test", Stream: stream, Handler: func(out http.ResponseWriter, _ *http.Request) error {
			bounded("at first", true)
			control := http.NewResponseController(out)
			for _, text := range []string{"", "a line\n"} {
				if _, err := io.WriteString(out, text); err != nil {
					return err
				}
				bounded("while a write is not sent", true)
				if err := control.Flush(); err != nil {
					return err
				}
				bounded("while there is nothing to send", !stream)
			}
			return nil
		}})
		rt.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/log", nil))
		bounded("at the end", true)
	}
}

func TestErrorAfterAFlushIsNotPartOfTheAnswer(t *testing.T) {
	rt := newRouter(t, Route{Method: "GET", Pattern: "/log", Public: "test", Stream: true, Handler: func(w http.ResponseWriter, _ *http.Request) error {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		return errors.New("lost")
	}})
	s := httptest.NewServer(rt)
	defer s.Close()
	resp, err := s.Client().Get(s.URL + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil || len(b) > 0 {
		t.Fatalf("the client reads %q, %v", b, err)
	}
}
