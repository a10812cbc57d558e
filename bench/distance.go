package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// delay is the round trip that is put between server and target to count how many a job takes.
const delay = 50 * time.Millisecond

// roundTrips attaches the same login a second time through a forwarder that holds all bytes back for half a round trip
// in each direction, and counts a warm job's round trips as the time that it takes longer.
func roundTrips(ctx context.Context, r *rig, f *figure) error {
	forwarder, err := startForwarder(ctx, "127.0.0.1:"+r.ssh["PORT"], delay/2)
	if err != nil {
		return err
	}
	defer forwarder.Close()
	address := fmt.Sprintf("ssh://%s@%s", r.ssh["USER"], forwarder.Addr())
	out, err := r.cli(ctx, "compute", "attach", "far", "--kind", "ssh", "--address", address, "--private-key-file", r.ssh["KEY"], "--distinct")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	far, err := r.warm(ctx, "far")
	if err != nil {
		return err
	}
	if out, err := r.cli(ctx, "compute", "detach", "far"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	near, err := r.warm(ctx, "gpu")
	if err != nil {
		return err
	}
	f.Value = (far - near) / milliseconds(delay)
	f.Note = fmt.Sprintf("%.1f ms with %v between server and target, %.1f ms without", far, delay, near)
	return nil
}

// warm is the median time of a tiny job on a compute, in milliseconds.
func (r *rig) warm(ctx context.Context, compute string) (float64, error) {
	var times []float64
	for i := range 14 {
		name := jobName()
		t, err := timed(func() error {
			return errors.Join(r.server.submitTo(ctx, compute, name, "true"), r.server.wait(ctx, name))
		})
		if err != nil {
			return 0, err
		}
		if i > 2 {
			times = append(times, milliseconds(t))
		}
	}
	return median(times), nil
}

// startForwarder listens on loopback and forwards to a target, every byte late by a fixed time.
func startForwarder(ctx context.Context, target string, late time.Duration) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
			if err != nil {
				_ = from.Close() // the caller sees the end of its connection
				continue
			}
			go carry(to, from, late)
			go carry(from, to, late)
		}
	}()
	return l, nil
}

// carry copies bytes from one connection to the other, each late by a fixed time, and as many in flight as come.
func carry(to, from net.Conn, late time.Duration) {
	type piece struct {
		bytes []byte
		due   time.Time
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				pieces <- piece{buf[:n], time.Now().Add(late)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	_ = to.Close() // the other side has ended
	_, _ = io.Copy(io.Discard, from)
	for range pieces { // lets the reader go
	}
}
