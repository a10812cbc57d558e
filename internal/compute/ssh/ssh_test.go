package ssh

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestSettingsAreCheckedBeforeConnecting(t *testing.T) {
	const secret = "hunter2-geheim"
	for text, word := range map[string]string{
		`{}`:                         "needs an address",
		`{"address": "u@h.example"}`: "nothing to log in with",
		`{"slot": "u@h.example"}`:    "slot",
		`{"address": "u@h.example", "password": ["` + secret + `"]}`:                        "password cannot be a array",
		`{"address": "u@h.example", "slots": "` + secret + `"}`:                             "slots cannot be a string",
		`{"address": "ssh://u:` + secret + `@h.example"}`:                                   "holds a password",
		`{"address": "u@h.example", "password": "` + secret + `", "slots": -1}`:             "negative",
		`{"address": "u@h.example", "password": "` + secret + `", "folder": "relative"}`:    "neither absolute",
		`{"address": "u@h.example", "password": "` + secret + `", "folder": "/it's"}`:       "misread",
		`{"address": "u@h.example", "private_key": "` + secret + `"}`:                       "cannot be read",
		`{"address": "u@h.example", "password": "` + secret + `", "host_key": "ssh-rsa x"}`: "host key",
		`nonsense`: "not valid",
	} {
		_, err := Driver{}.Open(t.Context(), json.RawMessage(text), environment(t))
		if !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: wanted %q in: %v", text, word, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows the secret: %v", text, err)
		}
	}
}

