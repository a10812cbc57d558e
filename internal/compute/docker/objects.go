package docker

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
)

// Objects that jobs need, and the keeper, are in a volume of the attachment, the store, which containers of jobs have as
// their folder of objects, to read only. Only what it lacks is sent, by the archive API, into a container beside it that is
// never started, the porter:
//
//	ab/HASH        objects; a tree comes after all that is below it
//	keeper/HASH    the keeper program
//	index/ID       "name size" of all that one upload brought, written last
//
// A store's name is never used again, and nothing in it is ever removed: a store that is too large is followed by a new
// one, and goes when no container has it any more. So what an index lists is there for as long as the store is. Whether it
// is, the list of volumes tells, which a submit asks for anyway: before the job's container is made, and again when that
// container holds on to it.
type objects struct {
	mu     sync.Mutex
	store  string           // the volume that known is of; empty: none is known
	known  map[string]int64 // what is in it, and its size
	size   int64
	broken map[string]bool // stores in which a supervisor missed something
}

const (
	storeFolder = "/store" // of a porter
	indexFolder = "index"
	// storeLimit is the size in bytes at which a store is followed by a new one.
	storeLimit = 20 << 30
)

// supply gives the name of the store, and what brings it all that a job needs and it lacks. send is called once, and
// nobody else sends anything until it has returned: what two would send at once, they would overwrite for each other's jobs.
func (t *Target) supply(ctx context.Context, there volumes, job compute.Job) (store string, send func() error, err error) {
	done, err := t.turns.Take(ctx, "objects")
	if err != nil {
		return "", nil, err
	}
	store, c, err := t.missing(ctx, there, job)
	if err != nil {
		done()
		return "", nil, err
	}
	if len(c.items) == 0 {
		done()
		return store, func() error { return nil }, nil
	}
	return store, func() error {
		defer done()
		err := t.withPorter(ctx, store, func(porter string) error {
			return t.upload(ctx, porter, storeFolder, func(a *archive) error { return c.write(ctx, a, t.env.Clock.NewID()) })
		})
		if err == nil {
			t.objects.add(store, c.items)
		}
		return t.failed(ctx, err)
	}, nil
}

// missing gives the store, and what it lacks of a job.
func (t *Target) missing(ctx context.Context, there volumes, job compute.Job) (string, cargo, error) {
	c := cargo{objects: t.env.Objects, have: t.objects.has, seen: map[string]bool{}}
	p, err := t.platform(ctx)
	if err != nil {
		return "", c, err
	}
	if newest := there.newest(); newest == "" || !t.objects.isOf(newest) { // one may have been made while the turn was another's
		if there, err = t.volumes(ctx); err != nil {
			return "", c, err
		}
	}
	store, err := t.choose(ctx, there)
	if err != nil {
		return "", c, err
	}
	err = c.job(ctx, p.keeper, job)
	return store, c, err
}

// choose gives the store to be used now: the newest that is there, unless it is too large.
func (t *Target) choose(ctx context.Context, there volumes) (string, error) {
	newest := there.newest()
	if newest != "" && !t.objects.isOf(newest) {
		if err := t.readIndex(ctx, newest); err != nil {
			return "", err
		}
	}
	if newest != "" && t.objects.good(newest) {
		return newest, nil
	}
	labels := t.labels()
	labels[labelStore] = "1"
	name := t.volume("objects." + strings.ToLower(t.env.Clock.NewID()))
	if _, err := t.engine.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels}); err != nil {
		return "", t.failed(ctx, err)
	}
	if err := t.porter(ctx, name); err != nil {
		return "", t.failed(ctx, err)
	}
	t.objects.reset(name)
	for _, old := range there.stores { // those in use stay, and are tried again with the next
		_, _ = t.engine.ContainerRemove(ctx, t.porterName(old), client.ContainerRemoveOptions{})
		_, _ = t.engine.VolumeRemove(ctx, old, client.VolumeRemoveOptions{})
	}
	return name, nil
}

func (t *Target) porterName(store string) string { return store + ".porter" }

// porter makes the container by which a store is written and its index read.
func (t *Target) porter(ctx context.Context, store string) error {
	o := client.ContainerCreateOptions{
		Name:   t.porterName(store),
		Config: &container.Config{Image: emptyImage, Labels: t.labels(), Entrypoint: []string{"/nothing"}, Cmd: []string{}},
		HostConfig: &container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{
			// Its labels count only if it is not there: then it is none, and is found out.
			{Type: mount.TypeVolume, Source: store, Target: storeFolder, VolumeOptions: &mount.VolumeOptions{Labels: t.labels()}},
		}},
	}
	_, err := t.engine.ContainerCreate(ctx, o)
	if gone(err) {
		if err = t.makeEmpty(ctx); err == nil {
			_, err = t.engine.ContainerCreate(ctx, o)
		}
	}
	if conflict(err) { // another was faster
		return nil
	}
	return err
}

// withPorter calls fn with the name of a store's porter, which it makes if somebody removed it.
func (t *Target) withPorter(ctx context.Context, store string, fn func(porter string) error) error {
	var err error
	for again := range tries {
		if err := kept.Pause(ctx, again); err != nil {
			return err
		}
		err = fn(t.porterName(store))
		if !gone(err) || !strings.Contains(err.Error(), "No such container") {
			return err
		}
		if err := t.porter(ctx, store); err != nil {
			return err
		}
	}
	return err
}

// readIndex learns what a store has that this process does not know.
func (t *Target) readIndex(ctx context.Context, store string) error {
	var items []item
	err := t.withPorter(ctx, store, func(porter string) error {
		r, err := t.engine.CopyFromContainer(ctx, porter, client.CopyFromContainerOptions{SourcePath: path.Join(storeFolder, indexFolder)})
		if err != nil {
			return err
		}
		defer func() { _ = r.Content.Close() }()
		items, err = parseIndex(r.Content)
		return err
	})
	if err != nil && !gone(err) { // gone: nothing was sent yet
		return t.failed(ctx, err)
	}
	t.objects.reset(store)
	t.objects.add(store, items)
	return nil
}

func parseIndex(r io.Reader) ([]item, error) {
	var all []item
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		for lines := bufio.NewScanner(in); lines.Scan(); {
			name, size, _ := strings.Cut(lines.Text(), " ")
			if n, err := strconv.ParseInt(size, 10, 64); err == nil {
				all = append(all, item{name: name, size: n})
			}
		}
	}
}

func (o *objects) isOf(store string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store == store
}

func (o *objects) good(store string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store == store && o.size < storeLimit && !o.broken[store]
}

func (o *objects) has(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.known[name]
	return ok
}

func (o *objects) reset(store string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.store, o.known, o.size = store, map[string]int64{}, 0
}

func (o *objects) add(store string, items []item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.store != store {
		return
	}
	for _, i := range items {
		if _, ok := o.known[i.name]; !ok {
			o.known[i.name] = i.size
			o.size += i.size
		}
	}
}

// distrust makes the next job use a new store.
func (o *objects) distrust(store string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken == nil {
		o.broken = map[string]bool{}
	}
	o.broken[store] = true
}

// newest is the store made last; empty: there is none.
func (v volumes) newest() string {
	if len(v.stores) == 0 {
		return ""
	}
	return v.stores[len(v.stores)-1]
}

// holds tells whether the store that a container was made with is one that was listed.
func (v volumes) holds(store string) bool { return slices.Contains(v.stores, store) }
