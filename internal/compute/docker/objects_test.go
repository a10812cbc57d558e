package docker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/test/engine"
)

// folders is a snapshot of some files, of which one is as told.
func folders(o *computetest.Objects, line string) map[string]computetest.Node {
	nodes := map[string]computetest.Node{"main.txt": {Text: line + "\n"}}
	for i := range 40 {
		nodes[fmt.Sprintf("pkg%d/file-%d.txt", i%4, i)] = computetest.Node{Text: strings.Repeat(fmt.Sprint(i), 100)}
	}
	return nodes
}

func objectsOf(target *Target) *computetest.Objects { return target.env.Objects.(*computetest.Objects) }

func withCode(target *Target, j compute.Job, line string) compute.Job {
	o := objectsOf(target)
	j.Code = o.AddTree(folders(o, line))
	return j
}

// sees runs a job that prints the line of its code and counts its files, and gives how many objects were read for it.
func sees(t *testing.T, target *Target, line string) int {
	t.Helper()
	j := withCode(target, job(target, "cat main.txt; find . -type f | wc -l"), line)
	before := objectsOf(target).Reads()
	h := submit(t, target, j)
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Fatalf("exit: %+v %v", x, x.Problem)
	}
	if got := strings.Fields(logOf(t, target, h)); !slices.Equal(got, []string{line, "41"}) {
		t.Errorf("log: %q", got)
	}
	return objectsOf(target).Reads() - before
}

func stores(t *testing.T, target *Target) []string {
	t.Helper()
	v, err := target.volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.stores
}

// onlyChangesAreSent submits the same folder again, with one file changed, and after a restart of the server.
func onlyChangesAreSent(t *testing.T, b bench) {
	target := b.attach(t, nil)
	first := sees(t, target, "one")
	if n := sees(t, target, "one"); n != 0 {
		t.Errorf("the same folder again: %d objects were read", n)
	}
	if n := sees(t, target, "two"); n > 3 { // the file, the folder, and the folder when it is sent
		t.Errorf("with one file changed, %d objects were read", n)
	}
	restarted := b.attach(t, func(_ *Settings, env *compute.Env) { *env = target.env })
	if n := sees(t, restarted, "three"); n > 3 {
		t.Errorf("after a restart, with one file changed, %d objects were read of %d", n, first)
	}
	if n := sees(t, target, "three"); n > 3 { // another sent it; sending it again does no harm
		t.Errorf("the first server read %d objects", n)
	}
	if got := stores(t, target); len(got) != 1 {
		t.Errorf("stores: %v", got)
	}
}

