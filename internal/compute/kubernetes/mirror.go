package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// mirror keeps a collection's objects of one attachment in memory by a list and a watch, so that asking how jobs are costs
// no call. While the watch is lost it says so, and whoever asks lists.
type mirror[T any, P interface {
	*T
	meta() *meta
}] struct {
	cluster  *cluster
	of       resource
	selector string
	told     func(name string, o *T) // after a change, without the lock; nil: it is gone
	lost     func(error)             // the watch is

	mu    sync.Mutex
	items map[string]*T   // by name
	gone  map[string]bool // uids that we deleted, until the watch says so too
	live  bool
	ready chan struct{} // closed when the first list or its failure is in
	err   error         // why it is not live
}

func newMirror[T any, P interface {
	*T
	meta() *meta
}](c *cluster, of resource, selector string, told func(string, *T), lost func(error)) *mirror[T, P] {
	return &mirror[T, P]{cluster: c, of: of, selector: selector, told: told, lost: lost, items: map[string]*T{}, gone: map[string]bool{}, ready: make(chan struct{})}
}

const (
	pageSize    = 500
	watchSecond = 300 // of one watch, and up to as many more, so that not all begin anew at once
	// How long after a failure it is tried again.
	leastPause = 100 * time.Millisecond
	mostPause  = 10 * time.Second
)

var errExpired = errors.New("the watch's version has expired")

// run lists and watches until ctx ends.
func (m *mirror[T, P]) run(ctx context.Context) {
	pause := leastPause
	for ctx.Err() == nil {
		version, err := m.list(ctx)
		m.set(err)
		for err == nil {
			if version, err = m.watch(ctx, version); err == nil {
				pause = leastPause
			}
		}
		if errors.Is(err, errExpired) {
			continue
		}
		m.set(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // spreads load
		}
		pause = min(2*pause, mostPause)
	}
}

func (m *mirror[T, P]) set(err error) {
	m.mu.Lock()
	was := m.live
	m.live, m.err = err == nil, err
	select {
	case <-m.ready:
	default:
		close(m.ready)
	}
	m.mu.Unlock()
	if was && err != nil {
		m.lost(err)
	}
}

// look makes sure that what is held is what the cluster has.
func (m *mirror[T, P]) look(ctx context.Context) error {
	select {
	case <-m.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m.mu.Lock()
	live := m.live
	m.mu.Unlock()
	if live {
		return nil
	}
	_, err := m.list(ctx)
	return err
}

// list fetches the collection and gives the version to watch from.
func (m *mirror[T, P]) list(ctx context.Context) (string, error) {
	var all []*T
	query := url.Values{"labelSelector": {m.selector}, "limit": {strconv.Itoa(pageSize)}}
	for {
		var page struct {
			Meta struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string `json:"continue"`
			} `json:"metadata"`
			Items []*T `json:"items"`
		}
		if err := m.cluster.get(ctx, m.cluster.path(m.of), query, &page); err != nil {
			return "", err
		}
		all = append(all, page.Items...)
		if page.Meta.Continue == "" {
			m.replace(all)
			return page.Meta.ResourceVersion, nil
		}
		query.Set("continue", page.Meta.Continue)
	}
}

func (m *mirror[T, P]) replace(all []*T) {
	there := make(map[string]bool, len(all))
	for _, o := range all {
		there[P(o).meta().Name] = true
		m.put(o)
	}
	m.mu.Lock()
	var lost []string
	for name := range m.items {
		if !there[name] {
			lost = append(lost, name)
			delete(m.items, name)
		}
	}
	m.mu.Unlock()
	for _, name := range lost {
		m.told(name, nil)
	}
}

// watch follows changes from a version on and gives the last one. It ends without an error when its time is over.
func (m *mirror[T, P]) watch(ctx context.Context, version string) (string, error) {
	body, err := m.cluster.open(ctx, http.MethodGet, m.cluster.path(m.of), url.Values{
		"labelSelector": {m.selector}, "watch": {"1"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {version},
		"timeoutSeconds": {strconv.Itoa(watchSecond + rand.IntN(watchSecond))}, //nolint:gosec // spreads load
	}, nil)
	if code(err) == http.StatusGone {
		return version, errExpired
	}
	if err != nil {
		return version, err
	}
	defer func() { _ = body.Close() }()
	for in := json.NewDecoder(body); ; {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := in.Decode(&e)
		if errors.Is(err, io.EOF) && ctx.Err() == nil {
			return version, nil
		}
		if err != nil {
			return version, err
		}
		if e.Type == "ERROR" {
			var s struct {
				Code    int    `json:"code"`
				Message string `json:"message"`
			}
			_ = json.Unmarshal(e.Object, &s)
			if s.Code == http.StatusGone {
				return version, errExpired
			}
			return version, fmt.Errorf("the watch ended: %s", s.Message)
		}
		o := new(T)
		if err := json.Unmarshal(e.Object, o); err != nil {
			return version, err
		}
		version = P(o).meta().ResourceVersion
		switch e.Type {
		case "ADDED", "MODIFIED":
			m.put(o)
		case "DELETED":
			m.dropped(o)
		}
	}
}

// put takes a version in, if it is not older than what is held.
func (m *mirror[T, P]) put(o *T) {
	in := P(o).meta()
	m.mu.Lock()
	have := m.items[in.Name]
	old := m.gone[in.UID] || have != nil && P(have).meta().UID == in.UID && !in.newer(*P(have).meta())
	if !old {
		m.items[in.Name] = o
	}
	m.mu.Unlock()
	if !old {
		m.told(in.Name, o)
	}
}

// dropped takes out what the cluster says is gone.
func (m *mirror[T, P]) dropped(o *T) {
	in := P(o).meta()
	m.mu.Lock()
	delete(m.gone, in.UID)
	have := m.items[in.Name]
	was := have != nil && P(have).meta().UID == in.UID
	if was {
		delete(m.items, in.Name)
	}
	m.mu.Unlock()
	if was {
		m.told(in.Name, nil)
	}
}

// forget takes out what we deleted, ahead of the watch.
func (m *mirror[T, P]) forget(name, uid string) {
	m.mu.Lock()
	have := m.items[name]
	was := have != nil && P(have).meta().UID == uid
	if was {
		delete(m.items, name)
		m.gone[uid] = true
	}
	m.mu.Unlock()
	if was {
		m.told(name, nil)
	}
}

func (m *mirror[T, P]) one(name string) *T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.items[name]
}

func (m *mirror[T, P]) each(fn func(*T)) {
	m.mu.Lock()
	all := make([]*T, 0, len(m.items))
	for _, o := range m.items {
		all = append(all, o)
	}
	m.mu.Unlock()
	for _, o := range all {
		fn(o)
	}
}
