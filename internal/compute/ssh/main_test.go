package ssh

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

// program is the keeper, built by TestMain.
var program []byte

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keeper-")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "keeper"), "../../../cmd/keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the keeper cannot be built: %v\n%s", err, out)
		os.Exit(1)
	}
	if program, err = os.ReadFile(filepath.Join(dir, "keeper")); err != nil {
		panic(err)
	}
	_ = os.RemoveAll(dir)
	// x/crypto/ssh never lets go of a session that is asked for while its connection ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moorage-ml/moorage/internal/compute/ssh.openSession.func1"))
}

// keeper gives the program for this machine's platform, and none for others.
func keeper(goos, goarch string) (compute.Program, error) {
	if goos != runtime.GOOS || goarch != runtime.GOARCH {
		return compute.Program{}, fmt.Errorf("not built: %w", compute.ErrInvalid)
	}
	return programOf(program), nil
}

func programOf(b []byte) compute.Program {
	return compute.Program{Hash: snapshot.Sum(b), Size: int64(len(b)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(newReader(b)), nil
	}}
}

func environment(t testing.TB) compute.Env {
	return compute.Env{
		Server: "server", Compute: "compute", Clock: clock.System(), Objects: &computetest.Objects{}, Keeper: keeper,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// settingsFor are the settings that log in on a server of the tests.
func settingsFor(t testing.TB, s *engine.SSHD) Settings {
	return Settings{Address: "ssh://" + s.User + "@" + s.Addr, PrivateKey: s.Key(t), HostKey: s.HostKey}
}

func encode(t testing.TB, s Settings) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open opens a target that is closed with the test.
func open(t testing.TB, s Settings) (compute.Target, error) {
	t.Helper()
	target, err := Driver{}.Open(t.Context(), encode(t, s), environment(t))
	if err == nil {
		t.Cleanup(func() { _ = target.Close() })
	}
	return target, err
}

func mustOpen(t testing.TB, s Settings) compute.Target {
	t.Helper()
	target, err := open(t, s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return target
}

// run runs a command as a job and gives its end and its log.
func run(t testing.TB, target compute.Target, command string) (compute.Exit, string) {
	t.Helper()
	key := compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}
	h := compute.Handle{Key: key}
	if _, err := target.Submit(t.Context(), compute.Job{Key: key, Epoch: 1, Command: command}); err != nil {
		t.Fatalf("submit: %v", err)
	}
	return await(t, target, h)
}

func await(t testing.TB, target compute.Target, h compute.Handle) (compute.Exit, string) {
	t.Helper()
	var s compute.Status
	engine.Eventually(t, waitLimit, "the job's end", func() bool {
		all, err := target.Status(context.Background(), []compute.Handle{h})
		if err != nil {
			t.Fatalf("status: %v", err)
		}
		s = all[0]
		return s.Phase == compute.Ended
	})
	log := newBuffer()
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{}, log); err != nil {
		t.Fatalf("logs: %v", err)
	}
	return *s.Exit, log.String()
}
