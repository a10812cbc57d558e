package docker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
)

// Watch listens to the engine's events. The engine knows when a container starts and ends, and not when the command in
// it starts; a job that began is looked at until its command runs, less and less often.
func (t *Target) Watch(ctx context.Context, fn func(compute.Status)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := t.engine.Events(ctx, client.EventsListOptions{Filters: t.filter().Add("type", "container").Add("event", "start", "die", "create")})
	young := map[string]*youth{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case err, ok := <-r.Err:
			if !ok || err == nil {
				err = errors.New("the engine's events ended")
			}
			return t.failed(ctx, err)
		case m := <-r.Messages:
			key := m.Actor.Attributes[labelKey]
			if m.Action == "create" && m.Actor.Attributes[labelCanceled]+m.Actor.Attributes[labelExit]+m.Actor.Attributes[labelPulling] == "" {
				continue // it starts in a moment
			}
			delete(young, key)
			t.tell(ctx, key, fn, young)
		case <-timer.C:
			now := time.Now()
			for key, y := range young {
				if !y.at.After(now) {
					t.tell(ctx, key, fn, young)
				}
			}
		}
		timer.Reset(soonest(young))
	}
}

// youth is a job whose container runs and whose command does not.
type youth struct {
	phase compute.Phase
	wait  time.Duration
	at    time.Time // of the next look
}

const maxWait = 2 * time.Second

// tell looks at a job and tells of it if it is not as it was.
func (t *Target) tell(ctx context.Context, key string, fn func(compute.Status), young map[string]*youth) {
	k, ok := t.key(key)
	if !ok {
		return
	}
	b, found, err := t.find(ctx, k)
	if err != nil || !found && t.preparations.of(k) == nil {
		delete(young, key)
		return
	}
	s := t.unstarted(k, false)
	if found {
		s, err = t.status(ctx, b, k)
	}
	y := young[key]
	if err == nil && (y == nil || y.phase != s.Phase) {
		fn(s)
	}
	if err == nil && s.Phase != compute.Waiting && s.Phase != compute.Preparing {
		delete(young, key)
		return
	}
	if y == nil {
		y = &youth{wait: 10 * time.Millisecond}
		young[key] = y
	}
	y.phase, y.at = s.Phase, time.Now().Add(y.wait)
	y.wait = min(2*y.wait, maxWait)
}

func soonest(young map[string]*youth) time.Duration {
	d := time.Hour
	for _, y := range young {
		d = min(d, time.Until(y.at))
	}
	return max(d, 0)
}

// key reads a job's key as it stands in labels.
func (t *Target) key(text string) (compute.Key, bool) {
	job, attempt, ok := strings.Cut(text, ".")
	n, err := strconv.Atoi(attempt)
	return compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: job, Attempt: n}, ok && err == nil
}
