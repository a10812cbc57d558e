package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	atOnce    = 8        // containers looked into at the same time
	maxRecord = 16 << 20 // bytes
)

// Status lists the attachment's containers in one call, and looks into those whose records are not known for good: the
// ones under way, of which there are about as many as slots, and each that ended once.
func (t *Target) Status(ctx context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	boxes, marks, err := t.list(ctx)
	if err != nil {
		return nil, err
	}
	t.records.keep(boxes)
	out := make([]compute.Status, len(jobs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, h := range jobs {
		b, ok := boxes[h.Key.String()]
		if !ok || b.made() && b.verdict() == nil {
			_, marked := marks[h.Key.String()]
			out[i] = t.unstarted(h.Key, ok || marked)
			continue
		}
		if b.alive() && b.labels[labelWayBack] != "" {
			t.link(b.id)
		}
		g.Go(func() (err error) {
			out[i], err = t.status(gctx, b, h.Key)
			return err
		})
	}
	return out, g.Wait()
}

// unstarted is how a job is of which no container ever ran.
func (t *Target) unstarted(key compute.Key, known bool) compute.Status {
	s := compute.Status{Key: key, Phase: compute.Missing}
	switch {
	case t.preparations.of(key) != nil:
		s.Phase = compute.Preparing
	case known:
		s.Reason = notStarted()
	}
	return s
}

func notStarted() *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unavailable, Code: compute.NotStarted, Message: "the job was accepted and never started, and nothing is left to start it",
		Cause: "the server ended, or the container was stopped, before its command began", Mend: "it is submitted again",
	}
}

// status reads how the job of a container is.
func (t *Target) status(ctx context.Context, b box, key compute.Key) (compute.Status, error) {
	s := compute.Status{Key: key, Phase: compute.Missing}
	if x := b.verdict(); x != nil {
		s.Phase, s.Exit = compute.Ended, x
		return s, nil
	}
	if b.made() {
		return t.unstarted(key, true), nil
	}
	known, ok := t.records.of(b.id)
	dir := t.layout(key).Dir()
	if !ok {
		read, err := t.reading(ctx, b, key)
		if err != nil {
			return s, t.failed(ctx, err)
		}
		known = kept.Status(key, read)
		if known.Phase == compute.Missing { // it ended before its command began: a submit starts it
			known.Reason = notStarted()
		}
		if x := known.Exit; x != nil && x.Ended.IsZero() {
			if err := t.explain(ctx, b.id, x); err != nil {
				return s, err
			}
		}
		b.nameLimit(known.Exit)
		t.records.put(b.id, known)
	}
	known.Key = key
	if known.Phase == compute.Running {
		r, err := t.engine.ContainerStatPath(ctx, b.id, client.ContainerStatPathOptions{Path: path.Join(dir, "log")})
		if err == nil {
			known.LogSize = r.Stat.Size
		} else if !gone(err) {
			return s, t.failed(ctx, err)
		}
	}
	return known, nil
}

// reading is what the supervisor told of itself: one cheap call, where reading a file out of a container is a dear one.
// Files are read when a container ended and did not tell how.
func (t *Target) reading(ctx context.Context, b box, key compute.Key) (keeper.Status, error) {
	told, err := t.told(ctx, b.id)
	if err != nil {
		return keeper.Status{}, err
	}
	if told[keeper.LostFile] != nil {
		t.objects.distrust(b.labels[labelStore])
	}
	dir := t.layout(key).Dir()
	whole := told[keeper.ExitFile] != nil || b.alive()
	return keeper.Reading(key.String(), b.alive(), func(name string) ([]byte, error) {
		if text, ok := told[name]; ok {
			return text, nil
		}
		if whole {
			return nil, fs.ErrNotExist
		}
		return t.read(ctx, b.id, path.Join(dir, name))
	})
}

// told reads what the supervisor printed.
func (t *Target) told(ctx context.Context, id string) (map[string][]byte, error) {
	r, err := t.engine.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true})
	if gone(err) || conflict(err) { // or it is being removed
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, io.LimitReader(r, maxRecord)); err != nil {
		return nil, err
	}
	return keeper.Told(out.Bytes()), nil
}

// explain completes an end of which the supervisor left no record.
func (t *Target) explain(ctx context.Context, id string, x *compute.Exit) error {
	r, err := t.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || r.Container.State == nil {
		return t.failed(ctx, err)
	}
	st := r.Container.State
	if at, err := time.Parse(time.RFC3339Nano, st.FinishedAt); err == nil {
		x.Ended = at.UTC()
	}
	if x.Outcome != compute.Lost {
		return nil
	}
	x.Problem = &workspace.Problem{
		Code: "ContainerEnded", Message: "the job's container ended and left no record, so how the command ended is not known",
		Cause: strings.TrimSpace(fmt.Sprintf("the engine says exit code %d %s", st.ExitCode, st.Error)),
		Mend:  "look for who stops containers at that engine (docker stop, a restart of the engine or the machine), then submit the job again",
	}
	if st.OOMKilled { // the supervisor too, or it would have told
		x.Outcome, x.Code, x.Signal = compute.Failed, 137, "KILL"
		x.Problem = &workspace.Problem{
			Code: outOfMemory, Message: "the job's container ran out of memory, so it was ended with exit code 137",
			Mend: "let the job use less memory, or give it more: resources of the job, and memory of the engine's machine",
		}
	}
	return nil
}

// outOfMemory is the code of the problem of a command that the kernel ended for want of memory, as the keeper has it.
const outOfMemory = "OutOfMemory"

// nameLimit says which limit it was that memory ran out at.
func (b box) nameLimit(x *compute.Exit) {
	limit, err := strconv.ParseInt(b.labels[labelMemory], 10, 64)
	if x == nil || x.Problem == nil || x.Problem.Code != outOfMemory || err != nil {
		return
	}
	x.Problem.Cause = fmt.Sprintf("its memory limit is %d MiB, and the kernel killed a process that went over it", limit>>20)
}

// read gives the content of a file in a container, running or not. fs.ErrNotExist if there is none.
func (t *Target) read(ctx context.Context, id, name string) ([]byte, error) {
	r, err := t.stream(ctx, id, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, maxRecord))
}

// stream gives a file out of a container.
func (t *Target) stream(ctx context.Context, id, name string) (io.ReadCloser, error) {
	r, err := t.engine.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: name})
	if gone(err) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	in := tar.NewReader(r.Content)
	h, err := in.Next()
	if err == nil && h.Typeflag != tar.TypeReg {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = r.Content.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{in, r.Content}, nil
}

// records are the ends that were read. They never change.
type records struct {
	mu    sync.Mutex
	known map[string]compute.Status // by container
}

func (r *records) of(id string) (compute.Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.known[id]
	return s, ok
}

func (r *records) put(id string, s compute.Status) {
	if s.Phase != compute.Ended {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]compute.Status{}
	}
	r.known[id] = s
}

func (r *records) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, id)
}

// keep forgets containers that are no more.
func (r *records) keep(boxes map[string]box) {
	there := make(map[string]bool, len(boxes))
	for _, b := range boxes {
		there[b.id] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.known {
		if !there[id] {
			delete(r.known, id)
		}
	}
}
