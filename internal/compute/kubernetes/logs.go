package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Logs reads the supervisor's file by an agent in the job's pod. A followed log waits for the pod.
func (t *Target) Logs(ctx context.Context, job compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	if _, err := keeper.LogFile(q.Stream); err != nil {
		return q.From, kept.Failed(ctx, err)
	}
	to := &kept.Sink{W: w}
	next := q.From
	for again := range asks {
		if err := kept.Pause(ctx, again); err != nil {
			return next, err
		}
		s, n, err := t.await(ctx, job.Key, q.Follow)
		if err != nil {
			return next, err
		}
		if n == nil || !q.Follow && t.take(t.name(job.Key), 0) != nil {
			return t.rest(s, q, next, to)
		}
		c, err := t.agent(ctx, n)
		if errors.Is(err, errPodOver) {
			continue
		}
		if err != nil {
			return next, err
		}
		before := next
		next, err = c.Logs(ctx, job.Key.String(), q.Stream, next, q.Follow, to)
		switch f, lost := errors.AsType[*keeper.Fault](err); {
		case err == nil:
			return next, nil
		case to.Err != nil:
			return next, to.Err
		case ctx.Err() != nil:
			return next, context.Cause(ctx)
		case lost && f.Cause == keeper.NotFound && q.Follow: // the job is on its way into the pod
			continue
		case lost && f.Cause == keeper.NotFound:
			return next, nil
		case !lost || f.Cause != keeper.Gone || next == before && again > asks/2:
			return next, kept.Failed(ctx, err)
		}
	}
	return next, t.busy(job.Key)
}

// asks is how often an agent is asked anew when the connection is lost, with a pause before each.
const asks = 100

// agent gives the agent of a pod. A pod that cannot be reached is said so within moments.
func (t *Target) agent(ctx context.Context, n *nurse) (*keeper.Client, error) {
	limit, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	c, err := n.have(limit)
	if err != nil && !errors.Is(err, errPodOver) && ctx.Err() == nil {
		if _, ok := errors.AsType[*compute.Error](err); !ok {
			err = unanswering(n.pod, err)
		}
	}
	return c, err
}

// await gives a job's status and who looks after its pod; nobody if none runs. With wait it waits until one does or the job
// has ended.
func (t *Target) await(ctx context.Context, key compute.Key, wait bool) (compute.Status, *nurse, error) {
	e := &ear{names: map[string]bool{}, wake: make(chan struct{}, 1)}
	if wait {
		t.mu.Lock()
		t.ears[e] = true
		t.mu.Unlock()
		defer func() {
			t.mu.Lock()
			delete(t.ears, e)
			t.mu.Unlock()
		}()
	}
	for {
		all, err := t.answer(ctx, []compute.Handle{{Key: key}})
		if err != nil {
			return compute.Status{}, nil, err
		}
		s := all[0]
		w := t.jobs.one(t.name(key))
		if w == nil {
			return s, nil, unknown(key)
		}
		_, n := t.podAt(w, 0)
		if n != nil && n.isEmpty() {
			n = nil
		}
		if n != nil || !wait || s.Phase == compute.Ended {
			return s, n, nil
		}
		select {
		case <-ctx.Done():
			return s, nil, context.Cause(ctx)
		case <-e.wake:
		case <-time.After(slowLook):
		}
		e.mu.Lock()
		err = e.err
		clear(e.names)
		e.mu.Unlock()
		if err != nil {
			return s, nil, t.failed(ctx, err)
		}
	}
}

// rest writes what is known of a log without its pod.
func (t *Target) rest(s compute.Status, q compute.LogQuery, next int64, w io.Writer) (int64, error) {
	x := s.Exit
	if x == nil || q.Stream != "" || x.LogSize <= next {
		return next, nil
	}
	if int64(len(x.Log)) == x.LogSize {
		n, err := io.Copy(w, bytes.NewReader(x.Log[next:]))
		return next + n, err
	}
	return next, podIsGone(s.Key, "log")
}

func podIsGone(key compute.Key, what string) error {
	return &compute.Error{Kind: compute.ErrNotFound, Problem: workspace.Problem{
		Class: workspace.NotFound, Code: "PodGone", Message: "the job's pod is gone, and its " + what + " with it", Target: key.String(),
		Cause: "a pod stays for " + lingering.String() + " after its job, unless the cluster ends it before", Mend: "submit the job again",
	}}
}

