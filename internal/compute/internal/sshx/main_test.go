package sshx

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func target(t testing.TB, s *engine.SSHD) Config {
	return Config{Address: "ssh://" + s.User + "@" + s.Addr, PrivateKey: s.Key(t), HostKey: s.HostKey}
}

// dial connects, and closes with the test.
func dial(t testing.TB, cfg Config) (*Client, error) {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// works checks that a connection runs a command.
func works(t testing.TB, c *Client, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	out, err := s.Output("echo $((40 + 2))")
	if err != nil || string(out) != "42\n" {
		t.Errorf("a command printed %q, %v", out, err)
	}
}

// fails checks an error's kind and code, and that it has all that a person needs.
func fails(t testing.TB, err, kind error, code string) workspace.Problem {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("wanted %v, got %v", kind, err)
	}
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok {
		t.Fatalf("no problem in %v", err)
	}
	if p.Code != code {
		t.Errorf("wanted the code %s, got %s: %v", code, p.Code, err)
	}
	if p.Message == "" || p.Mend == "" || p.Target == "" {
		t.Errorf("it lacks a message, a mend or a target: %+v", *p)
	}
	if _, ok := errors.AsType[*compute.Error](err); !ok {
		t.Errorf("it is not a compute.Error: %T", err)
	}
	return *p
}
