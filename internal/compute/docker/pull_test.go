package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func withImage(j compute.Job, image string, login *compute.Login) compute.Job {
	j.Image = &compute.Image{Name: image, Login: login}
	return j
}

func prepareLog(t *testing.T, target *Target, h compute.Handle) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{Stream: "prepare"}, &b); err != nil {
		t.Fatalf("logs: %v", err)
	}
	return b.String()
}

// settle waits until nothing more is done for a job's preparing.
func settle(target *Target, h compute.Handle) {
	if p := target.preparations.of(h.Key); p != nil {
		<-p.done
	}
}

func has(t *testing.T, target *Target, image string) bool {
	t.Helper()
	_, err := target.engine.ImageInspect(t.Context(), image)
	return err == nil
}

// imageIsPulled submits two jobs of one image that the engine has not.
func imageIsPulled(t *testing.T, b bench) {
	s := newShelf(t)
	image := s.put(t, b, "pulled")
	target := b.attach(t, func(s *Settings, _ *compute.Env) { s.Image = "" })
	letGo := s.hold()
	defer letGo()
	j := withImage(job(target, "cat /mark"), image, nil)
	one, two := submit(t, target, j), submit(t, target, withImage(job(target, "cat /mark"), image, nil))
	submit(t, target, j)
	until(t, target, one, compute.Preparing)
	until(t, target, two, compute.Preparing)
	engine.Eventually(t, waitLimit, "the engine asks for the layer", func() bool { return s.layers.Load() > 0 })
	if got := prepareLog(t, target, one); !strings.Contains(got, "pulling image "+image) {
		t.Errorf("the log of preparing while the image is pulled: %q", got)
	}
	followed := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, err := target.Logs(context.Background(), one, compute.LogQuery{Stream: "prepare", Follow: true}, &all)
		followed <- fmt.Sprint(all.String(), err)
	}()
	letGo()
	for _, h := range []compute.Handle{one, two} {
		if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
			t.Errorf("exit: %+v", x)
		}
		if got := logOf(t, target, h); got != "pulled" {
			t.Errorf("log: %q", got)
		}
		if got := prepareLog(t, target, h); !strings.Contains(got, "is at the engine") {
			t.Errorf("the log of preparing at the end: %q", got)
		}
	}
	if got := <-followed; !strings.Contains(got, "is at the engine") || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("followed: %q", got)
	}
	if n := s.layers.Load(); n > 2 { // a layer and a configuration
		t.Errorf("two jobs of one image made the engine ask for %d blobs", n)
	}
	settle(target, one)
	settle(target, two)
	if again := submit(t, target, withImage(job(target, "cat /mark"), image, nil)); until(t, target, again, compute.Ended).Exit.Outcome != compute.Succeeded {
		t.Error("a third job did not succeed")
	}
	if _, marks, err := target.list(t.Context()); err != nil || len(marks) != 0 {
		t.Errorf("marks are left: %v, %v", marks, err)
	}
}

