package blob

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// scratches is where each process that has the folder open keeps the files that it is writing, in a folder of its own
// that it holds locked. Servers that share a PostgreSQL database share their blobs.
const scratches = "tmp"

// openScratch removes what ended processes left half written and makes this process's own folder. The lock ends with
// the process, however it ends.
func openScratch(root *os.Root) (name string, lock *os.File, err error) {
	if err := root.MkdirAll(scratches, 0o700); err != nil {
		return "", nil, err
	}
	if err := sweepScratches(root); err != nil {
		return "", nil, err
	}
	for {
		name := scratches + "/" + rand.Text()
		if err := root.Mkdir(name, 0o700); err != nil {
			return "", nil, err
		}
		lock, err := lockFolder(root, name)
		if err != nil {
			return "", nil, err
		}
		if lock != nil {
			if _, err := root.Stat(name); err == nil {
				return name, lock, nil
			}
			_ = lock.Close() // a process that starts at the same time took it for an old one
		}
	}
}

func sweepScratches(root *os.Root) error {
	d, err := root.Open(scratches)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, name := range names {
		name = scratches + "/" + name
		lock, err := lockFolder(root, name)
		if err != nil {
			return err
		}
		if lock == nil {
			continue // in use
		}
		if err := errors.Join(root.RemoveAll(name), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// lockFolder locks a folder, or a file. It is nil if another process has it or it is gone.
func lockFolder(root *os.Root, name string) (*os.File, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}
