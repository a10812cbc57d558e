package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/snapshot"
)

// TestMain lets the test program be the keeper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keeper.Main([]string{os.Args[0], "keeper"}, os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

type objects map[snapshot.Hash][]byte

func (o objects) put(b []byte) snapshot.Hash {
	h := snapshot.Sum(b)
	o[h] = b
	return h
}

func (o objects) Open(_ context.Context, h snapshot.Hash) (io.ReadCloser, int64, error) {
	b, ok := o[h]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

func open(t testing.TB, o objects, slots int) compute.Target {
	t.Helper()
	self := []string{os.Args[0], "keeper"}
	if k := os.Getenv("MOORAGE_TEST_KEEPER"); k != "" {
		self = []string{k}
	}
	target, err := Driver{Self: self}.Open(t.Context(), fmt.Appendf(nil, `{"folder": %q, "slots": %d}`, t.TempDir(), slots), compute.Env{
		Server: "srv", Compute: "cmp", Log: slog.New(slog.DiscardHandler), Clock: clock.System(), Objects: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// events hands out the ends of jobs.
type events struct {
	mu   sync.Mutex
	ends map[string]chan compute.Status
}

func watch(t testing.TB, target compute.Target) *events {
	e := &events{ends: map[string]chan compute.Status{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = target.(compute.Watcher).Watch(ctx, func(s compute.Status) {
			if s.Phase == compute.Ended {
				select {
				case e.end(s.Key) <- s:
				default:
				}
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func (e *events) end(k compute.Key) chan compute.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch, ok := e.ends[k.String()]
	if !ok {
		ch = make(chan compute.Status, 1)
		e.ends[k.String()] = ch
	}
	return ch
}

func key(n int) compute.Key {
	return compute.Key{Server: "srv", Compute: "cmp", Job: fmt.Sprintf("J%06d", n), Attempt: 1}
}

// BenchmarkSubmitToExit is one tiny job after another: submit, run "true", hear of its end, release.
func BenchmarkSubmitToExit(b *testing.B) {
	target := open(b, objects{}, 4)
	if _, err := target.Probe(b.Context()); err != nil {
		b.Fatal(err)
	}
	e := watch(b, target)
	var took []time.Duration
	n := 0
	for b.Loop() {
		n++
		began := time.Now()
		if _, err := target.Submit(b.Context(), compute.Job{Key: key(n), Epoch: 1, Command: "true"}); err != nil {
			b.Fatal(err)
		}
		<-e.end(key(n))
		took = append(took, time.Since(began))
		if err := target.Release(b.Context(), compute.Handle{Key: key(n)}, 1); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}

// BenchmarkThousandTinyJobs is the rate at which tiny jobs go through.
func BenchmarkThousandTinyJobs(b *testing.B) {
	target := open(b, objects{}, 4)
	e := watch(b, target)
	n := 0
	for b.Loop() {
		var wg sync.WaitGroup
		room := make(chan struct{}, 8)
		for range 1000 {
			n++
			k := key(n)
			room <- struct{}{}
			wg.Go(func() {
				defer func() { <-room }()
				if _, err := target.Submit(b.Context(), compute.Job{Key: k, Epoch: 1, Command: "true"}); err != nil {
					b.Error(err)
					return
				}
				<-e.end(k)
				if err := target.Release(b.Context(), compute.Handle{Key: k}, 1); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// BenchmarkResubmitThousandFiles is a job of 1,000 files and 50 MB of which the target has all but one, some time after
// the one before it.
func BenchmarkResubmitThousandFiles(b *testing.B) {
	o := objects{}
	r := rand.New(rand.NewPCG(1, 2))
	var folders snapshot.Tree
	for d := range 10 {
		var t snapshot.Tree
		for f := range 100 {
			content := make([]byte, 50<<10)
			for i := 0; i < len(content); i += 8 {
				content[i] = byte(r.Uint32())
			}
			t = append(t, snapshot.Entry{Name: fmt.Sprintf("f%03d", f), Kind: snapshot.File, Size: int64(len(content)), Hash: o.put(content)})
		}
		folders = append(folders, snapshot.Entry{Name: fmt.Sprintf("d%d", d), Kind: snapshot.Folder, Hash: o.put(t.Encode())})
	}
	target := open(b, o, 4)
	e := watch(b, target)
	n := 0
	var took []time.Duration
	for b.Loop() {
		n++
		changed := fmt.Appendf(nil, "change %d", n)
		root := o.put(append(folders[:10:10], snapshot.Entry{Name: "train.py", Kind: snapshot.File, Size: int64(len(changed)), Hash: o.put(changed)}).Encode())
		began := time.Now()
		if _, err := target.Submit(b.Context(), compute.Job{Key: key(n), Epoch: 1, Command: "true", Code: root}); err != nil {
			b.Fatal(err)
		}
		if s := <-e.end(key(n)); s.Exit.Outcome != compute.Succeeded {
			b.Fatal(s.Exit.Problem)
		}
		took = append(took, time.Since(began))
		b.StopTimer()
		if err := target.Release(b.Context(), compute.Handle{Key: key(n)}, 1); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // a person thinks
		b.StartTimer()
	}
	b.ReportMetric(float64(took[0].Milliseconds()), "ms-first")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-p50")
}
