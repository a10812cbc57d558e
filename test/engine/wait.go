package engine

import (
	"testing"
	"time"
)

// Eventually polls until ok says true, and fails the test with what it waited for after the limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for wait := time.Millisecond; !ok(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(wait)
	}
}
