package compute

import (
	"errors"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// What a target's error means, and what follows from it.
var (
	ErrUnreachable  = errors.New("compute: unreachable")                // try again; never fails a job before the policy unreachable_after
	ErrThrottled    = errors.New("compute: throttled")                  // try again after the time that After tells
	ErrFull         = errors.New("compute: no room")                    // stays queued, with the reason shown
	ErrInvalid      = errors.New("compute: invalid")                    // will never succeed
	ErrDenied       = errors.New("compute: denied")                     // a person must act; the compute turns unhealthy
	ErrNotFound     = errors.New("compute: not found")                  // a verdict, on an authoritative answer
	ErrStale        = errors.New("compute: by a stale lease")           // another server holds the compute; drop the result
	ErrNotSupported = errors.New("compute: not supported by this kind") // a limit of the kind
)

// Error is a target's error: a sentinel of this package, and what a person should know.
type Error struct {
	Kind    error // one of the sentinels
	Problem workspace.Problem
	After   time.Duration // for ErrThrottled
	Err     error         // what was underneath, for logs; may be nil
}

// Error is the problem's text.
func (e *Error) Error() string { return e.Problem.Error() }

// Unwrap lets errors.Is find the sentinel, the problem and what was underneath.
func (e *Error) Unwrap() []error {
	errs := []error{e.Kind, &e.Problem}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
