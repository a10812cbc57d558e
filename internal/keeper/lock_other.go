//go:build !linux

package keeper

import (
	"errors"
	"os"
	"syscall"
)

// fileLock is a lock on a file that the kernel releases when the last process that holds the open file ends.
type fileLock struct{ f *os.File }

type lockMode int

const (
	shared    lockMode = syscall.LOCK_SH
	exclusive lockMode = syscall.LOCK_EX
)

// takeLock opens or makes the file and locks it. Without wait it returns nil, nil if another holds it.
func takeLock(path string, mode lockMode, wait bool) (*fileLock, error) {
	f, err := openFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := lockFile(f, mode, wait)
	if err != nil || !ok {
		_ = f.Close()
		return nil, err
	}
	return &fileLock{f}, nil
}

// lockFile locks an open file, and tells whether it did.
func lockFile(f *os.File, mode lockMode, wait bool) (bool, error) {
	how := int(mode)
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return false, os.NewSyscallError("flock", err)
		}
	}
}

// release unlocks first and closes then, so that a watcher of the closing finds it unlocked.
func (l *fileLock) release() {
	_ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN)
	_ = l.f.Close()
}

// lockHeld tells whether any process holds a lock on the file. A file that is not there is not locked.
func lockHeld(path string) (bool, error) {
	f, err := openFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	ok, err := lockFile(f, shared, false)
	return !ok && err == nil, err
}

// unlock lets go of a lock and keeps the file open.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
