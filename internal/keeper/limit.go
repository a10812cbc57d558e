package keeper

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// limiter keeps a log within its limit without standing between the job and its file: the job writes on at full speed,
// what is over the limit loses its disk space every second, and readers do not see it. At the end the file is cut and a
// line in it says how much was dropped. On a file system that cannot free a part of a file it is cut while it grows; bytes
// written at that very moment are then not counted.
type limiter struct {
	f     *os.File
	limit int64 // of the file at the end
	kept  int64 // of the job's own bytes, if there are more than limit
	stop  chan struct{}
	wg    sync.WaitGroup
	freed int64 // up to here
	cut   int64 // bytes that were cut off while it grew
}

// lastLine is the room that the line about dropped bytes has within the limit.
const lastLine = 128

func keptOf(limit int64) int64 { return max(limit-lastLine, limit/2) }

const limitLook = time.Second

func newLimiter(path string, limit int64) *limiter {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	l := &limiter{f: f, limit: limit, kept: keptOf(limit), stop: make(chan struct{}), freed: limit}
	if err != nil {
		l.f = nil
		return l
	}
	l.wg.Go(func() {
		tick := time.NewTicker(limitLook)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				l.look()
			}
		}
	})
	return l
}

func (l *limiter) look() {
	info, err := l.f.Stat()
	if err != nil || info.Size() <= l.freed {
		return
	}
	if drop(l.f, l.kept, info.Size()) {
		l.freed = info.Size()
		return
	}
	l.cut += info.Size() - l.kept
	_ = l.f.Truncate(l.kept)
}

// finish cuts the log when nothing writes to it any more, and returns its size and how many bytes were dropped.
func (l *limiter) finish() (size, dropped int64) {
	if l.f == nil {
		return 0, 0
	}
	defer func() { _ = l.f.Close() }()
	close(l.stop)
	l.wg.Wait()
	info, err := l.f.Stat()
	if err != nil {
		return 0, l.cut
	}
	size, dropped = info.Size(), l.cut
	if size <= l.limit && dropped == 0 {
		return size, 0
	}
	dropped += max(0, size-l.kept)
	if l.f.Truncate(l.kept) == nil {
		size = min(size, l.kept)
	}
	line := fmt.Sprintf("\n[moorage: the log is over its limit of %d bytes; %d were dropped here]\n", l.limit, dropped)
	n, _ := l.f.WriteString(line[:min(int64(len(line)), l.limit-l.kept)])
	return size + int64(n), dropped
}
