package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// NewKey makes a private key and gives it as PEM, with the text of its public key. An empty passphrase leaves it open.
func NewKey(t testing.TB, passphrase string) (private, public string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	cmd := exec.Command(Need(t, "ssh-keygen", "apt-get install openssh-client"), "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return read(file), read(file + ".pub")
}

// StartAgent starts an ssh-agent that holds keys and ends with the test. It gives the path of its socket.
func StartAgent(t testing.TB, keyFiles ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(Need(t, "ssh-agent", "apt-get install openssh-client"), "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	Eventually(t, 10*time.Second, "the agent's socket", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	for _, f := range keyFiles {
		add := exec.Command("ssh-add", "-q", f)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
	}
	return socket
}
