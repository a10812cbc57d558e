package kubernetes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// nurse looks after one running pod: brings the keeper and the job, keeps an agent there, by which the job reaches the server
// and its changes are told, and ends with the pod.
type nurse struct {
	t    *Target
	pod  string
	at   seat
	job  string // name of the Job
	key  compute.Key
	ctx  context.Context //nolint:containedctx // ends with the pod
	stop context.CancelFunc
	wake chan struct{} // there is a job to hand over

	mu     sync.Mutex
	client *keeper.Client
	known  bool  // status or empty is as the pod has it
	empty  bool  // it has no keeper yet
	err    error // of the last attempt to reach it
	tried  chan struct{}
	status keeper.Status
}

func newNurse(t *Target, p *pod) *nurse {
	n := &nurse{t: t, pod: p.Meta.Name, at: seat{p.owner(), p.index()}, job: p.Meta.Labels[labelOwner], wake: make(chan struct{}, 1), tried: make(chan struct{})}
	n.key, _ = t.key(p.Meta)
	n.ctx, n.stop = context.WithCancel(t.ctx)
	return n
}

const (
	leastAgain = 50 * time.Millisecond
	mostAgain  = 15 * time.Second
	// dialLimit bounds bringing the keeper and starting an agent.
	dialLimit = time.Minute
	// slowLook is how often an agent is asked although it tells of changes.
	slowLook = 10 * time.Second
)

func (n *nurse) run() {
	defer n.stop()
	for again := leastAgain; n.ctx.Err() == nil; again = min(2*again, mostAgain) {
		c, err := n.dial()
		if err == nil {
			again = leastAgain
			err = n.serve(c)
			_ = c.Close()
		}
		n.set(func() { n.client, n.err, n.known = nil, err, n.known && err == nil })
		if err != nil {
			n.t.env.Log.Debug("no agent in the pod", "pod", n.pod, "error", err)
		}
		wait := time.After(again)
		if errors.Is(err, errEmpty) {
			n.set(func() { n.empty, n.known = true, true })
			wait = nil // it waits for a job
		}
		select {
		case <-n.ctx.Done():
		case <-n.wake:
		case <-wait:
		}
	}
}

// set changes what is known and tells of it.
func (n *nurse) set(change func()) {
	n.mu.Lock()
	change()
	select {
	case <-n.tried:
	default:
		if n.known || n.err != nil {
			close(n.tried)
		}
	}
	n.mu.Unlock()
	n.t.hear(n.job)
}

// errEmpty says that a pod has no keeper and there is no job to bring.
var errEmpty = errors.New("the pod has no keeper yet")

var errSlow = fmt.Errorf("the pod did not answer within %s", dialLimit)

// dial starts an agent in the pod. If it has no keeper and there is a job to hand over, the keeper is brought first.
func (n *nurse) dial() (*keeper.Client, error) {
	n.mu.Lock()
	there := n.known && !n.empty
	n.mu.Unlock()
	give := !there && n.t.take(n.job, n.at.index) != nil
	if give {
		select {
		case n.t.room <- struct{}{}:
			defer func() { <-n.t.room }()
		case <-n.ctx.Done():
			return nil, context.Cause(n.ctx)
		}
	}
	ctx, cancel := context.WithTimeoutCause(n.ctx, dialLimit, errSlow)
	defer cancel()
	e, err := n.t.cluster.exec(ctx, n.pod, "/bin/sh", "-c", starting)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = e.Close() })
	out := bufio.NewReader(e)
	err = n.bring(out, e, give)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	return keeper.Dial(ctx, stream{out, e}, keeper.Options{
		Server: scopeServer, Compute: scopeCompute, Slots: 1, CA: n.t.env.CA, Objects: n.t.env.Objects, Log: n.t.env.Log,
		WayBack: func(_ string, conn net.Conn) { n.t.wayBack(n.key, conn) },
	})
}

// stream is a program's standard input and output, of which something was read ahead.
type stream struct {
	io.Reader
	io.WriteCloser
}

// bring streams the keeper for the node's architecture to the script that starts an agent, if the pod has none.
func (n *nurse) bring(out *bufio.Reader, to io.Writer, give bool) error {
	machine, err := out.ReadString('\n')
	if err != nil {
		return err
	}
	machine = strings.TrimSpace(machine)
	if machine == "there" {
		return nil
	}
	if !give {
		return errEmpty
	}
	if n.t.env.Keeper == nil {
		return invalid("there is no keeper program for pods", nil)
	}
	k, err := n.t.env.Keeper("linux", goarch(machine))
	if err != nil {
		return err
	}
	r, err := k.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	blocks := (k.Size + blockSize - 1) / blockSize
	if _, err := fmt.Fprintf(to, "%d\n", blocks); err != nil {
		return err
	}
	size, err := io.Copy(to, r)
	if err == nil && size != k.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	_, err = to.Write(make([]byte, blocks*blockSize-size))
	return err
}

// goarch is Go's word for what uname calls a machine.
func goarch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

