package keeper

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier tells of changes in folders by inotify, with one instance for all of them, because a login may have few. Where
// there is none it tells nothing, and those who wait rely on their slow look.
type notifier struct {
	f *os.File

	mu      sync.Mutex
	watches map[uint32]map[chan struct{}]bool
}

const notifyMask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF

func newNotifier() *notifier {
	n := &notifier{watches: map[uint32]map[chan struct{}]bool{}}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return n
	}
	n.f = os.NewFile(uintptr(fd), "inotify")
	go n.run() // ends when closed
	return n
}

// close does not wait: the kernel closes an inotify instance only after a grace period of many milliseconds.
func (n *notifier) close() {
	if n.f != nil {
		go func() { _ = n.f.Close() }() // ends after that period
	}
}

// watch gives a channel that holds a token when something changed in the folder since it was last read.
func (n *notifier) watch(dir string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	if n.f == nil {
		return ch, func() {}
	}
	conn, err := n.f.SyscallConn()
	if err != nil {
		return ch, func() {}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	wd := -1
	_ = conn.Control(func(fd uintptr) {
		if d, err := unix.InotifyAddWatch(int(fd), dir, notifyMask); err == nil {
			wd = d
		}
	})
	if wd < 0 {
		return ch, func() {}
	}
	key := uint32(wd)
	if n.watches[key] == nil {
		n.watches[key] = map[chan struct{}]bool{}
	}
	n.watches[key][ch] = true
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watches[key], ch)
		if len(n.watches[key]) == 0 {
			delete(n.watches, key)
			_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), key) })
		}
	}
}

func (n *notifier) run() {
	buf := make([]byte, 16<<10)
	for {
		m, err := n.f.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:m]; len(b) >= unix.SizeofInotifyEvent; {
			wd := binary.NativeEndian.Uint32(b)
			mask := binary.NativeEndian.Uint32(b[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			b = b[min(size, len(b)):]
			n.tell(wd, mask&unix.IN_Q_OVERFLOW != 0)
		}
	}
}

func (n *notifier) tell(wd uint32, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, chans := range n.watches {
		if key != wd && !all {
			continue
		}
		for ch := range chans {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
}
