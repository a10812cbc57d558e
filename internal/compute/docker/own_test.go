package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 20 * time.Second

// bench is one engine for the tests of this file.
type bench struct {
	*engine.Docker
	keeper func(goos, goarch string) (compute.Program, error)
}

// attach opens an attachment of its own.
func (b bench) attach(t *testing.T, change func(*Settings, *compute.Env)) *Target {
	t.Helper()
	return b.at(t, "docker+unix://"+b.Socket, func(s *Settings, env *compute.Env) {
		s.Image = b.Image
		if change != nil {
			change(s, env)
		}
	})
}

// at opens an attachment at an address.
func (b bench) at(t *testing.T, address string, change func(*Settings, *compute.Env)) *Target {
	t.Helper()
	s := Settings{Address: address, Slots: 4, Network: "none"}
	env := compute.Env{
		Server: "server", Compute: strings.ToLower(clock.System().NewID()), Clock: clock.System(), Objects: &computetest.Objects{}, Keeper: b.keeper,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&s, &env)
	}
	target, err := Driver{}.Open(t.Context(), settings(t, s), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target.(*Target)
}

func job(t *Target, command string) compute.Job {
	return compute.Job{
		Key:   compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: clock.System().NewID(), Attempt: 1},
		Epoch: 1, Name: "test", Command: command, Grace: time.Second,
	}
}

func submit(t *testing.T, target *Target, j compute.Job) compute.Handle {
	t.Helper()
	if _, err := target.Submit(t.Context(), j); err != nil {
		t.Fatalf("submit: %v", err)
	}
	return compute.Handle{Key: j.Key}
}

func until(t *testing.T, target *Target, h compute.Handle, phase compute.Phase) compute.Status {
	t.Helper()
	var s compute.Status
	defer func() {
		if s.Phase != phase {
			t.Logf("the job's last status: %+v", s)
		}
	}()
	engine.Eventually(t, waitLimit, "job "+string(phase), func() bool {
		all, err := target.Status(context.Background(), []compute.Handle{h})
		if err != nil {
			t.Fatalf("status: %v", err)
		}
		s = all[0]
		return s.Phase == phase
	})
	return s
}

func logOf(t *testing.T, target *Target, h compute.Handle) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{}, &b); err != nil {
		t.Fatalf("logs: %v", err)
	}
	return b.String()
}

func TestOnOneEngine(t *testing.T) {
	b := bench{Docker: engine.StartDocker(t), keeper: keeperProgram(t)}
	for _, c := range []struct {
		promise string
		run     func(*testing.T, bench)
	}{
		{"DetachLeavesTheEngineAsItWas", detachLeavesNothing},
		{"ReleaseLeavesNoContainer", releaseLeavesNothing},
		{"SecretsAreNotKeptByTheEngine", secretsAreNotKept},
		{"JobWhoseContainerIsKilledIsLost", killedIsLost},
		{"SubmitThatWasBrokenOffIsTakenOver", brokenIsTakenOver},
		{"SubmitUnderWayIsStoppedByACancel", cancelStopsSubmit},
		{"MissingImageIsNamed", imageIsNamed},
		{"ImageIsPulledOnceForAllWhoWantIt", imageIsPulled},
		{"CancelEndsAPull", cancelEndsPull},
		{"PullIsTakenUpAfterARestart", pullIsTakenUp},
		{"CancelByAnotherServerEndsAPull", canceledElsewhere},
		{"FailedPullIsSaidInTheRegistrysWords", failedPullIsSaid},
		{"JobWithoutAnImageIsRefused", noImageIsRefused},
		{"OnlyChangesAreSent", onlyChangesAreSent},
		{"RemovedStoreIsMadeAnew", removedStoreIsMadeAnew},
		{"LostObjectIsSentAnew", lostObjectIsSentAnew},
		{"FullStoreIsFollowedByANewOne", fullStoreIsFollowed},
		{"JobsThatSendTheSameAtOnceFindItWhole", manyAtOnce},
		{"ResourcesAreGiven", resourcesAreGiven},
		{"MemoryOverTheLimitIsSaid", memoryRunsOut},
		{"PortOfAJobIsReached", portIsReached},
		{"JobsGoOnWhileTheEngineIsDead", engineDies}, // last: the others need it
	} {
		t.Run(c.promise, func(t *testing.T) { c.run(t, b) })
	}
}