// serve uses an agent until it is gone.
func (n *nurse) serve(c *keeper.Client) error {
	n.set(func() { n.client, n.err, n.empty = c, nil, false })
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		_ = c.Watch(ctx, n.told)
		_ = c.Close() // without it nothing is heard
	})
	tick := time.NewTicker(slowLook)
	defer tick.Stop()
	for {
		if err := n.handOver(ctx, c); err != nil {
			return err
		}
		s, err := c.Status(ctx, []string{n.key.String()})
		if err != nil {
			return err
		}
		n.told(s[0])
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Done():
			return errors.New("the agent in the pod ended")
		case <-n.wake:
		case <-tick.C:
		}
	}
}

// told takes in how the job is, unless it is older than what is known: answers and news overtake each other. An end is kept
// beyond the pod's.
func (n *nurse) told(s keeper.Status) {
	n.mu.Lock()
	old := n.known && order[s.Phase] < order[n.status.Phase]
	n.mu.Unlock()
	if old {
		return
	}
	n.t.mu.Lock()
	if s.Phase != keeper.Missing {
		n.t.last[n.at] = s
	}
	n.t.mu.Unlock()
	n.set(func() { n.status, n.known = s, true })
	if s.Phase == keeper.Ended && s.Exit != nil && s.Exit.Outcome != keeper.Succeeded {
		n.endOthers()
	}
}

// order is that of a job's life.
var order = map[keeper.Phase]int{keeper.Waiting: 1, keeper.Preparing: 1, keeper.Running: 2, keeper.Ended: 3}

// handOver submits the job that waits for the pod, if there is one. Only a verdict ends it; anything else is tried again.
func (n *nurse) handOver(ctx context.Context, c *keeper.Client) error {
	job := n.t.take(n.job, n.at.index)
	if job == nil || !n.together(job) {
		return nil
	}
	if err := n.t.fence(ctx, job.Epoch); err != nil {
		if errors.Is(err, compute.ErrStale) {
			n.t.drop(n.job)
			return nil
		}
		return err
	}
	secrets := make(map[string]string, len(job.Secrets))
	for name, s := range job.Secrets {
		secrets[name] = s.Reveal()
	}
	s, err := c.Submit(ctx, n.key.String(), job.Epoch, n.words(job), secrets)
	if f, ok := errors.AsType[*keeper.Fault](err); ok && (f.Cause == keeper.Invalid || f.Cause == keeper.Stale) {
		if f.Cause == keeper.Invalid {
			n.t.condemn(ctx, n.job, f.Problem)
		}
		n.t.drop(n.job)
		return nil
	}
	if err != nil {
		return err
	}
	n.told(s)
	n.t.handed(n.job, n.at.index)
	return nil
}

// together tells whether all pods of the job run: those of a job on several nodes begin at the same time.
func (n *nurse) together(job *compute.Job) bool {
	w := n.t.jobs.one(n.job)
	return w != nil && len(n.t.all(w)) >= max(job.Ranks.Nodes, 1)
}

// words is the job as the keeper in this pod is told it.
func (n *nurse) words(job *compute.Job) keeper.Job {
	k := kept.Job(*job)
	k.GPUs = 0 // the kubelet has allotted them
	if k.Ranks != nil && job.Ranks.Nodes > 1 {
		ranks := *k.Ranks
		ranks.Node, ranks.Host = n.at.index, n.job+"-{{node}}."+n.job
		k.Ranks = &ranks
	}
	return k
}

// endOthers ends the job's other pods' part of it, when this one's has failed.
func (n *nurse) endOthers() {
	w := n.t.jobs.one(n.job)
	if w == nil || w.nodes() == 1 {
		return
	}
	epoch, _ := strconv.ParseInt(w.Meta.Annotations[noteEpoch], 10, 64) // ours
	for _, other := range n.t.all(w) {
		other.mu.Lock()
		c, over := other.client, other.status.Phase == keeper.Ended
		other.mu.Unlock()
		if other == n || c == nil || over {
			continue
		}
		n.t.wg.Go(func() {
			ctx, cancel := context.WithTimeout(other.ctx, agentPatience)
			defer cancel()
			if err := c.Cancel(ctx, other.key.String(), epoch); err != nil {
				n.t.env.Log.Debug("the other nodes of a failed job could not be ended", "pod", other.pod, "error", err)
			}
		})
	}
}

func (t *Target) wayBack(key compute.Key, conn net.Conn) {
	if t.env.WayBack == nil {
		_ = conn.Close()
		return
	}
	t.env.WayBack(key, conn)
}

// have waits for an agent in a job's pod, for as long as the pod runs and ctx lasts.
func (n *nurse) have(ctx context.Context) (*keeper.Client, error) {
	for {
		n.mu.Lock()
		c, err := n.client, n.err
		n.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return nil, unanswering(n.pod, err)
			}
			return nil, context.Cause(ctx)
		case <-n.ctx.Done():
			return nil, errPodOver
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errPodOver = errors.New("the pod is over")

func unanswering(pod string, err error) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "PodUnreachable", Message: "no agent can be started in pod " + pod, Cause: err.Error(),
		Mend: "look whether the node answers: kubectl exec " + pod + " -- true",
	}}
}
