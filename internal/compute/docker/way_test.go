package docker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// runs runs a job with secrets, code, a followed log and outputs over one way to the engine.
func runs(t *testing.T, target *Target) {
	t.Helper()
	j := job(target, `printf %s "$TOKEN" | wc -c; mkdir -p outputs; echo home >outputs/file; echo done`)
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret("eight888")}
	h := submit(t, target, j)
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Fatalf("exit: %+v", x)
	}
	if got := strings.Fields(logOf(t, target, h)); len(got) != 2 || got[0] != "8" {
		t.Errorf("log: %q", got)
	}
	portIsReachedOn(t, target)
	if err := target.Release(t.Context(), h, 1); err != nil {
		t.Error(err)
	}
}

func problemOf(t *testing.T, target *Target, kind error, code string) {
	t.Helper()
	_, err := target.Probe(t.Context())
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, kind) || !ok || p.Code != code || p.Mend == "" {
		t.Errorf("wanted %s, got %v", code, err)
	}
}

func TestEngineIsReachedBySSH(t *testing.T) {
	b := bench{Docker: engine.StartDocker(t), keeper: keeperProgram(t)}
	local := b.attach(t, nil)
	want, err := local.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := engine.StartSSHD(t, engine.SSHDOptions{})
	allow(t, b)
	by := func(change func(*Settings)) *Target {
		return b.attach(t, func(s *Settings, _ *compute.Env) {
			s.Address, s.PrivateKey = "docker+ssh://"+d.User+"@"+d.Addr+b.Socket, d.Key(t)
			if change != nil {
				change(s)
			}
		})
	}
	target := by(nil)
	f, err := target.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Identity[0] != want.Identity[0] || len(f.Identity) != 1 {
		t.Errorf("identity by ssh %v and by the socket %v", f.Identity, want.Identity)
	}
	if f.Pins["host_key"] != d.HostKey {
		t.Errorf("pins: %v", f.Pins)
	}
	runs(t, target)
	pinned := by(func(s *Settings) { s.HostKey = d.HostKey })
	if f, err := pinned.Probe(t.Context()); err != nil || len(f.Problems) != 0 {
		t.Errorf("with a pinned key: %v, %v", f.Problems, err)
	}
	problemOf(t, by(func(s *Settings) { s.Address += ".absent" }), compute.ErrUnreachable, "EngineUnreachable")
	private, _ := engine.NewKey(t, "")
	problemOf(t, by(func(s *Settings) { s.PrivateKey = private }), compute.ErrDenied, "LoginRefused")
	d.Stop(t)
	problemOf(t, target, compute.ErrUnreachable, "ConnectionRefused")
	d.Start(t)
	runs(t, target)
	d.ChangeHostKey(t)
	problemOf(t, pinned, compute.ErrDenied, "HostKeyChanged")
}

// allow lets every user use the engine's socket.
func allow(t *testing.T, b bench) {
	t.Helper()
	for _, name := range []string{strings.TrimSuffix(b.Socket, "/sock"), b.Socket} {
		if err := os.Chmod(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForbiddenForwardingIsSaid(t *testing.T) {
	d := engine.StartSSHD(t, engine.SSHDOptions{Extra: "AllowStreamLocalForwarding no"})
	b := bench{Docker: &engine.Docker{Socket: "/nowhere"}}
	target := b.attach(t, func(s *Settings, _ *compute.Env) {
		s.Address, s.PrivateKey = "docker+ssh://"+d.User+"@"+d.Addr, d.Key(t)
	})
	problemOf(t, target, compute.ErrUnreachable, "EngineUnreachable")
	if _, err := target.Probe(t.Context()); !strings.Contains(fmt.Sprint(err), "AllowStreamLocalForwarding") {
		t.Errorf("probe: %v", err)
	}
}

func TestEngineIsReachedByTLS(t *testing.T) {
	b := bench{Docker: engine.StartDockerWith(t, engine.DockerOptions{TLS: true}), keeper: keeperProgram(t)}
	by := func(ca, cert, key string) *Target {
		return b.attach(t, func(s *Settings, _ *compute.Env) {
			s.Address = "docker+tcp://" + b.TCP
			if ca != "" {
				s.CA = b.PEM(t, ca)
			}
			if cert != "" {
				s.Cert, s.Key = b.PEM(t, cert), b.PEM(t, key)
			}
		})
	}
	target := by("ca", "cert", "key")
	f, err := target.Probe(t.Context())
	if err != nil || len(f.Problems) != 0 {
		t.Fatalf("probe: %v, %v", f.Problems, err)
	}
	runs(t, target)
	problemOf(t, by("ca", "other", "other-key"), compute.ErrDenied, "EngineDenied")
	problemOf(t, by("ca", "", ""), compute.ErrDenied, "EngineDenied")
	problemOf(t, by("other-ca", "cert", "key"), compute.ErrDenied, "EngineUntrusted")
	problemOf(t, by("", "", ""), compute.ErrDenied, "EngineNeedsTLS")
	b.Stop(t)
	problemOf(t, target, compute.ErrUnreachable, "EngineUnreachable")
}

func TestWrongAddressIsRefused(t *testing.T) {
	for _, c := range []struct{ address, code, words string }{
		{"docker+unix://host/path", "InvalidSettings", "docker+unix:///path"},
		{"tcp://10.0.0.1:2375", "InvalidSettings", "begins with none of"},
		{"docker+tcp://10.0.0.1:2375", "TLSMissing", "only spoken to by TLS"},
		{"docker+tcp://engine.example:2375", "TLSMissing", "root on its machine"},
		{"docker+tcp://127.0.0.1", "InvalidSettings", "host:port"},
		{"docker+ssh://user:password@host", "InvalidSettings", "holds a password"},
		{"docker+ssh://user@host", "NoCredentials", "nothing to log in with"},
	} {
		_, err := Driver{}.Open(t.Context(), settings(t, Settings{Address: c.address}), compute.Env{})
		p, ok := errors.AsType[*workspace.Problem](err)
		if !errors.Is(err, compute.ErrInvalid) || !ok || p.Code != c.code || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.address, err)
		}
	}
	if _, err := (Driver{}).Open(t.Context(), settings(t, Settings{Address: "docker+tcp://127.0.0.1:1", Key: "secret-key"}), compute.Env{}); err == nil || strings.Contains(err.Error(), "secret-key") {
		t.Errorf("a key without a certificate: %v", err)
	}
	if _, err := (Driver{}).Open(t.Context(), []byte(`{"key": ["secret-key"]}`), compute.Env{}); err == nil || strings.Contains(err.Error(), "secret-key") {
		t.Errorf("a key of a wrong type: %v", err)
	}
}

func TestWhatDoesNotSpeakTLSIsSaid(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	d := engine.StartDockerWith(t, engine.DockerOptions{TLS: true})
	b := bench{Docker: d}
	target := b.attach(t, func(s *Settings, _ *compute.Env) {
		s.Address, s.CA = "docker+tcp://"+ln.Addr().String(), d.PEM(t, "ca")
	})
	problemOf(t, target, compute.ErrDenied, "EngineWithoutTLS")
}
