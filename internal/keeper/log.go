package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// slowLook is how often a follower looks without having been told, for file systems that tell nothing.
const slowLook = 500 * time.Millisecond

// logs streams a job's log, and with follow what is added until the job has ended.
func (a *agent) logs(ctx context.Context, st *yamux.Stream, r request) {
	name, err := logFile(r)
	var s Status
	if err == nil {
		s, err = statusOf(a.root.job(r.Key), r.Key)
	}
	if err == nil && s.Phase == Missing {
		err = fault(NotFound, workspace.Problem{
			Class: workspace.NotFound, Code: "JobNotFound", Message: "the target does not know the job, so it has no log of it", Target: r.Key,
		})
	}
	if err != nil {
		_ = writeFrame(st, answer{Fault: asFault(err)})
		return
	}
	if err := writeFrame(st, answer{}); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends when the client closes the stream, which it does in any case
		_, _ = io.Copy(io.Discard, st)
		cancel()
	}()
	f := follower{dir: a.root.job(r.Key), key: r.Key, name: name, next: r.From, to: st}
	defer f.close()
	if r.Follow {
		err = f.follow(ctx, a.notes)
	} else {
		err = f.pass()
	}
	if err := writeData(st, nil); err != nil {
		return
	}
	_ = writeFrame(st, answer{Next: f.next, Fault: asFault(err)})
}

func logFile(r request) (string, error) {
	if err := checkKey(r.Key); err != nil {
		return "", err
	}
	if r.From < 0 {
		return "", fault(Invalid, workspace.Problem{Class: workspace.Invalid, Code: "InvalidOffset", Message: fmt.Sprintf("%d is not an offset in a log", r.From)})
	}
	switch r.Stream {
	case "":
		return fileLog, nil
	case "prepare":
		return filePrepare, nil
	}
	return "", fault(Invalid, workspace.Problem{Class: workspace.Invalid, Code: "UnknownStream", Message: fmt.Sprintf("a job has no log stream %.40q", r.Stream), Mend: `ask for "" or "prepare"`})
}

// follower reads a growing log. It holds one buffer however fast the log grows.
type follower struct {
	dir, key, name string
	next           int64
	to             io.Writer
	f              *os.File
	limit          int64
	buf            []byte
}

func (f *follower) close() {
	if f.f != nil {
		_ = f.f.Close()
	}
}

func (f *follower) follow(ctx context.Context, notes *notifier) error {
	told, stop := notes.watch(f.dir)
	defer stop()
	tick := time.NewTicker(slowLook)
	defer tick.Stop()
	for slow := true; ; {
		done, err := f.over(slow)
		if err != nil {
			return err
		}
		if err := f.pass(); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-told:
			slow = false
		case <-tick.C:
			slow = true
		}
	}
}

// over tells whether the log is complete. A slow look also finds that a supervisor was killed.
func (f *follower) over(slow bool) (bool, error) {
	if exists(filepath.Join(f.dir, fileExit)) {
		return true, nil
	}
	if f.name == filePrepare && exists(filepath.Join(f.dir, fileStarted)) {
		return true, nil
	}
	if !slow {
		return false, nil
	}
	s, err := statusOf(f.dir, f.key)
	return s.Phase == Ended || s.Phase == Missing, err
}

// pass writes what is there.
func (f *follower) pass() error {
	if f.f == nil {
		file, err := os.Open(filepath.Join(f.dir, f.name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		f.f, f.buf = file, make([]byte, dataFrame)
	}
	end, err := f.end()
	if err != nil {
		return err
	}
	for f.next < end {
		n, err := f.f.ReadAt(f.buf[:min(int64(len(f.buf)), end-f.next)], f.next)
		if n > 0 {
			if err := writeData(f.to, f.buf[:n]); err != nil {
				return err
			}
			f.next += int64(n)
		}
		if err == io.EOF || n == 0 && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end is how far the log may be read. While the job runs, what is over the limit is about to be dropped.
func (f *follower) end() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if f.name != fileLog || exists(filepath.Join(f.dir, fileExit)) {
		return size, nil
	}
	if f.limit == 0 {
		var spec specRecord
		if err := readRecord(f.dir, fileSpec, &spec); err != nil {
			return 0, err
		}
		f.limit = keptOf(spec.Job.logLimit())
	}
	return min(size, f.limit), nil
}
