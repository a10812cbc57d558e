package sshx

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestLoginByKey(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	c, err := dial(t, target(t, s))
	works(t, c, err)
	if c.HostKey != s.HostKey || c.User != s.User || c.Host != s.Addr {
		t.Errorf("host key %q, user %q, host %q", c.HostKey, c.User, c.Host)
	}
}

func TestHostKeyIsLearntWhenNoneIsPinned(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	cfg := target(t, s)
	cfg.HostKey = ""
	c, err := dial(t, cfg)
	works(t, c, err)
	if c.HostKey != s.HostKey {
		t.Errorf("learnt %q, and it is %q", c.HostKey, s.HostKey)
	}
	if !strings.HasPrefix(Fingerprint(c.HostKey), "SHA256:") {
		t.Errorf("fingerprint %q", Fingerprint(c.HostKey))
	}
}

func TestPinnedKeyOfAnotherTypeIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	rsa := filepath.Join(dir, "rsa")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	s := engine.StartSSHD(t, engine.SSHDOptions{Extra: "HostKey " + rsa})
	b, err := os.ReadFile(rsa + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	cfg := target(t, s)
	cfg.HostKey = string(b)
	c, err := dial(t, cfg)
	works(t, c, err)
	if !strings.HasPrefix(c.HostKey, "ssh-rsa ") {
		t.Errorf("it shows %q", c.HostKey)
	}
}

func TestChangedHostKeyIsRefusedWithBothFingerprints(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	cfg := target(t, s)
	s.ChangeHostKey(t)
	_, err := dial(t, cfg)
	p := fails(t, err, compute.ErrDenied, "HostKeyChanged")
	if !strings.Contains(p.Cause, Fingerprint(cfg.HostKey)) || !strings.Contains(p.Cause, Fingerprint(s.HostKey)) {
		t.Errorf("cause: %s", p.Cause)
	}
	// A machine that lost its keys of the pinned type is another machine too.
	cfg.HostKey = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC8A6FGHDiWCSREAXCq6yBfNVr0xCVG2CzvktFNRpue+RXrGs/2a6ySEJQb3IYquw7HlJgu6fg3WIWhOmHCjfpG0PrL4CRwbqQ2LaPPXhJErWYejcD8Di00cF3677+G10KMZk9RXbmHtuBFZT98wxg8j+ZsBMqGM1+7yrWUvynswQ=="
	_, err = dial(t, cfg)
	fails(t, err, compute.ErrDenied, "HostKeyChanged")
}

func TestLoginByPassword(t *testing.T) {
	const password = "correct horse 'battery' staple ü"
	s := engine.StartSSHD(t, engine.SSHDOptions{Password: password, NoKey: true})
	cfg := target(t, s)
	cfg.PrivateKey, cfg.Password = "", password
	c, err := dial(t, cfg)
	works(t, c, err)

	cfg.Password = "wrong"
	_, err = dial(t, cfg)
	p := fails(t, err, compute.ErrDenied, "LoginRefused")
	if p.Target != "password" || !strings.Contains(p.Cause, s.User) || !strings.Contains(p.Cause, "password") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("problem: %v", err)
	}
	cfg.Password, cfg.PrivateKey = "", s.Key(t)
	_, err = dial(t, cfg)
	if p := fails(t, err, compute.ErrDenied, "LoginRefused"); p.Target != "private_key" || !strings.Contains(p.Mend, "authorized_keys") {
		t.Errorf("problem: %v", err)
	}
	// Both, of which the password is right.
	cfg.Password = password
	c, err = dial(t, cfg)
	works(t, c, err)
}

func TestPasswordAnswersAKeyboardInteractiveLogin(t *testing.T) {
	s := startKeyboard(t, "the password")
	cfg := Config{Address: "ssh://someone@" + s.addr, Password: "the password"}
	c, err := dial(t, cfg)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	_ = c.Close() // it serves one at a time
	cfg.Password = "another"
	_, err = dial(t, cfg)
	if p := fails(t, err, compute.ErrDenied, "LoginRefused"); !strings.Contains(p.Cause, "keyboard-interactive") {
		t.Errorf("problem: %v", err)
	}
}

func TestMachineThatTakesNoPasswordsSaysSo(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	cfg := target(t, s)
	cfg.PrivateKey, cfg.Password = "", "anything"
	_, err := dial(t, cfg)
	if p := fails(t, err, compute.ErrDenied, "LoginRefused"); !strings.Contains(p.Cause, "it takes: publickey") || !strings.Contains(p.Mend, "private_key") {
		t.Errorf("problem: %v", err)
	}
}

func TestUnknownUserIsRefused(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	cfg := target(t, s)
	cfg.User = "nobody-of-that-name"
	_, err := dial(t, cfg)
	if p := fails(t, err, compute.ErrDenied, "LoginRefused"); !strings.Contains(p.Cause, cfg.User) {
		t.Errorf("problem: %v", err)
	}
}