func TestSchemaHasEverySettingAndMarksSecrets(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			WriteOnly   bool   `json:"writeOnly"`
			Description string `json:"description"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(Driver{}.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(encode(t, Settings{}), &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		p, ok := schema.Properties[name]
		if !ok || p.Description == "" {
			t.Errorf("the schema lacks %s or its description", name)
		}
		if secret := slices.Contains([]string{"password", "private_key", "passphrase"}, name); p.WriteOnly != secret {
			t.Errorf("%s: writeOnly is %v", name, p.WriteOnly)
		}
	}
	if len(schema.Properties) != len(fields) {
		t.Errorf("the schema has %d settings and the driver %d", len(schema.Properties), len(fields))
	}
}

func TestProbeTellsTheHostKey(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	settings := settingsFor(t, s)
	settings.HostKey = ""
	learnt, err := mustOpen(t, settings).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if learnt.Details["host_key"] != s.HostKey || learnt.Details["host_key_fingerprint"] != sshx.Fingerprint(s.HostKey) {
		t.Errorf("details: %v", learnt.Details)
	}
	found := false
	for _, p := range learnt.Problems {
		found = found || p.Code == "HostKeyLearnt" && p.Warning
	}
	if !found {
		t.Errorf("it does not say that the key was learnt: %v", learnt.Problems)
	}
	settings.HostKey = s.HostKey
	pinned, err := mustOpen(t, settings).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(pinned.Identity) != 2 || pinned.Identity[0] == "" || pinned.Identity[1] != s.HostKey || !slices.Equal(pinned.Identity, learnt.Identity) {
		t.Errorf("identity: %q and %q", pinned.Identity, learnt.Identity)
	}
}

func TestJobGoesOnWhileTheServerOfTheMachineRestarts(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	target := mustOpen(t, settingsFor(t, s))
	h := compute.Handle{Key: compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}}
	if _, err := target.Submit(t.Context(), compute.Job{Key: h.Key, Epoch: 1, Command: "echo before; sleep 1; echo after"}); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	_, err := target.Status(t.Context(), []compute.Handle{h})
	problem(t, err, compute.ErrUnreachable, "ConnectionRefused")
	s.Start(t)
	if e, log := await(t, target, h); e.Outcome != compute.Succeeded || log != "before\nafter\n" {
		t.Errorf("%s, log %q", e.Outcome, log)
	}
}

func TestMachineWithAnotherHostKeyIsNotTakenForTheFirst(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	learning := settingsFor(t, s)
	learning.HostKey = ""
	pinned, learnt := mustOpen(t, settingsFor(t, s)), mustOpen(t, learning)
	s.ChangeHostKey(t)
	for _, target := range []compute.Target{pinned, learnt} {
		_, err := target.Probe(t.Context())
		problem(t, err, compute.ErrDenied, "HostKeyChanged")
	}
}

func TestKilledAgentCostsOnlyANewSession(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := engine.StartProxy(t, s.Addr)
	settings := settingsFor(t, s)
	settings.Address = s.User + "@" + p.Addr
	target := mustOpen(t, settings)
	// The job ends its own agent: it is the parent of its supervisor.
	e, log := run(t, target, `agent=$(ps -o ppid= -p $PPID | tr -d ' '); kill -9 $agent && echo $agent`)
	if e.Outcome != compute.Succeeded {
		t.Fatalf("%s, log %q", e.Outcome, log)
	}
	agent := filepath.Join("/proc", strings.TrimSpace(log))
	engine.Eventually(t, waitLimit, "the end of the agent", func() bool {
		_, err := os.Stat(agent)
		return errors.Is(err, os.ErrNotExist)
	})
	if e, _ := run(t, target, "true"); e.Outcome != compute.Succeeded {
		t.Errorf("after it: %s", e.Outcome)
	}
	if n := p.Opened(); n != 1 {
		t.Errorf("it took %d connections", n)
	}
}

func TestStalledLineIsSaidAndMended(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 17 s")
	}
	t.Parallel()
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := engine.StartProxy(t, s.Addr)
	settings := settingsFor(t, s)
	settings.Address = s.User + "@" + p.Addr
	target := mustOpen(t, settings)
	watching := make(chan error, 1)
	go func() { watching <- target.(compute.Watcher).Watch(t.Context(), func(compute.Status) {}) }()
	p.Stall(true)
	begun := time.Now()
	select {
	case err := <-watching:
		if !errors.Is(err, compute.ErrUnreachable) {
			t.Errorf("watching ended with %v", err)
		}
		t.Logf("watching ended after %s", time.Since(begun).Round(time.Millisecond))
	case <-time.After(25 * time.Second):
		t.Error("watching over a stalled line goes on")
	}
	p.Cut()
	p.Stall(false)
	if e, _ := run(t, target, "true"); e.Outcome != compute.Succeeded {
		t.Errorf("after it: %s", e.Outcome)
	}
}

func TestOneSessionIsEnough(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{Extra: "MaxSessions 1"})
	if e, _ := run(t, mustOpen(t, settingsFor(t, s)), "true"); e.Outcome != compute.Succeeded {
		t.Errorf("%s", e.Outcome)
	}
}

func TestEveryWayToLogInRunsAJob(t *testing.T) {
	const password = "pass word"
	s := engine.StartSSHD(t, engine.SSHDOptions{Password: password})
	jump := engine.StartSSHD(t, engine.SSHDOptions{})
	locked, public := engine.NewKey(t, "passphrase")
	s.Authorize(t, public)
	jump.Authorize(t, public)
	t.Setenv("SSH_AUTH_SOCK", engine.StartAgent(t, s.KeyFile))
	for name, settings := range map[string]Settings{
		"password":      {Password: password},
		"encrypted key": {PrivateKey: locked, Passphrase: "passphrase"},
		"agent":         {UseAgent: true},
		"jump host":     {PrivateKey: locked, Passphrase: "passphrase", Jump: []string{"ssh://" + jump.User + "@" + jump.Addr}},
	} {
		t.Run(name, func(t *testing.T) {
			settings.Address, settings.HostKey = "ssh://"+s.User+"@"+s.Addr, s.HostKey
			if e, log := run(t, mustOpen(t, settings), "echo $USER"); e.Outcome != compute.Succeeded || log != s.User+"\n" {
				t.Errorf("%s, log %q", e.Outcome, log)
			}
		})
	}
}

// TestAttachIsAsQuickAsALogin measures attaching with pre-flight beside a fresh "ssh HOST true", over a line with a
// latency of 20 ms, where round trips count.
func TestAttachIsAsQuickAsALogin(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := engine.StartProxy(t, s.Addr)
	settings := settingsFor(t, s)
	settings.Address = s.User + "@" + p.Addr
	if _, err := mustOpen(t, settings).Probe(t.Context()); err != nil { // places the keeper
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(p.Addr, ":")
	plain := func() {
		out, err := exec.CommandContext(t.Context(), engine.Need(t, "ssh", "apt-get install openssh-client"), "-F", "none", "-i", s.KeyFile, "-p", port,
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", s.User+"@"+host, "true").CombinedOutput()
		if err != nil {
			t.Fatalf("ssh: %v %s", err, out)
		}
	}
	attach := func() {
		target, err := Driver{}.Open(t.Context(), encode(t, settings), environment(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		_ = target.Close()
	}
	best := func(fn func()) time.Duration {
		least := time.Hour
		for range 5 {
			begun := time.Now()
			fn()
			least = min(least, time.Since(begun))
		}
		return least
	}
	for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
		p.Slow(delay, 0)
		a, b := best(attach), best(plain)
		t.Logf("round trip %s: attach with pre-flight %s, ssh true %s: ratio %.2f", 2*delay, a.Round(time.Millisecond), b.Round(time.Millisecond), float64(a)/float64(b))
		if a > 3*b {
			t.Errorf("attaching takes %s, and a login %s", a, b)
		}
	}
}
