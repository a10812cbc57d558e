package storetest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres is a running PostgreSQL with as many empty databases as a test asks for.
type Postgres struct {
	admin string
	next  atomic.Int64
}

// StartPostgres starts a real server, by test/servers/postgres, and stops it with the test. Where PostgreSQL is not
// installed the test is skipped, and fails when CI=true.
//
// flags go to the server; without any it does not flush, for tests do not outlive a crash of the machine.
func StartPostgres(t testing.TB, flags ...string) *Postgres {
	t.Helper()
	if len(flags) == 0 {
		flags = []string{"-c fsync=off"}
	}
	script := filepath.Join(moduleRoot(t), "test", "servers", "postgres")
	// Not t.TempDir: that is closed to the other user as whom root has to run PostgreSQL.
	dir, err := os.MkdirTemp("", "moorage-postgres-") //nolint:usetesting // for that reason
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	start := exec.CommandContext(t.Context(), script, "start", dir)
	start.Env = append(os.Environ(), "POSTGRES_FLAGS="+strings.Join(flags, " "))
	out, err := start.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 && os.Getenv("CI") != "true" {
			t.Skipf("no PostgreSQL here: %s", exit.Stderr)
		}
		if exit != nil {
			t.Fatalf("start PostgreSQL: %v: %s", err, exit.Stderr)
		}
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), script, "stop", dir).CombinedOutput(); err != nil {
			t.Errorf("stop PostgreSQL: %v: %s", err, out)
		}
	})
	return &Postgres{admin: strings.TrimSpace(string(out))}
}

// Fresh makes an empty database and gives its URL.
func (p *Postgres) Fresh(t testing.TB) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := pgx.Connect(ctx, p.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	name := "t" + id(int(p.next.Add(1)))
	if _, err := c.Exec(ctx, `CREATE DATABASE "`+name+`"`); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(p.admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}
