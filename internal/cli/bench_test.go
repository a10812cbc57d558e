package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The whole command line, process start included, to a server that answers at once: what this package adds to a job.
func BenchmarkSubmitAndWait(b *testing.B) {
	for _, how := range []string{"--wait", "--stream"} {
		b.Run(how[2:], func(b *testing.B) {
			dir := b.TempDir()
			s, err := newSimulator(dir)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if err := os.WriteFile(filepath.Join(dir, "job.yml"), []byte("command: print hello\ncompute: gpu\n"), 0o600); err != nil {
				b.Fatal(err)
			}
			program, err := exec.LookPath("moorage")
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				cmd := exec.Command(program, "job", "create", "-f", filepath.Join(dir, "job.yml"), "--data", dir, how)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
