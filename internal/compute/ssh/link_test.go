package ssh

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/test/engine"
)

// TestSessionOpenedAsTheLineDiesFails opens sessions at the very moment at which the connection is lost. None may wait for
// an answer that cannot come any more: with a context that never ends it would wait for ever, and all others behind it.
func TestSessionOpenedAsTheLineDiesFails(t *testing.T) {
	t.Parallel()
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := engine.StartProxy(t, s.Addr)
	settings := settingsFor(t, s)
	settings.Address = "ssh://" + s.User + "@" + p.Addr
	cfg := settings.config(slog.New(slog.DiscardHandler))
	for range 30 {
		conn, err := sshx.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					ch, err := openSession(context.Background(), conn)
					if err == nil {
						_ = ch.Close()
						continue
					}
					if !errors.Is(err, compute.ErrUnreachable) {
						t.Errorf("the error is %v", err)
					}
					if !conn.Alive() {
						return
					}
				}
			})
		}
		p.Cut()
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a session of a lost connection is still awaited")
		}
		_ = conn.Close()
	}
}
