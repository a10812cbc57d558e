package clock

import (
	"testing"
	"time"
)

func TestIDsRiseInTheOrderOfTheirMaking(t *testing.T) {
	s := System()
	fixed := time.UnixMilli(1_700_000_000_000)
	s.Now = func() time.Time { return fixed }
	last := FirstID(fixed)
	for range 10_000 {
		id := s.NewID()
		if id <= last || len(id) != 26 {
			t.Fatalf("%s comes after %s", id, last)
		}
		last = id
	}
	if next := FirstID(fixed.Add(time.Millisecond)); last >= next {
		t.Errorf("%s is not before %s", last, next)
	}
}