// removedStoreIsMadeAnew takes away the porter, and then the volume, as docker prune does.
func removedStoreIsMadeAnew(t *testing.T, b bench) {
	target := b.attach(t, nil)
	sees(t, target, "one")
	old := stores(t, target)[0]
	if _, err := target.engine.ContainerRemove(t.Context(), target.porterName(old), client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	sees(t, target, "two")
	if got := stores(t, target); len(got) != 1 || got[0] != old {
		t.Errorf("without the porter: stores %v", got)
	}
	boxes, _, err := target.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, box := range boxes {
		target.stopped(t.Context(), box.id)
		if ok, err := target.discard(t.Context(), box.id); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	if _, err := target.engine.ContainerRemove(t.Context(), target.porterName(old), client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := target.engine.VolumeRemove(t.Context(), old, client.VolumeRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	sees(t, target, "two")
	if got := stores(t, target); len(got) != 1 || got[0] == old {
		t.Errorf("after the volume was removed: stores %v", got)
	}
	// And between the look at the volumes and the making of the container.
	j := withCode(target, job(target, "cat main.txt"), "two")
	id, o, store := halfMade(t, target, j)
	other := target.volume("objects.0")
	if started, err := target.bring(t.Context(), id, o, other); err != nil || started {
		t.Errorf("a container of a store that is not there was started: %v, %v", started, err)
	}
	if started, err := target.bring(t.Context(), id, o, store); err != nil || !started {
		t.Errorf("a container of the store was not started: %v, %v", started, err)
	}
}

// lostObjectIsSentAnew removes files from a store behind the server's back.
func lostObjectIsSentAnew(t *testing.T, b bench) {
	target := b.attach(t, nil)
	sees(t, target, "one")
	old := stores(t, target)[0]
	r, err := target.engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config:     &container.Config{Image: b.Image, Cmd: []string{"sh", "-c", "rm -rf /store/[0-9a-f][0-9a-f]"}},
		HostConfig: &container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: old, Target: "/store"}}},
	})
	if err == nil {
		_, err = target.engine.ContainerStart(t.Context(), r.ID, client.ContainerStartOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	target.stopped(t.Context(), r.ID)
	if ok, err := target.discard(t.Context(), r.ID); err != nil || !ok {
		t.Fatal(ok, err)
	}
	j := withCode(target, job(target, "cat main.txt"), "one")
	h := submit(t, target, j)
	engine.Eventually(t, waitLimit, "the job counts as not started", func() bool {
		s, err := target.Status(t.Context(), []compute.Handle{h})
		return err == nil && s[0].Phase == compute.Missing && s[0].Reason != nil && s[0].Reason.Code == compute.NotStarted
	})
	submit(t, target, j)
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v %v", x, x.Problem)
	}
	if got := logOf(t, target, h); got != "one\n" {
		t.Errorf("log: %q", got)
	}
	if got := stores(t, target); slices.Contains(got, old) && len(got) < 2 {
		t.Errorf("stores: %v", got)
	}
}

// fullStoreIsFollowed pretends that a store is full.
func fullStoreIsFollowed(t *testing.T, b bench) {
	target := b.attach(t, nil)
	sees(t, target, "one")
	old := stores(t, target)[0]
	target.objects.mu.Lock()
	target.objects.size = storeLimit
	target.objects.mu.Unlock()
	running := withCode(target, job(target, "cat main.txt; sleep 60"), "one")
	h := submit(t, target, running)
	until(t, target, h, compute.Running)
	if got := stores(t, target); len(got) != 2 { // the first job's container has the old one
		t.Errorf("stores: %v", got)
	}
	sees(t, target, "two")
	boxes, _, err := target.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, box := range boxes {
		if key != h.Key.String() {
			target.stopped(t.Context(), box.id)
			if ok, err := target.discard(t.Context(), box.id); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
	}
	target.objects.mu.Lock()
	target.objects.size = storeLimit
	target.objects.mu.Unlock()
	sees(t, target, "three")
	if got := stores(t, target); slices.Contains(got, old) {
		t.Errorf("the store that nobody uses any more is still there: %v", got)
	}
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Error(err)
	}
}

// manyAtOnce lets several jobs of an empty attachment send the same folder at the same time.
func manyAtOnce(t *testing.T, b bench) {
	target := b.attach(t, nil)
	other := b.attach(t, func(_ *Settings, env *compute.Env) { *env = target.env })
	line := "all"
	jobs := make([]compute.Job, 6)
	for i := range jobs {
		jobs[i] = withCode(target, job(target, "cat main.txt; find . -type f | wc -l"), line)
	}
	var wg sync.WaitGroup
	for i, j := range jobs {
		by := []*Target{target, other}[i%2]
		wg.Go(func() {
			if _, err := by.Submit(t.Context(), j); err != nil {
				t.Errorf("submit: %v", err)
			}
		})
	}
	wg.Wait()
	for _, j := range jobs {
		h := compute.Handle{Key: j.Key}
		if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
			t.Errorf("exit: %+v %v", x, x.Problem)
		} else if got := strings.Fields(logOf(t, target, h)); !slices.Equal(got, []string{line, "41"}) {
			t.Errorf("log: %q", got)
		}
	}
}
