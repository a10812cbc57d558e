package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// prepareFile is where the supervisor writes the log of preparing.
var prepareFile, _ = keeper.LogFile("prepare") // never fails for a stream that there is

// Notes are containers of the empty image that are never started. They keep at the engine what is known of a key:
//
//	tombstone   has the job's own name: canceled, or failed before its container could be made. Nothing can take that name
//	mark        has a name beside it: the job was accepted, and its image is being pulled. Who pulls it is in no record:
//	            the process that does knows, and with no such process a submit takes it up again

// tombstone makes the container that keeps a key from ever being started, because of a cancel.
func (t *Target) tombstone(ctx context.Context, key compute.Key, epoch int64) error {
	_, err := t.note(ctx, t.name(key), key, map[string]string{labelEpoch: strconv.FormatInt(epoch, 10), labelCanceled: "1"})
	return err
}

// mark makes the mark of a job whose image is pulled, in place of one that was left by another process.
func (t *Target) mark(ctx context.Context, job compute.Job, image string) (string, error) {
	for range tries {
		id, err := t.note(ctx, t.markName(job.Key), job.Key, map[string]string{
			labelName: job.Name, labelEpoch: strconv.FormatInt(job.Epoch, 10), labelPulling: image,
		})
		if !conflict(err) {
			return id, t.failed(ctx, err)
		}
		if err := t.unmark(ctx, job.Key); err != nil {
			return "", err
		}
	}
	return "", t.busy(job.Key)
}

// unmark removes the mark of a key. None: nil.
func (t *Target) unmark(ctx context.Context, key compute.Key) error {
	_, err := t.discard(ctx, t.markName(key))
	return err
}

// note makes a container that is never started.
func (t *Target) note(ctx context.Context, name string, key compute.Key, labels map[string]string) (string, error) {
	maps.Copy(labels, t.labels())
	labels[labelKey] = key.String()
	o := client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: emptyImage, Labels: labels, Entrypoint: []string{"/nothing"}, Cmd: []string{}},
		HostConfig: &container.HostConfig{NetworkMode: "none"},
	}
	r, err := t.engine.ContainerCreate(ctx, o)
	if gone(err) {
		if err = t.makeEmpty(ctx); err == nil {
			r, err = t.engine.ContainerCreate(ctx, o)
		}
	}
	return r.ID, err
}

// bury records that a job failed before its container could be made, with the log of its preparing.
func (t *Target) bury(ctx context.Context, job compute.Job, p workspace.Problem, log []byte) error {
	x, err := json.Marshal(compute.Exit{Outcome: compute.Failed, Code: -1, Problem: &p, Ended: t.env.Clock.Now().UTC()})
	if err != nil {
		return err
	}
	id, err := t.note(ctx, t.name(job.Key), job.Key, map[string]string{
		labelName: job.Name, labelEpoch: strconv.FormatInt(job.Epoch, 10), labelExit: string(x),
	})
	if err != nil {
		return err
	}
	return t.write(ctx, id, t.layout(job.Key), map[string][]byte{prepareFile: log})
}

// write puts files into the job's folder of a container that does not run. Folders that are volumes are left alone.
func (t *Target) write(ctx context.Context, id string, l keeper.Layout, files map[string][]byte) error {
	var text bytes.Buffer
	a := newArchive(&text)
	a.seen[l.ObjectFolder()], a.seen[l.EnvFolder()] = true, true
	err := a.folders(l.Folders()...)
	for name, content := range files {
		err = errors.Join(err, a.file(path.Join(l.Dir(), name), 0o600, int64(len(content)), bytes.NewReader(content)))
	}
	if err := errors.Join(err, a.Close()); err != nil {
		return err
	}
	_, err = t.engine.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/", Content: &text})
	return err
}

// verdict is the end that a note tells of; nil if it tells of none.
func (b box) verdict() *compute.Exit {
	if b.canceled() {
		return &compute.Exit{Outcome: compute.Canceled, Code: -1, Ended: time.Unix(b.created, 0).UTC()}
	}
	text := b.labels[labelExit]
	if text == "" {
		return nil
	}
	x := &compute.Exit{}
	if err := json.Unmarshal([]byte(text), x); err != nil {
		return &compute.Exit{Outcome: compute.Lost, Code: -1, Ended: time.Unix(b.created, 0).UTC(), Problem: &workspace.Problem{
			Code: "RecordUnreadable", Message: "the record of how the job ended cannot be read", Cause: err.Error(), Mend: "submit the job again",
		}}
	}
	return x
}
