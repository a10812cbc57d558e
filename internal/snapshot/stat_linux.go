package snapshot

import (
	"io/fs"
	"syscall"
)

func statOf(info fs.FileInfo) stat {
	s := stat{size: info.Size(), modified: info.ModTime().UnixNano()}
	if t, ok := info.Sys().(*syscall.Stat_t); ok {
		s.changed = t.Ctim.Nano()
		s.device, s.inode = uint64(t.Dev), t.Ino //nolint:unconvert // of another type on other architectures
	}
	return s
}
