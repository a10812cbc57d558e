package engine

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// SSHDOptions says how an OpenSSH server is set up.
type SSHDOptions struct {
	Password string // lets the user log in with it; it needs root, and the test is skipped without
	NoKey    bool   // the user's key is not authorized
	Shell    string // login shell; default /bin/bash. Needs root
	Extra    string // more lines for its configuration
}

// SSHD is a running OpenSSH server on 127.0.0.1 with one user.
type SSHD struct {
	Addr    string // host:port
	Port    string
	User    string
	Home    string // of the user
	KeyFile string // private key that the user is authorized by
	HostKey string // "ssh-ed25519 AAAA…"
	Own     bool   // the user is a throw-away one with an own home

	dir string
}

// StartSSHD starts a server that ends with the test, and its user and the user's processes with it.
func StartSSHD(t testing.TB, o SSHDOptions) *SSHD {
	t.Helper()
	own := os.Geteuid() == 0
	if !own && (o.Password != "" || o.Shell != "") {
		Absent(t, "a user with a password or another shell can only be made by root")
	}
	dir, err := os.MkdirTemp("", "sshd-") //nolint:usetesting // open to the server's user, as t.TempDir's parent is not
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{dir: dir, Own: own}
	env := []string{"SSHD_PASSWORD=" + o.Password, "SSHD_SHELL=" + o.Shell, "SSHD_EXTRA=" + o.Extra}
	if o.NoKey {
		env = append(env, "SSHD_KEY=no")
	}
	t.Cleanup(func() { run(t, "sshd", nil, "remove", dir) })
	s.start(t, env)
	return s
}

func (s *SSHD) start(t testing.TB, env []string) {
	t.Helper()
	v := run(t, "sshd", env, "start", s.dir)
	s.Port, s.User, s.Home, s.KeyFile, s.HostKey = v["PORT"], v["USER"], v["HOME"], v["KEY"], v["HOST_KEY"]
	s.Addr = net.JoinHostPort("127.0.0.1", s.Port)
}

// Stop kills the server and every session. What sessions started and let go goes on.
func (s *SSHD) Stop(t testing.TB) {
	t.Helper()
	run(t, "sshd", nil, "stop", s.dir)
}

// Start brings a stopped server back: same port, keys and user.
func (s *SSHD) Start(t testing.TB) {
	t.Helper()
	s.start(t, nil)
}

// ChangeHostKey restarts the server with another host key, as after a new installation.
func (s *SSHD) ChangeHostKey(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.start(t, []string{"SSHD_NEW_HOST_KEY=1"})
}

// Key is the user's private key, PEM.
func (s *SSHD) Key(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// WriteHome writes a file of the user, e.g. ".bashrc". It skips the test when the user is the caller, whose files stay alone.
func (s *SSHD) WriteHome(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if !s.Own {
		Absent(t, "the user's files can only be changed when the user is a throw-away one, made by root")
	}
	path := filepath.Join(s.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Authorize lets a public key log in too.
func (s *SSHD) Authorize(t testing.TB, public string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, "keys", "authorized"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(public)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