func TestEncryptedKeyIsOpenedByItsPassphrase(t *testing.T) {
	const passphrase = "Passwort mit Leerzeichen"
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	private, public := engine.NewKey(t, passphrase)
	s.Authorize(t, public)
	cfg := target(t, s)
	cfg.PrivateKey, cfg.Passphrase = private, passphrase
	c, err := dial(t, cfg)
	works(t, c, err)

	cfg.Passphrase = ""
	fails(t, Check(cfg), compute.ErrInvalid, "PassphraseMissing")
	cfg.Passphrase = "another"
	_, err = dial(t, cfg)
	fails(t, err, compute.ErrInvalid, "WrongPassphrase")
	// As it comes out of a form: with other line ends, and without the last one.
	cfg.Passphrase, cfg.PrivateKey = passphrase, strings.TrimSpace(strings.ReplaceAll(private, "\n", "\r\n"))
	c, err = dial(t, cfg)
	works(t, c, err)
}

func TestWhatIsNoPrivateKeyIsToldApart(t *testing.T) {
	_, public := engine.NewKey(t, "")
	for text, cause := range map[string]string{
		public: "public", "PuTTY-User-Key-File-3: ssh-ed25519\n": "PuTTY", "hello": "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n": "",
	} {
		p := fails(t, Check(Config{Address: "u@h.example", PrivateKey: text}), compute.ErrInvalid, "NotAPrivateKey")
		if !strings.Contains(p.Cause, cause) || strings.Contains(p.Error(), "AAAA") {
			t.Errorf("%.20q: %v", text, &p)
		}
	}
}

func TestLoginByAgent(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	socket := engine.StartAgent(t, s.KeyFile)
	t.Setenv("SSH_AUTH_SOCK", socket)
	cfg := target(t, s)
	cfg.PrivateKey, cfg.UseAgent = "", true
	c, err := dial(t, cfg)
	works(t, c, err)

	t.Setenv("SSH_AUTH_SOCK", engine.StartAgent(t))
	_, err = dial(t, cfg)
	fails(t, err, compute.ErrInvalid, "NoAgent")
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(t.TempDir(), "none"))
	_, err = dial(t, cfg)
	fails(t, err, compute.ErrInvalid, "NoAgent")
	t.Setenv("SSH_AUTH_SOCK", "")
	_, err = dial(t, cfg)
	fails(t, err, compute.ErrInvalid, "NoAgent")
}

func TestLoginThroughJumpHosts(t *testing.T) {
	last, first, second := engine.StartSSHD(t, engine.SSHDOptions{}), engine.StartSSHD(t, engine.SSHDOptions{}), engine.StartSSHD(t, engine.SSHDOptions{})
	private, public := engine.NewKey(t, "")
	for _, s := range []*engine.SSHD{last, first, second} {
		s.Authorize(t, public)
	}
	cfg := target(t, last)
	cfg.PrivateKey = private
	cfg.Jump = []string{"ssh://" + first.User + "@" + first.Addr, second.User + "@" + second.Addr}
	c, err := dial(t, cfg)
	works(t, c, err)
	if got := strings.Join(c.JumpHostKeys, "|"); got != first.HostKey+"|"+second.HostKey {
		t.Errorf("host keys of the jump hosts: %q", got)
	}

	cfg.JumpHostKeys = []string{first.HostKey, first.HostKey}
	_, err = dial(t, cfg)
	if p := fails(t, err, compute.ErrDenied, "HostKeyChanged"); p.Target != "jump_host_keys" || !strings.Contains(p.Message, second.Addr) {
		t.Errorf("problem: %v", err)
	}
	cfg.JumpHostKeys = nil
	last.Stop(t)
	_, err = dial(t, cfg)
	if p := fails(t, err, compute.ErrUnreachable, "ConnectionFailed"); !strings.Contains(p.Cause, "jump host cannot connect") {
		t.Errorf("problem: %v", err)
	}
}

func TestJumpHostThatForbidsForwardingSaysSo(t *testing.T) {
	last := engine.StartSSHD(t, engine.SSHDOptions{})
	jump := engine.StartSSHD(t, engine.SSHDOptions{Extra: "AllowTcpForwarding no"})
	private, public := engine.NewKey(t, "")
	last.Authorize(t, public)
	jump.Authorize(t, public)
	cfg := target(t, last)
	cfg.PrivateKey, cfg.Jump = private, []string{jump.User + "@" + jump.Addr}
	_, err := dial(t, cfg)
	fails(t, err, compute.ErrDenied, "JumpForbidden")
}

// startKeyboard serves logins that ask for the password as PAM does. It is a simulator: sshd does that only with PAM.
func startKeyboard(t testing.TB, password string) *keyboard {
	private, _ := engine.NewKey(t, "")
	host, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &ssh.ServerConfig{
		KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			if _, err := ask("", "Welcome", nil, nil); err != nil {
				return nil, err
			}
			got, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(got) != 1 || got[0] != password {
				return nil, os.ErrPermission
			}
			return nil, nil
		},
	}
	cfg.AddHostKey(host)
	return serveKeyboard(t, cfg)
}
