package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// cancel leaves a tombstone and tells the supervisor, if there is one, to look.
func (a *agent) cancel(key string, epoch int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	lock, err := a.fence(epoch)
	if err != nil {
		return err
	}
	defer lock.release()
	return a.wish(key)
}

func (a *agent) wish(key string) error {
	dir := a.root.job(key)
	if exists(filepath.Join(dir, fileExit)) {
		return nil
	}
	made := os.Mkdir(dir, 0o700)
	if made != nil && !errors.Is(made, os.ErrExist) {
		return made
	}
	tomb := filepath.Join(dir, fileCanceled)
	if !exists(tomb) {
		if err := os.WriteFile(tomb, nil, 0o600); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
		if made == nil {
			if err := syncDir(a.root.jobs()); err != nil {
				return err
			}
			a.changed(key)
			return nil
		}
	}
	// A signal that means "look": should it come late, the same process may have another job by now.
	if err := signalSupervisor(dir, syscall.SIGHUP); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// signalSupervisor signals the process that the lock file names, if it is the same and holds the lock. A supervisor that
// has not written its name yet looks at the tombstone by itself.
func signalSupervisor(dir string, sig syscall.Signal) error {
	path := filepath.Join(dir, fileLockName)
	if held, err := lockHeld(path); err != nil || !held {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var h holder
	if err := json.Unmarshal(b, &h); err != nil || h.PID <= 1 {
		return nil
	}
	return signalProcess(h.PID, h.Start, sig)
}

// release removes a job's folder, when its supervisor is gone.
func (a *agent) release(ctx context.Context, key string, epoch int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	lock, err := a.fence(epoch)
	if err != nil {
		return err
	}
	defer lock.release()
	return a.discard(ctx, key)
}

func (a *agent) discard(ctx context.Context, key string) error {
	dir := a.root.job(key)
	s, err := statusOf(dir, key) // ends what a killed supervisor left
	if err != nil {
		return err
	}
	switch s.Phase {
	case Waiting, Preparing, Running:
		return fault(Internal, workspace.Problem{
			Class: workspace.Conflict, Code: "JobRunning", Message: "the job still runs, so its folder stays", Mend: "cancel it and wait for its end",
		})
	case Missing, Ended:
	}
	if !exists(dir) {
		return nil
	}
	own, err := a.waitLock(ctx, filepath.Join(dir, fileLockName))
	if err != nil {
		return err
	}
	defer own.release()
	// By another name first: half a folder must not look like a job.
	gone := a.root.job(".gone-" + randomMark())
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keepUntouched(a.root, filepath.Join(gone, dirCode))
	return removeTree(gone)
}

// waitLock takes the lock of a job that has ended. Its supervisor lets go within moments.
func (a *agent) waitLock(ctx context.Context, path string) (*fileLock, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := takeLock(path, exclusive, false)
		if err != nil || l != nil {
			return l, err
		}
		if ctx.Err() != nil || wait < 0 {
			return nil, context.Cause(ctx)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// removeTree removes a folder, also one whose subfolders a job made read-only.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// removeAll ends every job of the attachment and removes what was placed for it; the folder too, when nothing else is in it.
func (a *agent) removeAll(ctx context.Context) error {
	entries, err := os.ReadDir(a.root.jobs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var keys []string
	for _, e := range entries {
		if checkKey(e.Name()) == nil {
			keys = append(keys, e.Name())
			if err := a.wish(e.Name()); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, key := range keys {
		for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
			s, err := statusOf(a.root.job(key), key)
			if err != nil {
				return err
			}
			if s.Phase == Ended || s.Phase == Missing {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("keeper: job %s does not end", key)
			case <-time.After(wait):
			}
		}
		if err := a.discard(ctx, key); err != nil {
			return err
		}
	}
	a.dismiss()
	a.endSpares()
	removeSocket(a.root)
	if err := removeTree(a.root.path); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(a.root.path)) // stays if the server has other computes here
	return removeFolder(a.root.folder)
}

// removeFolder removes the machine-wide folder when no attachment is left in it. What is not known stays, and the folder then.
func removeFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	ours := map[string]bool{"slots": true, "bin": true, "machine-id": true}
	for _, e := range entries {
		if !ours[e.Name()] {
			return nil
		}
	}
	for name := range ours {
		if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	_ = os.Remove(folder)
	return nil
}
