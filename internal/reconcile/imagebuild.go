package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// How often what is wanted is looked for without a hint, and how often a build is tried that fails for no fault of its own.
const (
	buildScan  = time.Second
	buildTries = 12
)

var (
	errBuildStopped = errors.New("reconcile: the image is no longer wanted")
	errBuildLost    = errors.New("reconcile: another server builds the image")
)

// Run begins builds that nobody is at, until ctx ends. Then those of this server end too, and another may take them at once.
func (m *Images) Run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	var builds sync.WaitGroup
	defer builds.Wait()
	defer cancel(errStopped)
	free := make(chan struct{}, m.cfg.Parallel)
	scan, sweep := time.NewTicker(buildScan), time.NewTicker(time.Hour)
	defer scan.Stop()
	defer sweep.Stop()
	for {
		m.begin(ctx, free, &builds)
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			if err := m.sweep(ctx); err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("images that nobody uses could not be removed; it is tried again in an hour", "error", err)
			}
		case <-scan.C:
		case <-m.kick:
		}
	}
}

// sweep forgets the builds whose images no job has used for long, and takes the images and logs away.
func (m *Images) sweep(ctx context.Context) error {
	var gone []store.ImageBuild
	before := m.cfg.Clock.Now().Add(-m.cfg.Keep).UnixMilli()
	err := m.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		gone, err = tx.DeleteImageBuilds(ctx, before)
		return err
	})
	for _, b := range gone {
		if b.Log != "" {
			if e := m.cfg.Blob.Delete(ctx, b.Log); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		if m.cfg.Remove == nil || b.Phase != store.ImageReady {
			continue
		}
		ws, e := m.cfg.Store.WorkspaceByID(ctx, b.WorkspaceID)
		if e == nil {
			e = m.cfg.Remove(ctx, ws, b)
		}
		if !errors.Is(e, store.ErrNotFound) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// begin takes as many builds as there is room for.
func (m *Images) begin(ctx context.Context, free chan struct{}, builds *sync.WaitGroup) {
	room := cap(free) - len(free)
	if room == 0 {
		return
	}
	due, err := m.cfg.Store.DueImageBuilds(ctx, room)
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("image builds cannot be listed", "error", err)
	}
	for _, b := range due {
		var ok bool
		b.Holder, b.Started = m.cfg.Holder, m.cfg.Clock.Millis()
		b.Log = fmt.Sprintf("imagelog/%s/%s", b.WorkspaceID, b.Hash)
		err := m.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
			b.Epoch, ok, err = tx.BeginImageBuild(ctx, b.WorkspaceID, b.Hash, b.Holder, b.Log, m.cfg.Lease, b.Started)
			return err
		})
		if err != nil || !ok {
			continue // another was first, or the next scan tries again
		}
		b.Tries++
		free <- struct{}{}
		builds.Go(func() {
			defer func() { <-free; m.wake() }()
			m.run(ctx, b)
		})
	}
}

// run makes one image and writes how it ended.
func (m *Images) run(ctx context.Context, b store.ImageBuild) {
	log := &buildLog{images: m, name: b.Log}
	building, stop := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { m.hold(building, stop, b, log) })
	result, err := m.make(building, b, log)
	cause := context.Cause(building)
	stop(nil)
	beside.Wait()
	if errors.Is(cause, errBuildLost) {
		return
	}
	pause := m.judge(ctx, &b, result, err, cause, log)
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	log.save(late)
	err = m.cfg.Store.Write(late, func(tx *store.Tx) error {
		changed, err := tx.EndImageBuild(late, b, pause)
		if err == nil && changed {
			for h := range m.hints(b) {
				tx.Hint(h.ComputeID, h.JobID)
			}
		}
		return err
	})
	if err != nil {
		m.cfg.Log.Warn("the end of an image build cannot be written; it is built again", "image", b.Hash, "error", err)
	}
}

// judge says how a build ended, and after what pause it is tried again.
func (m *Images) judge(ctx context.Context, b *store.ImageBuild, result image.Result, err, cause error, log *buildLog) (pause time.Duration) {
	b.Ended, b.Problem = m.cfg.Clock.Millis(), nil
	switch {
	case err == nil:
		b.Phase, b.Image, b.Digest = store.ImageReady, result.Name, result.Digest
		m.cfg.Log.Info("image built", "image", result.Name, "digest", result.Digest)
		return 0
	case errors.Is(cause, errBuildStopped):
		b.Phase = store.ImageCanceled
		fmt.Fprintln(log, "the build was canceled")
		return 0
	case ctx.Err() != nil: // the server stops
		b.Phase, b.Ended = store.ImageWanted, 0
		return 0
	}
	b.Phase, b.Problem = store.ImageFailed, problem(err)
	fmt.Fprintln(log, "error:", b.Problem.Error())
	m.cfg.Log.Warn("an image could not be built", "image", b.Hash, "error", err)
	if verdict(err) || b.Tries >= buildTries {
		return 0
	}
	b.Phase, b.Ended = store.ImageWanted, 0
	return min(backoffFirst<<min(b.Tries, 10), time.Minute)
}

