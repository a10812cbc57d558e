package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/server"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestGarbageIsCollectedOnARunningServer(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := collect(t.Context(), dir, true, &out)
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "NoServer" || p.Mend == "" {
		t.Errorf("without a server: %v", err)
	}
	s, err := server.Start(t.Context(), server.Config{Data: dir, Listen: "127.0.0.1:0", NoLocal: true}, server.Options{Log: slog.New(slog.DiscardHandler), Clock: clock.System(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	for dry, want := range map[bool]string{true: "would take away 0 jobs, 0 entries of the audit log, and 0 of 0 objects", false: "took away 0 jobs"} {
		out.Reset()
		if err := collect(t.Context(), dir, dry, &out); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("dry %v: %q, %v", dry, out.String(), err)
		}
	}
}
