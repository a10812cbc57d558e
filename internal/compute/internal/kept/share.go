package kept

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// Receiver takes outputs from a keeper's client. Err is the server's own failure to keep a file, which is not the target's.
type Receiver struct {
	Out compute.Outputs
	Err error
}

// Want tells whether this version of a file is not home yet.
func (r *Receiver) Want(f keeper.File) bool { return r.Out.Want(f.Output, toFile(f)) }

// Put brings one file home.
func (r *Receiver) Put(ctx context.Context, f keeper.File, from io.Reader) error {
	r.Err = r.Out.Put(ctx, f.Output, toFile(f), from)
	return r.Err
}

// Sink passes a log on. Err is the writer's own failure, which is not the target's.
type Sink struct {
	W   io.Writer
	Err error
}

func (s *Sink) Write(b []byte) (int, error) {
	n, err := s.W.Write(b)
	if err != nil {
		s.Err = err
	}
	return n, err
}

// look is how long Pause waits.
const look = 50 * time.Millisecond

// Pause waits before something is begun anew because another change came in between; not before the first time.
func Pause(ctx context.Context, again int) error {
	if again == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(look):
		return nil
	}
}

// Turns lets one at a time work on what has a name. The zero value is ready.
type Turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when free again
}

// Take waits for the name's turn and gives what ends it, or the cause of ctx's end.
func (t *Turns) Take(ctx context.Context, name string) (func(), error) {
	for {
		t.mu.Lock()
		free, ok := t.busy[name]
		if !ok {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, name)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
