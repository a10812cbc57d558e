package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// pinner keeps what package store keeps, in memory.
type pinner struct {
	now func() time.Time

	mu        sync.Mutex
	pins      map[string]time.Time
	condemned map[string]bool
}

func (p *pinner) Pin(_ context.Context, hashes []string, keep time.Duration) (gone []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hashes {
		if p.condemned[h] {
			gone = append(gone, h)
		} else if until := p.now().Add(keep); until.After(p.pins[h]) {
			p.pins[h] = until
		}
	}
	return gone, nil
}

func (p *pinner) Condemn(_ context.Context, hashes []string) (condemned []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hashes {
		if !p.now().Before(p.pins[h]) {
			p.condemned[h] = true
			condemned = append(condemned, h)
		}
	}
	return condemned, nil
}

func (p *pinner) Forget(_ context.Context, hashes []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hashes {
		delete(p.condemned, h)
	}
	return nil
}

// hands is a clock that stands still until it is moved.
type hands struct {
	mu sync.Mutex
	at time.Time
}

func (h *hands) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

type rig struct {
	store blob.Store
	pins  *pinner
	hands *hands
}

func newRig(t testing.TB) *rig {
	h := &hands{at: time.Now()}
	return &rig{store: disk(t, t.TempDir()), hands: h, pins: &pinner{now: h.now, pins: map[string]time.Time{}, condemned: map[string]bool{}}}
}

// server is one server on the shared place.
func (r *rig) server() *blob.CAS {
	return blob.NewCAS(r.store, r.pins, clock.Source{Now: r.hands.now})
}