// hold keeps the build this server's, and ends it when it is no longer wanted. It brings the log home.
func (m *Images) hold(ctx context.Context, stop context.CancelCauseFunc, b store.ImageBuild, log *buildLog) {
	tick := time.NewTicker(min(m.cfg.Lease/5, time.Second))
	defer tick.Stop()
	renewed := m.cfg.Clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		log.save(ctx)
		var held, end bool
		err := m.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
			held, end, err = tx.RenewImageBuild(ctx, b, m.cfg.Lease)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !held, err != nil && m.cfg.Clock.Now().Sub(renewed) > m.cfg.Lease:
			stop(errBuildLost)
			return
		case err == nil && end:
			stop(errBuildStopped)
			return
		case err == nil:
			renewed = m.cfg.Clock.Now()
		}
	}
}

// make has the builder make what a row asks for.
func (m *Images) make(ctx context.Context, b store.ImageBuild, log *buildLog) (image.Result, error) {
	var r imageRecipe
	if err := json.Unmarshal(b.Recipe, &r); err != nil {
		return image.Result{}, fmt.Errorf("reconcile: image %s: %w", b.Hash, err)
	}
	ws, err := m.cfg.Store.WorkspaceByID(ctx, b.WorkspaceID)
	if err != nil {
		return image.Result{}, err
	}
	builder, err := m.cfg.Builder(ctx, ws, b.Place)
	if err != nil {
		return image.Result{}, err
	}
	for _, line := range r.Say {
		fmt.Fprintln(log, line)
	}
	recipe := image.Recipe{Platform: r.Platform, Base: r.Base}
	if recipe.Name, err = m.cfg.Name(ctx, ws, b.Place, b.Hash); err != nil {
		return image.Result{}, err
	}
	if p := r.Packages; p != nil {
		recipe.Packages = &image.Packages{Requirements: p.Requirements, Flags: p.Flags, Python: p.Python, Exact: p.Exact}
	}
	if c := r.Build; c != nil {
		recipe.Dockerfile = &image.Dockerfile{Path: c.Path, Text: c.Text}
		if c.Tree != "" {
			recipe.Dockerfile.Context = treeSource{cas: m.cfg.CAS, root: snapshot.Hash(c.Tree)}
		}
	}
	if recipe.Logins, err = m.logins(ctx, ws, recipe); err != nil {
		return image.Result{}, err
	}
	return builder.Build(ctx, recipe, log)
}

// logins are those for the bases of a recipe, and no others.
func (m *Images) logins(ctx context.Context, ws workspace.Workspace, r image.Recipe) ([]image.Login, error) {
	if m.cfg.Login == nil {
		return nil, nil
	}
	bases := []string{r.Base}
	if r.Dockerfile != nil {
		var err error
		if bases, err = r.Dockerfile.Bases(ctx); err != nil {
			return nil, err
		}
	}
	var logins []image.Login
	for _, base := range bases {
		l, err := m.cfg.Login(ctx, ws, base)
		if err != nil {
			return nil, err
		}
		if l != nil {
			logins = append(logins, image.Login(*l))
		}
	}
	return logins, nil
}

// Cancel ends a build. It is over within about a second, or was already.
func (m *Images) Cancel(ctx context.Context, ws workspace.Workspace, hash string) error {
	return m.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.CancelImageBuild(ctx, ws.ID, hash, m.cfg.Clock.Millis()) })
}

// maxBuildLog bounds the log of a build, in bytes.
const maxBuildLog = 4 << 20

// buildLog is the log of a build: kept here, and saved whole in a blob now and then.
type buildLog struct {
	images *Images
	name   string

	mu    sync.Mutex
	b     bytes.Buffer
	full  bool
	saved int
}

// Write takes all; what is over maxBuildLog is dropped, which the log says.
func (l *buildLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.full:
	case l.b.Len()+len(p) > maxBuildLog:
		l.full = true
		l.b.WriteString("\n[the rest of this log was dropped: it is too long]\n")
	default:
		l.b.Write(p)
	}
	return len(p), nil
}

// save brings the log home, if it has grown since.
func (l *buildLog) save(ctx context.Context) {
	l.mu.Lock()
	text := bytes.Clone(l.b.Bytes())
	l.mu.Unlock()
	if len(text) == l.saved {
		return
	}
	if _, err := l.images.cfg.Blob.Put(ctx, l.name, bytes.NewReader(text), int64(len(text)), textLog); err != nil {
		if ctx.Err() == nil {
			l.images.cfg.Log.Warn("the log of an image build cannot be kept", "error", err)
		}
		return
	}
	l.saved = len(text)
}
