package store_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
)

// stuck gives the same bytes for its first reads.
type stuck struct{ reads int }

func (s *stuck) Read(p []byte) (int, error) {
	if s.reads--; s.reads >= 0 {
		clear(p)
		return len(p), nil
	}
	return rand.Read(p)
}

func TestRunsThatDrawOneNumberAreBothKept(t *testing.T) {
	source := &stuck{reads: 2}
	now := time.UnixMilli(1_795_533_712_815)
	s, err := store.Open(t.Context(), store.Config{URL: sqliteFile(t), Clock: clock.Source{Now: func() time.Time { return now }, Rand: source}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	source.reads = 2
	numbers := map[int64]bool{}
	for _, id := range []string{"a", "b"} {
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			n, err := tx.InsertRun(t.Context(), store.Run{WorkspaceID: "w", ID: id, Stage: store.StageActive})
			numbers[n] = true
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if len(numbers) != 2 || source.reads >= 0 {
		t.Errorf("numbers %v; the second run drew no other", numbers)
	}
	if _, err := s.Run(t.Context(), "w", "b"); err != nil {
		t.Error(err)
	}
}