// Collect brings outputs home, by agents in the job's pods. Where several nodes have written the same file of an output, the
// first node's counts. What the first process of another node printed comes as rank-N.txt among the logs.
func (t *Target) Collect(ctx context.Context, job compute.Handle, out compute.Outputs) error {
	r := &receiver{Receiver: kept.Receiver{Out: out}, from: map[string]int{}}
	for node, nodes := 0, 1; node < nodes; node++ {
		var err error
		if nodes, err = t.collect(ctx, job.Key, node, r); err != nil {
			return err
		}
	}
	return nil
}

// collect brings home what one node has, and tells how many there are.
func (t *Target) collect(ctx context.Context, key compute.Key, node int, r *receiver) (int, error) {
	r.node = node
	for again := range asks {
		if err := kept.Pause(ctx, again); err != nil {
			return 0, err
		}
		s, _, err := t.await(ctx, key, false)
		if err != nil {
			return 0, err
		}
		w := t.jobs.one(t.name(key))
		if w == nil {
			return 0, unknown(key)
		}
		_, n := t.podAt(w, node)
		if n == nil || n.isEmpty() || t.take(w.Meta.Name, node) != nil {
			if s.Exit != nil && s.Exit.Files {
				return 0, podIsGone(key, "output")
			}
			return w.nodes(), nil
		}
		c, err := t.agent(ctx, n)
		if errors.Is(err, errPodOver) {
			continue
		}
		if err != nil {
			return 0, err
		}
		r.Err = nil
		err = c.Collect(ctx, key.String(), r)
		if err == nil && node > 0 {
			err = t.collectLog(ctx, c, key, node, r)
		}
		switch f, lost := errors.AsType[*keeper.Fault](err); {
		case r.Err != nil:
			return 0, r.Err
		case lost && f.Cause == keeper.NotFound: // it is not in the pod yet
			return w.nodes(), nil
		case lost && f.Cause == keeper.Gone && ctx.Err() == nil:
			continue
		}
		return w.nodes(), kept.Failed(ctx, err)
	}
	return 0, t.busy(key)
}

// collectLog brings home the log of a node that is not the first, when it is complete.
func (t *Target) collectLog(ctx context.Context, c *keeper.Client, key compute.Key, node int, r *receiver) error {
	all, err := c.Status(ctx, []string{key.String()})
	if err != nil || all[0].Exit == nil || all[0].Exit.LogSize == 0 {
		return err
	}
	x := all[0].Exit
	w := t.jobs.one(t.name(key))
	if w == nil {
		return nil
	}
	perNode, _ := strconv.Atoi(w.Meta.Annotations[notePerNode]) // absent: one
	f := compute.File{Path: fmt.Sprintf("rank-%d.txt", node*max(perNode, 1)), Size: x.LogSize, Mode: 0o600, Modified: x.Ended.UnixNano()}
	if !r.Out.Want(compute.LogsFolder, f) {
		return nil
	}
	in, to := io.Pipe()
	go func() { // ends when Put does
		_, err := c.Logs(ctx, key.String(), "", 0, false, to)
		_ = to.CloseWithError(err)
	}()
	r.Err = r.Out.Put(ctx, compute.LogsFolder, f, in)
	_ = in.Close()
	return r.Err
}

// receiver takes what nodes have, each file from the lowest node that has it.
type receiver struct {
	kept.Receiver
	node int
	from map[string]int // by output and path
}

func (r *receiver) Want(f keeper.File) bool {
	name := f.Output + ":" + f.Path
	if n, ok := r.from[name]; ok && n != r.node {
		return false
	}
	r.from[name] = r.node
	return r.Receiver.Want(f)
}

// Dial connects to a TCP port in the pod of a running job.
func (t *Target) Dial(ctx context.Context, job compute.Handle, port int) (net.Conn, error) {
	s, n, err := t.await(ctx, job.Key, false)
	if err != nil {
		return nil, err
	}
	if n == nil || s.Phase != compute.Running {
		return nil, &compute.Error{Kind: compute.ErrNotFound, Problem: workspace.Problem{
			Class: workspace.Conflict, Code: "JobNotRunning", Message: "the job does not run, so nothing listens in it", Mend: "wait until it runs",
		}}
	}
	c, err := t.agent(ctx, n)
	if err != nil {
		return nil, t.failed(ctx, err)
	}
	conn, err := c.Dial(ctx, job.Key.String(), port)
	if err != nil {
		return nil, kept.Failed(ctx, err)
	}
	return conn, nil
}

func unknown(key compute.Key) error {
	return &compute.Error{Kind: compute.ErrNotFound, Problem: workspace.Problem{
		Class: workspace.NotFound, Code: "JobNotFound", Message: "the cluster does not know the job", Target: key.String(), Mend: "submit it again",
	}}
}