// things are all that the engine holds of ours.
func things(t *testing.T, target *Target) []string {
	t.Helper()
	var all []string
	c, err := target.engine.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range c.Items {
		all = append(all, "container "+c.Names[0])
	}
	v, err := target.engine.VolumeList(t.Context(), client.VolumeListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range v.Items {
		all = append(all, "volume "+v.Name)
	}
	i, err := target.engine.ImageList(t.Context(), client.ImageListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range i.Items {
		all = append(all, "image "+i.ID)
	}
	slices.Sort(all)
	return all
}

func detachLeavesNothing(t *testing.T, b bench) {
	target := b.attach(t, nil)
	before := things(t, target)
	h := submit(t, target, job(target, "exit 3"))
	until(t, target, h, compute.Ended)
	if err := target.Cancel(t.Context(), compute.Handle{Key: job(target, "").Key}, 2); err != nil { // a tombstone
		t.Fatal(err)
	}
	until(t, target, submit(t, target, withEpoch(job(target, "sleep 60"), 2)), compute.Running)
	if len(things(t, target)) <= len(before) {
		t.Fatal("the jobs left nothing, so there is nothing to remove")
	}
	if err := target.RemoveAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := things(t, target); !slices.Equal(after, before) {
		t.Errorf("after detaching there is %v, before %v", after, before)
	}
}

func withEpoch(j compute.Job, epoch int64) compute.Job {
	j.Epoch = epoch
	return j
}

func releaseLeavesNothing(t *testing.T, b bench) {
	target := b.attach(t, nil)
	h := submit(t, target, job(target, "echo x"))
	until(t, target, h, compute.Ended)
	if err := target.Release(t.Context(), h, 1); err != nil { // the very moment after its end was told
		t.Fatal(err)
	}
	if boxes, marks, err := target.list(t.Context()); err != nil || len(boxes)+len(marks) != 0 {
		t.Errorf("after release there are %v %v, %v", boxes, marks, err)
	}
}

func secretsAreNotKept(t *testing.T, b bench) {
	target := b.attach(t, nil)
	const secret = "s3cr3t-value-of-a-job"
	j := job(target, `printf %s "$TOKEN" | wc -c`)
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret(secret)}
	h := submit(t, target, j)
	until(t, target, h, compute.Ended)
	if got := strings.TrimSpace(logOf(t, target, h)); got != fmt.Sprint(len(secret)) {
		t.Fatalf("the job did not get its secret: %q", got)
	}
	r, err := target.engine.ContainerInspect(t.Context(), target.name(j.Key), client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := target.engine.ContainerLogs(t.Context(), r.Container.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(logs)
	_ = logs.Close()
	files, err := target.engine.CopyFromContainer(t.Context(), r.Container.ID, client.CopyFromContainerOptions{SourcePath: folder})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := io.ReadAll(files.Content)
	_ = files.Content.Close()
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string][]byte{"docker inspect": whole, "docker logs": said, "the container's files": kept} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s shows the secret", where)
		}
	}
	if !bytes.Contains(kept, []byte("spec.json")) {
		t.Error("the container's files were not read")
	}
}

func killedIsLost(t *testing.T, b bench) {
	target := b.attach(t, nil)
	h := submit(t, target, job(target, "echo begun; sleep 60"))
	until(t, target, h, compute.Running)
	// A job is said to run a moment before its command does.
	engine.Eventually(t, waitLimit, "the command's first line", func() bool { return logOf(t, target, h) == "begun\n" })
	if _, err := target.engine.ContainerKill(t.Context(), target.name(h.Key), client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
		t.Fatal(err)
	}
	s := until(t, target, h, compute.Ended)
	if s.Exit.Outcome != compute.Lost || s.Exit.Problem == nil || s.Exit.Problem.Mend == "" || s.Exit.Ended.IsZero() {
		t.Errorf("exit: %+v", s.Exit)
	}
	if got := logOf(t, target, h); got != "begun\n" {
		t.Errorf("log: %q", got)
	}
	if _, err := target.Submit(t.Context(), compute.Job{Key: h.Key, Epoch: 1, Command: "echo again"}); err != nil {
		t.Errorf("submit of a lost job: %v", err)
	}
	if got := logOf(t, target, h); got != "begun\n" {
		t.Errorf("a lost job was started again: %q", got)
	}
}