func cancelEndsPull(t *testing.T, b bench) {
	s := newShelf(t)
	image := s.put(t, b, "canceled")
	target := b.attach(t, nil)
	letGo := s.hold()
	defer letGo()
	j := withImage(job(target, "echo never"), image, nil)
	h := submit(t, target, j)
	engine.Eventually(t, waitLimit, "the engine asks for the layer", func() bool { return s.layers.Load() > 0 })
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Canceled {
		t.Errorf("exit: %+v", x)
	}
	letGo()
	submit(t, target, j)
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Canceled {
		t.Errorf("after another submit: %+v", x)
	}
	if target.pulls.known[image] != nil {
		t.Error("the pull goes on")
	}
	if err := target.Release(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	if boxes, marks, err := target.list(t.Context()); err != nil || len(boxes)+len(marks) != 0 {
		t.Errorf("after release there are %v %v, %v", boxes, marks, err)
	}
}

// pullIsTakenUp restarts the server in the middle of a pull, twice: the second time by a newer lease.
func pullIsTakenUp(t *testing.T, b bench) {
	s := newShelf(t)
	image := s.put(t, b, "restarted")
	letGo := s.hold()
	defer letGo()
	first := b.attach(t, nil)
	again := func(_ *Settings, env *compute.Env) { *env = first.env }
	j := withImage(job(first, "echo once"), image, nil)
	h := submit(t, first, j)
	until(t, first, h, compute.Preparing)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := b.attach(t, again)
	if st := until(t, second, h, compute.Missing); st.Reason == nil || st.Reason.Code != compute.NotStarted {
		t.Errorf("after the restart: %+v", st)
	}
	submit(t, second, j)
	until(t, second, h, compute.Preparing)
	third := b.attach(t, again) // while the second still lives
	submit(t, third, withEpoch(j, 2))
	until(t, third, h, compute.Preparing)
	letGo()
	if x := until(t, third, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", x)
	}
	if got := logOf(t, third, h); got != "once\n" {
		t.Errorf("log: %q", got)
	}
	settle(second, h)
	settle(third, h)
	if boxes, marks, err := third.list(t.Context()); err != nil || len(boxes) != 1 || len(marks) != 0 {
		t.Errorf("there are %v %v, %v", boxes, marks, err)
	}
}

// canceledElsewhere cancels by another server than the one that pulls.
func canceledElsewhere(t *testing.T, b bench) {
	s := newShelf(t)
	image := s.put(t, b, "elsewhere")
	letGo := s.hold()
	defer letGo()
	first := b.attach(t, nil)
	second := b.attach(t, func(_ *Settings, env *compute.Env) { *env = first.env })
	h := submit(t, first, withImage(job(first, "echo never"), image, nil))
	if err := second.Cancel(t.Context(), h, 2); err != nil {
		t.Fatal(err)
	}
	letGo()
	settle(first, h)
	if x := until(t, first, h, compute.Ended).Exit; x.Outcome != compute.Canceled {
		t.Errorf("exit: %+v", x)
	}
	if _, marks, err := first.list(t.Context()); err != nil || len(marks) != 0 {
		t.Errorf("marks are left: %v, %v", marks, err)
	}
}

func failedPullIsSaid(t *testing.T, b bench) {
	s := newShelf(t)
	there := s.put(t, b, "private")
	target := b.attach(t, nil)
	s.secret = "open-sesame"
	login := func(password string) *compute.Login {
		return &compute.Login{Server: s.host, Username: "puller", Password: workspace.NewSecret(password)}
	}
	for _, c := range []struct {
		what, image string
		login       *compute.Login
		code, words string
	}{
		{"unknown", s.host + "/absent:9", login("open-sesame"), "ImageUnknown", "unknown|not found"},
		{"no login", there, nil, "ImageDenied", "no basic auth credentials"},
		{"wrong login", there, login("wrong"), "ImageDenied", "unauthorized"},
		{"no such host", "registry.invalid/team/train:1", nil, "RegistryUnreachable", "no such host"},
		{"platform", s.putIndex(t, "foreign"), login("open-sesame"), "ImageForeign", "no match"},
	} {
		h := submit(t, target, withImage(job(target, "echo never"), c.image, c.login))
		st := until(t, target, h, compute.Ended)
		x := st.Exit
		if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != c.code || x.Problem.Mend == "" || !regexp.MustCompile(c.words).MatchString(strings.ToLower(x.Problem.Cause)) || !st.Started.IsZero() {
			t.Errorf("%s: %+v %+v", c.what, x, x.Problem)
		}
		if got := prepareLog(t, target, h); !strings.Contains(got, "pulling image "+c.image) {
			t.Errorf("%s: the log of preparing: %q", c.what, got)
		}
		submit(t, target, withImage(compute.Job{Key: h.Key, Epoch: 1, Command: "echo again"}, c.image, c.login))
		if got := logOf(t, target, h); got != "" {
			t.Errorf("%s: log %q", c.what, got)
		}
		if err := target.Release(t.Context(), h, 1); err != nil {
			t.Error(err)
		}
	}
	h := submit(t, target, withImage(job(target, "cat /mark"), there, login("open-sesame")))
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Errorf("with the login: %+v %v", x, x.Problem)
	}
	if !has(t, target, there) {
		t.Error("the image is not there")
	}
	r, err := target.engine.ContainerInspect(t.Context(), target.name(h.Key), client.ContainerInspectOptions{})
	if err != nil || strings.Contains(fmt.Sprint(r), "sesame") {
		t.Errorf("the container shows the login, or %v", err)
	}
}

func noImageIsRefused(t *testing.T, b bench) {
	target := b.attach(t, func(s *Settings, _ *compute.Env) { s.Image = "" })
	for _, c := range []struct {
		code string
		job  compute.Job
	}{
		{"NoImage", job(target, "exit 0")},
		{"InvalidImage", withImage(job(target, "exit 0"), "Not A Name", nil)},
		{"NoNodes", func() compute.Job {
			j := withImage(job(target, "exit 0"), b.Image, nil)
			j.Ranks.Nodes = 2
			return j
		}()},
	} {
		_, err := target.Submit(t.Context(), c.job)
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Code != c.code || p.Mend == "" {
			t.Errorf("%s: %v", c.code, err)
		}
	}
	// A cancel needs no image either.
	h := compute.Handle{Key: job(target, "").Key}
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Canceled {
		t.Errorf("exit: %+v", x)
	}
}
