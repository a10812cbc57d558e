package snapshot

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openQuietly opens a file to read without changing its time of access, which would be a write to the disk.
func openQuietly(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOATIME, 0)
	if os.IsPermission(err) { // only the owner may
		f, err = os.Open(path)
	}
	return f, err
}

// cloneOrCopy shares the content on a file system that can, else copies it in the kernel. It returns the size.
func cloneOrCopy(dst, src *os.File) (int64, error) {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		info, err := dst.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	return plainCopy(dst, src)
}

// becomeIdle lets this thread work only when no other wants the processor or the disk. What cannot be had is no error.
func becomeIdle() {
	const whoProcess, classIdle, classShift = 1, 3, 13 // linux/ioprio.h
	tid := unix.Gettid()
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), classIdle<<classShift)
}