func brokenIsTakenOver(t *testing.T, b bench) {
	started := time.Now()
	target := b.attach(t, func(_ *Settings, env *compute.Env) {
		env.Clock.Now = func() time.Time { return started.Add(100 * time.Since(started)) } // patience is soon over
	})
	for _, epoch := range []int64{1, 2} { // of the same lease, and of an older one
		j := job(target, "echo once")
		halfMade(t, target, withEpoch(j, 1))
		h := submit(t, target, withEpoch(j, epoch))
		if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Succeeded {
			t.Errorf("exit: %+v", s.Exit)
		}
		if got := logOf(t, target, h); got != "once\n" {
			t.Errorf("log: %q", got)
		}
	}
}

// halfMade makes a job's container as a submit does that is broken off before the start.
func halfMade(t *testing.T, target *Target, j compute.Job) (id string, o order, store string) {
	t.Helper()
	o, err := target.order(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	there, err := target.fence(t.Context(), j.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	store, send, err := target.supply(t.Context(), there, j)
	if err := errors.Join(err, send()); err != nil {
		t.Fatal(err)
	}
	if id, err = target.create(t.Context(), o, store); err != nil {
		t.Fatal(err)
	}
	return id, o, store
}

// cancelStopsSubmit cancels between the creation of a container and its start.
func cancelStopsSubmit(t *testing.T, b bench) {
	target := b.attach(t, nil)
	j := job(target, "echo never")
	id, o, store := halfMade(t, target, j)
	h := compute.Handle{Key: j.Key}
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	if started, err := target.bring(t.Context(), id, o, store); err != nil || started {
		t.Errorf("the submit went on: %v, %v", started, err)
	}
	submit(t, target, j)
	if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Canceled {
		t.Errorf("exit: %+v", s.Exit)
	}
}

func imageIsNamed(t *testing.T, b bench) {
	target := b.attach(t, func(s *Settings, _ *compute.Env) { s.Image = "registry.invalid/absent:9" })
	f, err := target.Probe(t.Context())
	if err != nil || len(f.Problems) != 1 || f.Problems[0].Code != "ImageMissing" || !f.Problems[0].Warning {
		t.Errorf("probe: %+v, %v", f.Problems, err)
	}
	if f.Details["containers"] != "docker" {
		t.Errorf("details: %v", f.Details)
	}
	x := until(t, target, submit(t, target, job(target, "exit 0")), compute.Ended).Exit
	if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "RegistryUnreachable" || !strings.Contains(x.Problem.Message, "registry.invalid/absent:9") {
		t.Errorf("exit: %+v", x)
	}
}

func portIsReached(t *testing.T, b bench) { portIsReachedOn(t, b.attach(t, nil)) }

func portIsReachedOn(t *testing.T, target *Target) {
	t.Helper()
	h := submit(t, target, job(target, "echo hello | nc -l -p 4711; echo done"))
	until(t, target, h, compute.Running)
	var got []byte
	engine.Eventually(t, waitLimit, "an answer", func() bool {
		conn, err := target.Dial(t.Context(), h, 4711)
		if err != nil {
			return false // nobody listens yet
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(waitLimit))
		got = make([]byte, 6)
		_, err = io.ReadFull(conn, got)
		return err == nil
	})
	if string(got) != "hello\n" {
		t.Errorf("the port said %q", got)
	}
}

func engineDies(t *testing.T, b bench) {
	target := b.attach(t, nil)
	h := submit(t, target, job(target, "echo begun; sleep 5; echo over"))
	until(t, target, h, compute.Running)
	b.Stop(t)
	_, err := target.Status(t.Context(), []compute.Handle{h})
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, compute.ErrUnreachable) || !ok || p.Code != "EngineUnreachable" {
		t.Errorf("status of a dead engine: %v", err)
	}
	b.Start(t)
	if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", s.Exit)
	}
	if got := logOf(t, target, h); got != "begun\nover\n" {
		t.Errorf("log: %q", got)
	}
}