func roots(list ...snapshot.Hash) iter.Seq2[snapshot.Hash, error] {
	return func(yield func(snapshot.Hash, error) bool) {
		for _, h := range list {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func store(t testing.TB, c *blob.CAS, text string) snapshot.Hash {
	t.Helper()
	h := snapshot.Sum([]byte(text))
	if err := c.Put(t.Context(), h, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
	return h
}

// folder stores a tree of two levels: name/{a,b} below the root. b is the same in all.
func folder(t testing.TB, c *blob.CAS, name string) (root snapshot.Hash, objects []snapshot.Hash) {
	t.Helper()
	a, b := store(t, c, "a of "+name), store(t, c, "b of all")
	sub, err := c.PutTree(t.Context(), snapshot.Tree{
		{Name: "a", Kind: snapshot.File, Hash: a, Size: int64(len("a of " + name))},
		{Name: "b", Kind: snapshot.File, Hash: b, Size: int64(len("b of all"))},
		{Name: "link", Kind: snapshot.Link, Target: "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err = c.PutTree(t.Context(), snapshot.Tree{{Name: name, Kind: snapshot.Folder, Hash: sub}})
	if err != nil {
		t.Fatal(err)
	}
	return root, []snapshot.Hash{root, sub, a, b}
}

func there(t testing.TB, c *blob.CAS, h snapshot.Hash) bool {
	t.Helper()
	r, _, err := c.Open(t.Context(), h)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	return true
}

func TestObjectsAreWhatTheirHashSays(t *testing.T) {
	c := newRig(t).server()
	h := snapshot.Sum([]byte("right"))
	err := c.Put(t.Context(), h, strings.NewReader("wrong"), 5)
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "WrongHash" {
		t.Errorf("wrong bytes: %v", err)
	}
	if there(t, c, h) {
		t.Error("wrong bytes were kept")
	}
	store(t, c, "right")
	r, size, err := c.Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || string(b) != "right" || size != 5 {
		t.Errorf("%q, %d, %v", b, size, err)
	}
	for _, bad := range []snapshot.Hash{"", "..", "/etc/passwd", snapshot.Hash(strings.ToUpper(string(h))), h[:63], h + "0"} {
		_, errHas := c.Has(t.Context(), []snapshot.Hash{bad})
		_, _, errOpen := c.Open(t.Context(), bad)
		for verb, err := range map[string]error{"put": c.Put(t.Context(), bad, strings.NewReader(""), 0), "has": errHas, "open": errOpen} {
			if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "InvalidHash" {
				t.Errorf("%s %q: %v", verb, bad, err)
			}
		}
	}
}

func TestCompleteListsWhatIsMissing(t *testing.T) {
	r := newRig(t)
	c := r.server()
	root, objects := folder(t, c, "x")
	if missing, err := c.Complete(t.Context(), root); err != nil || len(missing) != 0 {
		t.Errorf("%v, %v", missing, err)
	}
	closure, err := c.Closure(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(objects, closure); d != "" {
		t.Error(d)
	}
	// Another server, whose memory is empty, sees what was taken away.
	if err := r.store.Delete(t.Context(), "cas/"+string(objects[2][:2])+"/"+string(objects[2])); err != nil {
		t.Fatal(err)
	}
	if missing, err := r.server().Complete(t.Context(), root); err != nil || len(missing) != 1 || missing[0] != objects[2] {
		t.Errorf("%v, %v", missing, err)
	}
	unknown := snapshot.Sum([]byte("unknown"))
	if missing, err := c.Complete(t.Context(), unknown); err != nil || len(missing) != 1 || missing[0] != unknown {
		t.Errorf("%v, %v", missing, err)
	}
	file := store(t, c, "no tree")
	if _, err := c.Complete(t.Context(), file); !errors.Is(err, &workspace.Problem{Code: "InvalidSnapshot"}) {
		t.Errorf("a file as the root: %v", err)
	}
}

func TestSweepKeepsLivePinnedAndYoungAndRemovesTheRest(t *testing.T) {
	r := newRig(t)
	c := r.server()
	live, liveObjects := folder(t, c, "live")
	_, deadObjects := folder(t, c, "dead")
	pinned := store(t, c, "pinned")
	sweep := func(dry bool) blob.Swept {
		t.Helper()
		s, err := c.Sweep(t.Context(), roots(live, snapshot.Sum([]byte("a root that is gone"))), dry)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := sweep(false); s.Removed != 0 || s.Objects != 8 {
		t.Fatalf("at once: %+v", s)
	}
	r.hands.move(25 * time.Hour) // all pins have run out
	if missing, err := c.Has(t.Context(), []snapshot.Hash{pinned}); err != nil || len(missing) != 0 {
		t.Fatalf("%v, %v", missing, err)
	}
	dry := sweep(true)
	if dry.Removed != 3 || dry.Bytes == 0 || !there(t, c, deadObjects[0]) {
		t.Errorf("a dry sweep: %+v", dry)
	}
	if s := sweep(false); s.Removed != dry.Removed || s.Bytes != dry.Bytes {
		t.Errorf("it removed %+v, and said %+v before", s, dry)
	}
	for _, h := range append(liveObjects, pinned) {
		if !there(t, c, h) {
			t.Errorf("%s is gone", h)
		}
	}
	for _, h := range deadObjects[:3] { // the fourth is live too
		if there(t, c, h) {
			t.Errorf("%s is still there", h)
		}
	}
	if missing, err := c.Has(t.Context(), deadObjects); err != nil || len(missing) != 3 {
		t.Errorf("it says that it has what was swept: %v, %v", missing, err)
	}
	if len(r.pins.condemned) != 0 {
		t.Error("marks of the sweep are left")
	}
}

// Two servers store and ask for the same objects while a third sweeps again and again. What a server said it has can be
// read, at any time in the day that follows.
func TestSweepNeverTakesWhatWasPromised(t *testing.T) {
	r := newRig(t)
	sweeper := r.server()
	servers := []*blob.CAS{r.server(), r.server()}
	const objects = 40
	text := func(n int) string { return fmt.Sprint("object ", n) }
	for round := range 15 {
		done := make(chan struct{})
		var sweeps, work sync.WaitGroup
		sweeps.Go(func() {
			for {
				if _, err := sweeper.Sweep(t.Context(), roots(), false); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
		for n, c := range servers {
			chance := rand.New(rand.NewPCG(uint64(round), uint64(n)))
			work.Go(func() {
				for range objects {
					what := text(chance.IntN(objects))
					h := snapshot.Sum([]byte(what))
					missing, err := c.Has(t.Context(), []snapshot.Hash{h})
					if err == nil && len(missing) > 0 {
						err = c.Put(t.Context(), h, strings.NewReader(what), -1)
					}
					if err != nil {
						t.Error(err)
						continue
					}
					if !there(t, c, h) {
						t.Errorf("round %d: server %d said it has %q, and it has not", round, n, what)
					}
				}
			})
		}
		work.Wait()
		close(done)
		sweeps.Wait()
		r.hands.move(25 * time.Hour) // everything may go
	}
}

func TestImportReadsAVersionOnce(t *testing.T) {
	r := newRig(t)
	c := r.server()
	info, err := r.store.Put(t.Context(), "c/data/file", strings.NewReader("content"), -1, blob.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		h, err := c.Import(t.Context(), info)
		if err != nil || h != snapshot.Sum([]byte("content")) || !there(t, c, h) {
			t.Errorf("%s, %v", h, err)
		}
	}
	newer, err := r.store.Put(t.Context(), "c/data/file", strings.NewReader("changed"), -1, blob.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := c.Import(t.Context(), newer); err != nil || h != snapshot.Sum([]byte("changed")) {
		t.Errorf("%s, %v", h, err)
	}
}

// BenchmarkComplete is the question that every submit of an unchanged folder of 1,000 files asks.
func BenchmarkComplete(b *testing.B) {
	c := newRig(b).server()
	var tree snapshot.Tree
	for n := range 1000 {
		text := fmt.Sprintf("%04d", n)
		tree = append(tree, snapshot.Entry{Name: text, Kind: snapshot.File, Hash: store(b, c, text), Size: 4})
	}
	root, err := c.PutTree(b.Context(), tree)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if missing, err := c.Complete(b.Context(), root); err != nil || len(missing) > 0 {
			b.Fatal(missing, err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	c, n := newRig(b).server(), 0
	for b.Loop() {
		n++
		store(b, c, fmt.Sprint(n))
	}
}
