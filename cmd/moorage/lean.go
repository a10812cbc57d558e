package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How often a server looks at its memory, how much of it may lie idle, and from where on the heap is collected rather than
// let grow.
const (
	leanEvery = 10 * time.Second
	leanIdle  = 4 << 20
	leanLimit = 384 << 20
)

// lean keeps a server small that has little to do: what a busy minute took goes back to the system soon after it.
// GOMEMLIMIT, if set, is the operator's own choice. It returns when ctx ends.
func lean(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(leanLimit)
	}
	tick := time.NewTicker(leanEvery)
	defer tick.Stop()
	idle := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	for {
		metrics.Read(idle)
		if idle[0].Value.Uint64()+idle[1].Value.Uint64() > leanIdle {
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
