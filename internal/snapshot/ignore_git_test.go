package snapshot

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/test/engine"
)

// Git itself is asked about random rules over a folder of a few dozen files. Their names are ASCII: git takes ? for one
// byte, and we for one letter.
func TestIgnoresAgreeWithGit(t *testing.T) {
	git := engine.Need(t, "git", "apt-get install git")
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), git, "-C", dir, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, folder := range []string{"", "a", "b", "a/a", "a/b", "b/a/b", "ab", "x.d"} {
		for _, file := range []string{"f", "f.a", "ab", "a b", "[f]"} {
			at := filepath.Join(dir, folder, file)
			if folder == "" && file == "ab" {
				continue // a folder has this name
			}
			if info, err := os.Stat(at); err == nil && info.IsDir() {
				continue
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	piece := rapid.SampledFrom([]string{"a", "b", "f", "ab", "*", "**", "?", "f*", "*.a", "[ab]", "[!a]", "[a-f]", "[[]f]", `\[f\]`, "a b", "x.d", "***"})
	rule := rapid.Custom(func(r *rapid.T) string {
		return rapid.SampledFrom([]string{"", "", "!", `\`}).Draw(r, "sign") + rapid.SampledFrom([]string{"", "", "/"}).Draw(r, "root") +
			strings.Join(rapid.SliceOfN(piece, 1, 3).Draw(r, "pieces"), "/") + rapid.SampledFrom([]string{"", "", "/", " ", `\ `, "/**"}).Draw(r, "end")
	})
	rapid.Check(t, func(r *rapid.T) {
		rules := strings.Join(rapid.SliceOfN(rule, 1, 4).Draw(r, "rules"), "\n") + "\n"
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(rules), 0o600); err != nil {
			r.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), git, "-C", dir, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore").Output()
		if err != nil {
			r.Fatal(err)
		}
		var want []string
		for name := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
			if len(name) > 0 {
				want = append(want, string(name))
			}
		}
		slices.Sort(want)
		l, err := Walk(t.Context(), dir, "", time.Now(), nil)
		if err != nil {
			r.Fatal(err)
		}
		var got []string
		for _, f := range l.Files {
			got = append(got, f.Name)
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			r.Fatalf("rules %q: git keeps (-), we keep (+):\n%s", rules, d)
		}
	})
}
