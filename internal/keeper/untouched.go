package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// A job without code often leaves its working directory as it got it. Such directories are handed on: a rename is much
// cheaper than making three folders and removing them, most of all where the file system does not use an inode again soon.

// mostUntouched is how many wait for a job.
const mostUntouched = 8

func (r root) untouched(n int) string { return filepath.Join(r.file("untouched"), strconv.Itoa(n)) }

// keepUntouched takes a working directory away if it is as it was made.
func keepUntouched(r root, dir string) {
	if !untouched(dir, promised) {
		return
	}
	for n := range mostUntouched {
		err := os.Rename(dir, r.untouched(n)) // fails where one is, for it is not empty
		if errors.Is(err, fs.ErrNotExist) && os.Mkdir(r.file("untouched"), 0o700) == nil {
			err = os.Rename(dir, r.untouched(n))
		}
		if err == nil {
			return
		}
	}
}

// takeUntouched makes dir of a directory that was kept, if there is one. dir must not exist.
func takeUntouched(r root, dir string) bool {
	for n := range mostUntouched {
		if os.Rename(r.untouched(n), dir) == nil {
			return true
		}
	}
	return false
}

// untouched tells whether a folder is this login's, has the mode with which it was made, and holds these empty folders and
// nothing else.
func untouched(dir string, folders []string) bool {
	info, err := os.Lstat(dir)
	if err != nil || info.Mode() != fs.ModeDir|0o755 {
		return false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return false
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(folders) {
		return false
	}
	for _, e := range entries {
		if !slices.Contains(folders, e.Name()) || !untouched(filepath.Join(dir, e.Name()), nil) {
			return false
		}
	}
	return true
}
