// Package clock is the one door through which time, identity and chance come in, so that tests are exact.
// It is handed to whoever needs it at construction; nobody reads the machine's clock directly in code that decides.
package clock

import (
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Source gives the time, new ids and random bytes.
type Source struct {
	// Now is the current time, UTC.
	Now func() time.Time
	// Rand is a cryptographically strong source of bytes.
	Rand io.Reader

	order *order // of the ids of this process; nil: ids of one millisecond have none
}

// order makes ids rise that are made within one millisecond, so that a queue keeps the order of its coming.
type order struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// System reads the machine's clock and its random source.
func System() Source {
	return Source{Now: func() time.Time { return time.Now().UTC() }, Rand: rand.Reader, order: &order{entropy: ulid.Monotonic(rand.Reader, 0)}}
}

// NewID makes a ULID: 26 characters, sortable by the time of its making, unique without coordination. Those of one
// process that come from one System rise, also within one millisecond.
func (s Source) NewID() string {
	now := ulid.Timestamp(s.Now())
	if s.order != nil {
		s.order.mu.Lock()
		defer s.order.mu.Unlock()
		if id, err := ulid.New(now, s.order.entropy); err == nil { // else the millisecond has no more ids in order
			return id.String()
		}
	}
	return ulid.MustNew(now, s.Rand).String()
}

// FirstID is the smallest id that NewID makes at a time, a cursor for what was made before it.
func FirstID(t time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t)) // fails after the year 10889
	return id.String()
}

// Millis is the current time in milliseconds since the epoch, the form in which the store keeps times.
func (s Source) Millis() int64 { return s.Now().UnixMilli() }
