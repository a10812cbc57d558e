package docker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// A job whose image is not at the engine is accepted with a mark (note.go), and this process pulls the image and then
// starts the job. What only the submit knows, secrets above all, is kept nowhere else: after a crash the mark tells that
// the job was accepted and not started, and the submit that follows goes on with the pull where the engine has it.

// preparing is a job on its way to its container.
type preparing struct {
	pull *pull
	stop context.CancelFunc // ends the pull, unless another job wants it too
	done chan struct{}      // closed when nothing more is done for the job
}

// preparations are those of this process, by key.
type preparations struct {
	mu    sync.Mutex
	known map[string]*preparing
}

func (p *preparations) of(key compute.Key) *preparing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[key.String()]
}

func (p *preparations) put(key compute.Key, one *preparing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]*preparing{}
	}
	p.known[key.String()] = one
}

func (p *preparations) forget(key compute.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, key.String())
}

// end stops what is done for a job and waits until it is.
func (p *preparations) end(ctx context.Context, key compute.Key) {
	one := p.of(key)
	if one == nil {
		return
	}
	one.stop()
	one.wait(ctx)
}

func (p *preparing) wait(ctx context.Context) {
	select {
	case <-p.done:
	case <-ctx.Done():
	}
}

// almost tells whether the pull is over, and then waits for the moment's work that is left.
func (p *preparing) almost(ctx context.Context) bool {
	select {
	case <-p.pull.done:
		p.wait(ctx)
		return true
	default:
		return false
	}
}

// prepare accepts a job whose image is to be pulled first. The caller has the turn of the job's name.
func (t *Target) prepare(ctx context.Context, o order) error {
	job := o.job
	if _, err := t.mark(ctx, job, o.image); err != nil {
		return err
	}
	var login *compute.Login
	if job.Image != nil {
		login = job.Image.Login
	}
	mine, stop := context.WithCancel(t.ctx)
	one := &preparing{pull: t.pullImage(o.image, login), stop: stop, done: make(chan struct{})}
	t.preparations.put(job.Key, one)
	t.wg.Go(func() {
		defer close(one.done)
		defer t.preparations.forget(job.Key)
		defer stop()
		t.carry(mine, o, one.pull)
	})
	return nil
}

// othersLook is how often a job's name is looked at during a pull: another server may have cancelled it.
const othersLook = 5 * time.Second

// carry waits for the image and starts the job, or records why that cannot be. Where neither can be done, the mark stays
// and the job counts as not started, so that it is submitted again.
func (t *Target) carry(ctx context.Context, o order, p *pull) {
	job := o.job
	defer t.pulls.leave(p)
	tick := time.NewTicker(othersLook)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			waiting = false
		case <-tick.C:
			if _, taken, err := t.find(ctx, job.Key); err == nil && taken {
				_ = t.unmark(ctx, job.Key) // what is left of it goes with the job's release
				return
			}
		}
	}
	if ctx.Err() != nil {
		return
	}
	var err error
	if _, no := errors.AsType[refusal](p.err); no {
		err = t.bury(ctx, job, notPulled(o.image, p.err), p.log.all())
		if conflict(err) { // canceled, or taken up by another server
			err = nil
		}
	} else if err = p.err; err == nil {
		o.prepared = p.log.all()
		err = t.begin(ctx, o)
	}
	if err == nil {
		err = t.unmark(ctx, job.Key)
	}
	if err != nil && ctx.Err() == nil {
		t.env.Log.WarnContext(ctx, "a job whose image was pulled is handed back, to be submitted again", "job", job.Key.String(), "error", err)
	}
}

// begin starts a job whose image has come. Another that has the name keeps it.
func (t *Target) begin(ctx context.Context, o order) error {
	done, err := t.turns.Take(ctx, t.name(o.job.Key))
	if err != nil {
		return err
	}
	defer done()
	there, err := t.fence(ctx, o.job.Epoch)
	if err != nil {
		return err
	}
	started, err := t.try(ctx, o, there)
	if err != nil || started {
		return err
	}
	if _, taken, err := t.find(ctx, o.job.Key); err != nil || taken {
		return err
	}
	return t.busy(o.job.Key)
}
