package fault

import "testing"

func TestPointsAreParsed(t *testing.T) {
	if p, err := Parse(""); p != nil || err != nil {
		t.Errorf("nothing: %v, %v", p, err)
	}
	for _, bad := range []string{"job.accepted", "job.accepted:", "job.accepted:0", "job.accepted:-1", "job.accepted:x", ":1", "no.such.point:1"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, at := range All() {
		p, err := Parse(string(at) + ":2")
		if err != nil {
			t.Fatal(err)
		}
		p.Pass(at) // the first of two: this process goes on
		for _, other := range All() {
			if other != at {
				p.Pass(other)
			}
		}
	}
	var none *Points
	none.Pass(JobAccepted)
}
