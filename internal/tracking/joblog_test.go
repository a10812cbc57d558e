package tracking_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// deaf is a blob store that does not answer some calls for a while.
type deaf struct {
	blob.Store
	stat, remove error
}

func (d *deaf) Stat(ctx context.Context, name string) (blob.Info, error) {
	if d.stat != nil {
		return blob.Info{}, d.stat
	}
	return d.Store.Stat(ctx, name)
}

func (d *deaf) Delete(ctx context.Context, name string) error {
	if d.remove != nil {
		return d.remove
	}
	return d.Store.Delete(ctx, name)
}

func TestSealedLogIsTheWholeOne(t *testing.T) {
	ctx := t.Context()
	disk, err := blob.NewDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	d := &deaf{Store: disk}
	log, job := tracking.JobLog{Blob: d}, store.Job{ID: "01J", WorkspaceID: "w", Name: "j"}
	appended := func(from int64, text string) {
		t.Helper()
		if next, err := log.Append(ctx, job.ID, from, strings.NewReader(text)); err != nil || next != from+int64(len(text)) {
			t.Fatal(next, err)
		}
	}
	is := func(want string) {
		t.Helper()
		var got bytes.Buffer
		if next, err := log.Read(ctx, job, 0, &got); err != nil || next != int64(len(want)) || got.String() != want {
			t.Fatalf("the log is %q up to %d, want %q: %v", got.String(), next, want, err)
		}
	}
	appended(0, "one ")
	appended(4, "two ")
	appended(6, "o two ") // an overlap, as after a restart
	if n, err := log.Size(ctx, job.ID); err != nil || n != 12 {
		t.Fatal(n, err)
	}
	is("one two two ")
	d.remove = errors.New("the store is away")
	if _, err := log.Seal(ctx, job, io.LimitReader(strings.NewReader("three"), 5)); !errors.Is(err, d.remove) {
		t.Fatalf("sealed with %v while pieces could not be removed", err)
	}
	d.remove = nil
	// The first piece is gone, the target can give nothing more, and the store does not tell whether the log is whole.
	if err := disk.Delete(ctx, "joblog/01J/00000000000000000000"); err != nil {
		t.Fatal(err)
	}
	d.stat = errors.New("the store is away")
	if _, err := log.Seal(ctx, job, nil); !errors.Is(err, d.stat) {
		t.Fatalf("sealed with %v while it was not known what there is", err)
	}
	is("one two two three")
	d.stat = nil
	if size, err := log.Seal(ctx, job, nil); err != nil || size != int64(len("one two two three")) {
		t.Fatalf("%d bytes: %v", size, err)
	}
	is("one two two three")
	if n, err := log.Size(ctx, job.ID); err != nil || n != 0 {
		t.Fatalf("%d bytes of pieces stay: %v", n, err)
	}
}
