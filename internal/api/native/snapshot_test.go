package native

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func record(content string) string {
	return fmt.Sprintf("%s %d\n%s", snapshot.Sum([]byte(content)), len(content), content)
}

func TestReadRecordsGivesEachObjectAndStopsAtTheFirstBrokenOne(t *testing.T) {
	tests := []struct {
		name, in string
		stored   int
		broken   bool
	}{
		{"none", "", 0, false},
		{"two", record("a\nb") + record(""), 2, false},
		{"content that nobody reads is passed over", record(strings.Repeat("x", 200_000)) + record("y"), 2, false},
		{"too short", record("abc")[:68], 0, true},
		{"no newline", strings.Repeat("a", 200), 0, true},
		{"no hash", "../../etc/passwd 3\nabc", 0, true},
		{"negative length", strings.Repeat("a", 64) + " -1\n", 0, true},
		{"huge length", strings.Repeat("a", 64) + " 99999999999999\n", 0, true},
		{"second broken", record("a") + "rubbish\n", 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stored, err := readRecords(strings.NewReader(tt.in), func(snapshot.Hash, int64, io.Reader) error { return nil })
			if stored != tt.stored || (err != nil) != tt.broken {
				t.Fatalf("stored %d, %v; want %d, broken %v", stored, err, tt.stored, tt.broken)
			}
			if p, ok := errors.AsType[*workspace.Problem](err); tt.broken && (!ok || p.Code != "InvalidRecord") {
				t.Errorf("err = %#v, want InvalidRecord", err)
			}
		})
	}
}

func FuzzReadRecords(f *testing.F) {
	f.Add([]byte(record("a") + record("bc")))
	f.Add([]byte(strings.Repeat("0", 64) + " 5\nab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var taken int64
		_, err := readRecords(strings.NewReader(string(b)), func(h snapshot.Hash, size int64, r io.Reader) error {
			if !h.Valid() || size < 0 {
				t.Fatalf("put was given %q, %d", h, size)
			}
			n, err := io.Copy(io.Discard, r)
			taken += n
			return err
		})
		if taken > int64(len(b)) {
			t.Fatal("more came out than went in")
		}
		if err != nil {
			if _, ok := errors.AsType[*workspace.Problem](err); !ok {
				t.Fatalf("not a problem: %v", err)
			}
		}
	})
}
