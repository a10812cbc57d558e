package computetest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

func newLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func refusedIsDenied(x *exam) {
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	t, err := x.open(ctx, x.env, x.want)
	if err == nil {
		x.Cleanup(func() { _ = t.Close() })
		_, err = t.Probe(ctx)
	}
	if !errors.Is(err, compute.ErrDenied) {
		x.Fatalf("wrong credentials: %v", err)
	}
	if p := x.isProblem(err); p.Cause == "" {
		x.Errorf("it does not say what was refused: %+v", p)
	}
}

func unreachableAndMended(x *exam) {
	t := x.attach()
	x.Cleanup(func() { x.opts.Outage(x.T, x.want.Place, false) })
	h := x.submit(t, x.job("echo begun\nsleep 2\necho over"))
	x.begun(t, h)
	x.opts.Outage(x.T, x.want.Place, true)
	for range 2 {
		ctx, cancel := context.WithTimeout(x.Context(), patience)
		_, err := t.Status(ctx, []compute.Handle{h})
		cancel()
		if !errors.Is(err, compute.ErrUnreachable) {
			x.Fatalf("status of an unreachable target: %v", err)
		}
		x.isProblem(err)
	}
	if _, err := t.Submit(x.Context(), x.job("exit 0")); !errors.Is(err, compute.ErrUnreachable) {
		x.Errorf("submit to an unreachable target: %v", err)
	}
	if _, err := x.open(x.Context(), x.env, x.want); err != nil && !errors.Is(err, compute.ErrUnreachable) {
		x.Errorf("open of an unreachable target: %v", err)
	}
	x.opts.Outage(x.T, x.want.Place, false)
	x.eventually("an answer after the mend", func() bool {
		_, err := t.Status(x.Context(), []compute.Handle{h})
		return err == nil
	})
	x.succeed(t, h)
	if got := x.log(t, h); got != "begun\nover\n" {
		x.Errorf("log: %q", got)
	}
}

func followOverOutage(x *exam) {
	t := x.attach()
	x.Cleanup(func() { x.opts.Outage(x.T, x.want.Place, false) })
	h := x.submit(t, x.job("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.01; done"))
	x.logHas(t, h, "line 20\n")
	g := newGrowing()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		// As the server does it: what came is kept, and the rest is asked for again.
		for next := int64(0); ; {
			var err error
			next, err = t.Logs(x.Context(), h, compute.LogQuery{Follow: true, From: next}, g)
			if err == nil || x.Context().Err() != nil {
				return
			}
			if !errors.Is(err, compute.ErrUnreachable) {
				x.Errorf("follow: %v", err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	for range 3 {
		at := len(g.String())
		x.eventually("the log grows", func() bool { return len(g.String()) > at+50 || strings.Contains(g.String(), "line 299\n") })
		x.opts.Outage(x.T, x.want.Place, true)
		x.opts.Outage(x.T, x.want.Place, false)
	}
	x.succeed(t, h)
	wg.Wait()
	if got, want := g.String(), x.log(t, h); got != want {
		x.Errorf("followed over outages: %d bytes, and the log has %d", len(got), len(want))
	}
}
