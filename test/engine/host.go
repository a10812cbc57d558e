package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// AtHome gives the words to put before a command so that a name leads to this machine, for that command and its children
// alone: they get a mount namespace with a hosts file of its own. It skips the test, as Absent does, where nobody may
// make one.
func AtHome(t testing.TB, name string) []string {
	t.Helper()
	known, _ := os.ReadFile("/etc/hosts") // none: the file has one line
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, append(known, "\n127.0.0.1 "+name+"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	words := []string{Need(t, "unshare", "apt-get install util-linux"), "--mount"}
	if os.Geteuid() != 0 {
		words = append(words, "--map-root-user")
	}
	words = append(words, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts)
	if out, err := exec.Command(words[0], append(words[1:], "getent", "hosts", name)...).CombinedOutput(); err != nil {
		Absent(t, "the name "+name+" cannot be made known to one command here: "+string(out))
	}
	return words
}
