package docker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// pulls are the pulls under way. Jobs that want the same image by the same login share one.
type pulls struct {
	mu    sync.Mutex
	known map[string]*pull
}

// pull brings one image to the engine.
type pull struct {
	log  pullLog
	done chan struct{} // closed when it is over
	err  error         // why it failed; set before done is closed

	name  string
	users int // guarded by pulls.mu
	stop  context.CancelFunc
}

// pullImage joins the pull of an image, or begins one, which ends with the target, or when everybody has left it.
func (t *Target) pullImage(image string, login *compute.Login) *pull {
	name := pullName(image, login)
	t.pulls.mu.Lock()
	defer t.pulls.mu.Unlock()
	if p := t.pulls.known[name]; p != nil {
		p.users++
		return p
	}
	p := &pull{done: make(chan struct{}), name: name, users: 1}
	ctx, stop := context.WithCancel(t.ctx)
	p.stop = stop
	if t.pulls.known == nil {
		t.pulls.known = map[string]*pull{}
	}
	t.pulls.known[name] = p
	t.wg.Go(func() {
		p.err = t.pullAgain(ctx, image, login, &p.log)
		t.pulls.forget(p)
		stop()
		p.log.end()
		close(p.done)
	})
	return p
}

// pullName tells pulls apart. It holds no secret.
func pullName(image string, login *compute.Login) string {
	if login == nil {
		return image
	}
	sum := sha256.Sum256([]byte(login.Server + "\x00" + login.Username + "\x00" + login.Password.Reveal()))
	return image + "\x00" + string(sum[:])
}

func (p *pulls) forget(one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[one.name] == one {
		delete(p.known, one.name)
	}
}

// leave ends a pull that nobody waits for any more.
func (p *pulls) leave(one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.users--; one.users == 0 {
		one.stop()
		if p.known[one.name] == one {
			delete(p.known, one.name)
		}
	}
}

const maxPullWait = 5 * time.Second

// pullAgain pulls until that succeeds or the engine says no. An engine that is away is waited for: it goes on with the
// layers that it has.
func (t *Target) pullAgain(ctx context.Context, image string, login *compute.Login, log *pullLog) error {
	auth, err := header(login)
	if err != nil {
		return err
	}
	log.say("pulling image %s", image)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, maxPullWait) {
		err := t.pullOnce(ctx, image, auth, log)
		if err == nil {
			log.say("image %s is at the engine", image)
			return nil
		}
		if _, no := errors.AsType[refusal](err); no || ctx.Err() != nil {
			return err
		}
		log.say("the engine does not answer, it is tried again: %v", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// refusal is what the engine or the registry answered, as opposed to a connection that was lost.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (t *Target) pullOnce(ctx context.Context, image, auth string, log *pullLog) error {
	r, err := t.engine.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		if client.IsErrConnectionFailed(err) || ctx.Err() != nil {
			return err
		}
		return refusal{err}
	}
	defer func() { _ = r.Close() }()
	for m, err := range r.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if m.Error != nil {
			return refusal{m.Error}
		}
		log.progress(m)
	}
	// A connection that ends between two messages looks like the end of the pull.
	if _, err := t.engine.ImageInspect(ctx, image); err != nil {
		if gone(err) {
			return errors.New("the pull ended before the image was there")
		}
		return err
	}
	return nil
}

// header is a login as the engine passes it on to the registry. It is not kept.
func header(login *compute.Login) (string, error) {
	if login == nil {
		return "", nil
	}
	b, err := json.Marshal(registry.AuthConfig{Username: login.Username, Password: login.Password.Reveal(), ServerAddress: login.Server})
	return base64.URLEncoding.EncodeToString(b), err
}

// notPulled makes a problem of the registry's own words.
func notPulled(image string, err error) workspace.Problem {
	p := workspace.Problem{Class: workspace.Invalid, Code: "ImageNotPulled", Message: "image " + image + " could not be pulled", Target: image, Cause: err.Error()}
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(p.Cause), w) })
	}
	switch {
	case says("no matching manifest", "does not match the specified platform"):
		p.Code, p.Mend = "ImageForeign", "choose an image that is built for the engine's platform, or attach another engine"
	case says("unauthorized", "authentication required", "denied", "no basic auth credentials", "forbidden", "incorrect username or password"):
		p.Code, p.Class = "ImageDenied", workspace.Denied
		p.Mend = "check the name; if the image is private, give the workspace a login for its registry"
	case says("manifest unknown", "not found", "does not exist", "name unknown"):
		p.Code, p.Mend = "ImageUnknown", "correct the image's name and tag, or push it to the registry first"
	case says("no such host", "connection refused", "i/o timeout", "no route to host", "deadline exceeded", "network is unreachable", "certificate", "server gave http response"):
		p.Code, p.Class = "RegistryUnreachable", workspace.Unavailable
		p.Mend = "correct the registry in the image's name, or let the engine's machine reach it (DNS, proxy, certificates of the engine)"
	case says("no space left"):
		p.Code, p.Class, p.Mend = "DiskFull", workspace.Unavailable, "free some room at the engine, e.g. with docker image prune, then submit the job again"
	default:
		p.Mend = "try docker pull " + image + " on the engine's machine"
	}
	return p
}

// pullLog is the log of a pull. Readers wait for more of it.
type pullLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	over  bool
	more  chan struct{} // closed when there is more, or it is over
	bytes map[string][2]int64
	shown time.Time
}

const (
	maxPullLog = 1 << 20
	showPull   = 2 * time.Second // between two lines that tell how much has come
)

func (l *pullLog) say(text string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(fmt.Sprintf(text, args...))
}

func (l *pullLog) line(text string) {
	if l.text.Len()+len(text) > maxPullLog {
		return
	}
	l.text.WriteString(text + "\n")
	l.wake()
}

func (l *pullLog) wake() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

func (l *pullLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.wake()
}

// progress writes what the engine tells: each step of a layer, and now and then how much of all layers has come.
func (l *pullLog) progress(m jsonstream.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := m.Progress; p != nil && p.Total > 0 {
		if m.Status == "Downloading" {
			if l.bytes == nil {
				l.bytes = map[string][2]int64{}
			}
			l.bytes[m.ID] = [2]int64{p.Current, p.Total}
			l.sum()
		}
		return
	}
	switch {
	case m.Status == "":
	case m.Status == "Downloading" || m.Status == "Extracting" || m.Status == "Waiting":
	case m.ID != "":
		l.line(m.ID + ": " + m.Status)
	default:
		l.line(m.Status)
	}
}

func (l *pullLog) sum() {
	if time.Since(l.shown) < showPull {
		return
	}
	l.shown = time.Now()
	var have, all int64
	for b := range maps.Values(l.bytes) {
		have, all = have+b[0], all+b[1]
	}
	l.line(fmt.Sprintf("%.1f of %.1f MB of %d layers", float64(have)/1e6, float64(all)/1e6, len(l.bytes)))
}

// all is the log so far.
func (l *pullLog) all() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text.Bytes())
}

// copyTo writes the log from an offset on, with follow until it is over, and gives the offset after it.
func (l *pullLog) copyTo(ctx context.Context, from int64, follow bool, w io.Writer) (int64, error) {
	for {
		l.mu.Lock()
		var rest []byte
		if from < int64(l.text.Len()) {
			rest = bytes.Clone(l.text.Bytes()[from:])
		}
		over := l.over
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		n, err := w.Write(rest)
		from += int64(n)
		if err != nil || over || !follow {
			return from, err
		}
		select {
		case <-ctx.Done():
			return from, context.Cause(ctx)
		case <-more:
		}
	}
}
