package tracking

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzArtifactPath holds for any text: a path that is taken stays in its folder, on every system, however often it is
// decoded.
func FuzzArtifactPath(f *testing.F) {
	for _, seed := range []string{"", "a/b", "a/", "..", "a/../b", "/a", `a\..\b`, "C:x", "%2e%2e/a", "a%252f..%252fb", "100%.txt", "a//b", "./a", "a\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		got, err := checkArtifactPath(p)
		if err != nil {
			return
		}
		for range 3 {
			if strings.HasPrefix(got, "/") || strings.HasPrefix(got, `\`) || strings.ContainsRune(got, 0) {
				t.Fatalf("%q gives %q", p, got)
			}
			for segment := range strings.FieldsFuncSeq(got, func(r rune) bool { return r == '/' || r == '\\' }) {
				if segment == ".." {
					t.Fatalf("%q gives %q", p, got)
				}
			}
			again, err := url.PathUnescape(got)
			if err != nil {
				break
			}
			got = again
		}
		if taken, _ := checkArtifactPath(p); taken != "" && path.Clean(taken) != taken {
			t.Fatalf("%q gives %q", p, taken)
		}
	})
}
