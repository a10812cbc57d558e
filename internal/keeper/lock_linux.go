package keeper

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fileLock is a lock on a file that the kernel releases when the last process that holds the open file ends. It is an
// open file description lock: unlike flock it can be asked about without being taken for a moment, so that asking never
// makes another's attempt fail; and it is inherited by a child that gets the file.
type fileLock struct{ f *os.File }

type lockMode int16

const (
	shared    lockMode = unix.F_RDLCK
	exclusive lockMode = unix.F_WRLCK
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
	cmd := unix.F_OFD_SETLK
	if wait {
		cmd = unix.F_OFD_SETLKW
	}
	for {
		err := unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: int16(mode), Whence: io.SeekStart})
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case !wait && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)):
			return false, nil
		default:
			return false, os.NewSyscallError("fcntl", err)
		}
	}
}

// release unlocks first and closes then, so that a watcher of the closing finds it unlocked.
func (l *fileLock) release() {
	_ = unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart})
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
	q := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &q); err != nil {
		return false, os.NewSyscallError("fcntl", err)
	}
	return q.Type != unix.F_UNLCK, nil
}

// unlock lets go of a lock and keeps the file open.
func unlock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart})
}
