package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The queue for slots is a folder with one file a waiting supervisor, numbered in the order of their coming and locked by
// it. Each waits in the kernel for the lock of the one before it, so one is woken at a time, in order, and one that is
// killed leaves no gap.

type place struct {
	path   string
	number int
	lock   *fileLock
}

// leave lets the next one come to its turn.
func (p *place) leave() {
	_ = os.Remove(p.path)
	p.lock.release()
}

// placeFD is where a supervisor inherits its place. The agent takes it, so that the order of the queue is that in which
// jobs were handed over, and not that in which their supervisors got going.
const placeFD = 4

// placeOf is the place that the agent took and whose file it gave, or with 0 a new one.
func placeOf(dir string, number int, f *os.File) (*place, error) {
	if number == 0 {
		return lastPlace(dir)
	}
	if f == nil {
		syscall.CloseOnExec(placeFD)
		f = os.NewFile(placeFD, "place")
	}
	return &place{path: placePath(dir, number), number: number, lock: &fileLock{f}}, nil
}

// wait returns when the place has become the first. When ctx ends before, the process is about to end, and the waiting
// with it.
func (p *place) wait(ctx context.Context) error {
	dir := filepath.Dir(p.path)
	for {
		before, err := placeBefore(dir, p.number)
		if err != nil || before == "" {
			return err
		}
		f, err := openFile(before, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		l, err := waitLock(ctx, f)
		if err != nil {
			return err
		}
		_ = os.Remove(before) // if it was killed
		l.release()
	}
}

// waitLock locks an open file, and gives up when ctx ends; its goroutine then stays until the process ends.
func waitLock(ctx context.Context, f *os.File) (*fileLock, error) {
	ch := make(chan error, 1)
	go func() {
		_, err := lockFile(f, exclusive, true)
		ch <- err
	}()
	select {
	case err := <-ch:
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return &fileLock{f}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// lastPlace takes the place behind all others.
func lastPlace(dir string) (*place, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	door, err := takeLock(filepath.Join(dir, "door"), exclusive, true)
	if err != nil {
		return nil, err
	}
	defer door.release()
	all, err := places(dir)
	if err != nil {
		return nil, err
	}
	number := 1
	if len(all) > 0 {
		number = all[len(all)-1] + 1
	}
	path := placePath(dir, number)
	l, err := takeLock(path, exclusive, false)
	if err == nil && l == nil {
		err = fmt.Errorf("keeper: queue: %s is held", path)
	}
	return &place{path, number, l}, err
}

func placePath(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("wait-%d", number))
}

// places lists the numbers in use, ascending.
func places(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), "wait-"); ok {
			if n, err := strconv.Atoi(text); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// placeBefore is the file of the nearest place before a number, or nothing.
func placeBefore(dir string, number int) (string, error) {
	all, err := places(dir)
	if err != nil {
		return "", err
	}
	i, _ := slices.BinarySearch(all, number)
	if i == 0 {
		return "", nil
	}
	return placePath(dir, all[i-1]), nil
}
