package keeper

import (
	"os"

	"golang.org/x/sys/unix"
)

// drop gives back the disk space of what is over the limit. The size of the file stays, so every byte over is counted. It
// tells whether the file system can do it.
func drop(f *os.File, from, to int64) bool {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from) == nil
}
