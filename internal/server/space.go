package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Size is a number of bytes, written as "500MB", "2 GB" or a plain number. 0 is the default, and "none" is -1.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}, {"", 1}}

// Set reads a size; with String and Type it is a flag.
func (s *Size) Set(text string) error {
	text = strings.ToUpper(strings.TrimSpace(text))
	if text == "NONE" {
		*s = -1
		return nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size like 500MB", text)
}

// String writes the size as Set reads it.
func (s *Size) String() string {
	switch {
	case *s < 0:
		return "none"
	case *s == 0:
		return ""
	}
	for _, u := range units {
		if int64(*s)%u.bytes == 0 {
			return strconv.FormatInt(int64(*s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type names it in help.
func (s *Size) Type() string { return "size" }

// UnmarshalText reads it from YAML.
func (s *Size) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// space watches the disks that the server fills. Below the low-water mark new work is refused first, so that what runs
// can still bring its outputs home.
type space struct {
	folders []string
	min     Size
	now     func() time.Time
	log     *slog.Logger

	mu      sync.Mutex
	checked time.Time
	low     *workspace.Problem // nil: there is room
}

const (
	defaultMinFree = 500e6
	// stale is how old an answer about the disk may be.
	stale = time.Second
)

// room is nil, or a Problem DiskLow.
func (s *space) room() error {
	if s.min < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.checked) >= stale || now.Before(s.checked) {
		s.checked = now
		s.look()
	}
	if s.low == nil {
		return nil
	}
	return s.low
}

func (s *space) look() {
	was := s.low
	s.low = nil
	for _, folder := range s.folders {
		var st syscall.Statfs_t
		if syscall.Statfs(folder, &st) != nil {
			continue // whoever writes there will say what is wrong
		}
		free, all := int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize) //nolint:unconvert // other widths elsewhere
		least := int64(s.min)
		if least == 0 {
			least = min(defaultMinFree, all/10)
		}
		if free < least {
			s.low = &workspace.Problem{
				Class: workspace.Unavailable, Code: "DiskLow", Target: folder, Message: "the server's disk is nearly full, so it takes no new work",
				Cause: fmt.Sprintf("%d MB are free in %s, and min_free asks for %d MB", free/1e6, folder, least/1e6),
				Mend:  "make room there, e.g. with moorage gc, or lower min_free; what runs goes on",
			}
		}
	}
	if (was == nil) != (s.low == nil) {
		if s.low != nil {
			s.log.Warn("new work is refused until there is room on the disk", "problem", s.low)
		} else {
			s.log.Info("there is room on the disk again")
		}
	}
}

// roomyStore takes new blobs only while there is room. It is the one that clients write to.
type roomyStore struct {
	blob.Store
	space *space
}

// Put refuses when the disk is low.
func (r roomyStore) Put(ctx context.Context, name string, content io.Reader, size int64, meta blob.Meta) (blob.Info, error) {
	if err := r.space.room(); err != nil {
		return blob.Info{}, err
	}
	return r.Store.Put(ctx, name, content, size, meta)
}

// roomyObjects takes new objects of snapshots only while there is room.
type roomyObjects struct {
	*blob.CAS
	space *space
}

// Put refuses when the disk is low.
func (r roomyObjects) Put(ctx context.Context, hash snapshot.Hash, content io.Reader, size int64) error {
	if err := r.space.room(); err != nil {
		return err
	}
	return r.CAS.Put(ctx, hash, content, size)
}
