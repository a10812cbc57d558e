package keeper

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// allotment is a slot and the GPUs that go with it. They are locks on files, so they are free again when this process ends,
// however it ends.
type allotment struct {
	locks []*os.File
	gpus  []string
}

// release gives everything back. Nil: nothing.
func (a *allotment) release() {
	if a == nil {
		return
	}
	for _, f := range a.locks {
		(&fileLock{f}).release()
	}
	a.locks = nil
}

// showWaiting is how long a job may queue before it is worth telling.
const showWaiting = 50 * time.Millisecond

// allot waits for a slot and as many GPUs as the job wants. Jobs get their turn in the order in which they
// came to the queue: only the first looks for room, so a job that wants many GPUs is not overtaken for ever.
func allot(ctx context.Context, r root, turn *place, spec specRecord, waits func(*workspace.Problem)) (*allotment, error) {
	defer turn.leave()
	dir := r.slots()
	late := time.AfterFunc(showWaiting, func() { waits(waitReason(spec, "other jobs wait before it")) })
	err := turn.wait(ctx)
	late.Stop()
	if err != nil {
		return nil, err
	}
	var slots, gpus []*os.File
	defer func() { closeAll(slots, gpus) }()
	if slots, err = openAll(dir, "slot-", count(spec.Slots)); err != nil {
		return nil, err
	}
	if spec.Job.GPUs > 0 {
		if gpus, err = openAll(dir, "gpu-", spec.GPUs); err != nil {
			return nil, err
		}
	}
	got, err := grab(slots, gpus, spec)
	if err != nil || got != nil {
		return got, err
	}
	late = time.AfterFunc(showWaiting, func() { waits(waitReason(spec, "all that it needs is in use")) })
	defer late.Stop()
	return waitRoom(ctx, dir, slots, gpus, spec)
}

// Looks after a file was closed: the kernel tells of it before the lock of a killed process is gone.
var afterClose = []time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond}

func waitRoom(ctx context.Context, dir string, slots, gpus []*os.File, spec specRecord) (*allotment, error) {
	notes := newNotifier()
	defer notes.close()
	told, stop := notes.watch(dir)
	defer stop()
	slow := time.NewTicker(slowLook)
	defer slow.Stop()
	look := 0
	for {
		if got, err := grab(slots, gpus, spec); err != nil || got != nil {
			return got, err
		}
		var again <-chan time.Time
		if look < len(afterClose) {
			again = time.After(afterClose[look])
			look++
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-told:
			look = 0
		case <-again:
		case <-slow.C:
		}
	}
}

// grab locks one slot and the GPUs, or nothing. A file that was locked leaves its slice's ownership by becoming nil.
func grab(slots, gpus []*os.File, spec specRecord) (*allotment, error) {
	got := &allotment{}
	ok, err := got.take(slots, nil, 1)
	if ok && err == nil && spec.Job.GPUs > 0 {
		ok, err = got.take(gpus, spec.GPUs, spec.Job.GPUs)
	}
	if err == nil && ok {
		for _, files := range [][]*os.File{slots, gpus} {
			for i, f := range files {
				for _, held := range got.locks {
					if f == held {
						files[i] = nil
					}
				}
			}
		}
		return got, nil
	}
	for _, f := range got.locks {
		if err := unlock(f); err != nil {
			return nil, err
		}
	}
	return nil, err
}

func (a *allotment) take(files []*os.File, names []string, n int) (bool, error) {
	for i, f := range files {
		if n == 0 {
			break
		}
		ok, err := lockFile(f, exclusive, false)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		a.locks = append(a.locks, f)
		if names != nil {
			a.gpus = append(a.gpus, names[i])
		}
		n--
	}
	return n == 0, nil
}

func count(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}

func openAll(dir, prefix string, names []string) ([]*os.File, error) {
	var out []*os.File
	for _, n := range names {
		f, err := openFile(filepath.Join(dir, prefix+n), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func closeAll(files ...[]*os.File) {
	for _, fs := range files {
		for _, f := range fs {
			if f != nil {
				_ = f.Close()
			}
		}
	}
}

func waitReason(spec specRecord, cause string) *workspace.Problem {
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "WaitingForSlot", Warning: true,
		Message: fmt.Sprintf("the job waits for one of %d slots of the target", spec.Slots), Cause: cause,
		Mend: "nothing needs doing; more slots can be set in the compute's settings",
	}
	if n := spec.Job.GPUs; n > 0 {
		p.Code, p.Message = "WaitingForGPU", fmt.Sprintf("the job waits for a slot and %d of %d GPUs of the target", n, len(spec.GPUs))
	}
	return p
}
