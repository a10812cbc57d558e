package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/test/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collection is a scripted API server with one collection of Jobs.
type collection struct {
	*httptest.Server
	mu      sync.Mutex
	items   []object
	version int
	lists   int
	broken  bool
	news    chan any // what the watch says next; closing it ends the watch
	begun   chan string
}

func newCollection(t *testing.T) *collection {
	t.Helper()
	c := &collection{version: 10, news: make(chan any), begun: make(chan string, 100)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	broken, news := c.broken, c.news
	c.mu.Unlock()
	if broken {
		http.Error(w, `{"message":"out of order"}`, http.StatusInternalServerError)
		return
	}
	if r.URL.Query().Get("watch") == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lists++
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &from)
		end, more := min(from+2, len(c.items)), ""
		if end < len(c.items) {
			more = fmt.Sprint(end)
		}
		_ = json.NewEncoder(w).Encode(object{"metadata": object{"resourceVersion": fmt.Sprint(c.version), "continue": more}, "items": c.items[from:end]})
		return
	}
	c.begun <- r.URL.Query().Get("resourceVersion")
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case n, ok := <-news:
			if !ok {
				return
			}
			_ = json.NewEncoder(w).Encode(n)
			w.(http.Flusher).Flush()
		}
	}
}

func item(name, uid string, version int) object {
	return object{"metadata": object{"name": name, "uid": uid, "resourceVersion": fmt.Sprint(version)}}
}

func event(kind string, o object) object { return object{"type": kind, "object": o} }

// mirrored is a mirror of a collection, and what it told.
type mirrored struct {
	*mirror[work, *work]
	mu   sync.Mutex
	told []string
	lost int
}

func mirrorOf(t *testing.T, c *collection) *mirrored {
	t.Helper()
	m := &mirrored{}
	api := &cluster{http: c.Client(), base: c.URL, namespace: "ml"}
	m.mirror = newMirror[work](api, jobs, "a=b", func(name string, w *work) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told = append(m.told, fmt.Sprint(name, w != nil))
	}, func(error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lost++
	})
	var wg sync.WaitGroup
	ctx := t.Context()
	wg.Go(func() { m.run(ctx) })
	t.Cleanup(wg.Wait) // the test's context has ended by then
	return m
}

func (m *mirrored) has(t *testing.T, name, version string) {
	t.Helper()
	engine.Eventually(t, 10*time.Second, name+" of version "+version, func() bool {
		w := m.one(name)
		return w != nil && w.Meta.ResourceVersion == version || w == nil && version == ""
	})
}

func TestAMirrorFollowsListsAndWatches(t *testing.T) {
	c := newCollection(t)
	c.items = []object{item("a", "1", 1), item("b", "2", 2), item("c", "3", 3)}
	m := mirrorOf(t, c)
	if v := <-c.begun; v != "10" {
		t.Errorf("it watches from %s", v)
	}
	if c.lists != 2 { // two pages
		t.Errorf("%d pages were asked for", c.lists)
	}
	m.has(t, "c", "3")
	c.news <- event("MODIFIED", item("a", "1", 11))
	m.has(t, "a", "11")
	c.news <- event("MODIFIED", item("a", "1", 9)) // late
	c.news <- event("DELETED", item("b", "2", 12))
	m.has(t, "b", "")
	m.has(t, "a", "11")
	c.news <- event("BOOKMARK", item("", "", 20))
	// The time of the watch is over: it goes on where it was, and lists nothing.
	old := c.news
	c.mu.Lock()
	c.news = make(chan any)
	c.mu.Unlock()
	close(old)
	if v := <-c.begun; v != "20" {
		t.Errorf("it watches again from %s", v)
	}
	if c.lists != 2 {
		t.Errorf("%d pages were asked for", c.lists)
	}
}

func TestAMirrorWhoseVersionExpiredListsAnew(t *testing.T) {
	c := newCollection(t)
	c.items = []object{item("a", "1", 1), item("b", "2", 2)}
	m := mirrorOf(t, c)
	<-c.begun
	c.mu.Lock()
	c.items, c.version = []object{item("b", "2", 2), item("d", "4", 30)}, 31
	c.mu.Unlock()
	c.news <- event("ERROR", object{"code": 410, "message": "too old resource version"})
	if v := <-c.begun; v != "31" {
		t.Errorf("it watches from %s", v)
	}
	m.has(t, "a", "")
	m.has(t, "d", "30")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != 0 {
		t.Error("an expired version counts as an outage")
	}
}

func TestAMirrorThatIsCutOffSaysSoAndMends(t *testing.T) {
	c := newCollection(t)
	m := mirrorOf(t, c)
	<-c.begun
	if err := m.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.broken = true
	c.mu.Unlock()
	c.CloseClientConnections()
	engine.Eventually(t, 10*time.Second, "it says so", func() bool { return m.look(t.Context()) != nil })
	c.mu.Lock()
	c.broken, c.items, c.version = false, []object{item("new", "9", 40)}, 41
	c.mu.Unlock()
	if err := m.look(t.Context()); err != nil { // does not wait for the watch
		t.Errorf("whoever asks after the mend hears %v", err)
	}
	m.has(t, "new", "40")
	if v := <-c.begun; v != "41" {
		t.Errorf("it watches from %s", v)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != 1 {
		t.Errorf("it told %d times that it was lost", m.lost)
	}
}

func TestAMirrorDoesNotTakeBackWhatWasDeletedHere(t *testing.T) {
	c := newCollection(t)
	c.items = []object{item("a", "1", 1)}
	m := mirrorOf(t, c)
	<-c.begun
	m.has(t, "a", "1")
	m.forget("a", "1")
	c.news <- event("MODIFIED", item("a", "1", 15)) // on its way to its end
	c.news <- event("ADDED", item("mark", "5", 16))
	m.has(t, "mark", "16")
	m.has(t, "a", "")
	c.news <- event("DELETED", item("a", "1", 17))
	c.news <- event("ADDED", item("a", "7", 18)) // another of that name
	m.has(t, "a", "18")
}
