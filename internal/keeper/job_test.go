package keeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJobRunsAndItsExitIsRecorded(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	x, log := run(t, c, "J1.1", Job{Command: "echo hello; echo worse >&2; exit 3"})
	if x.Outcome != Failed || x.Code != 3 || x.Signal != "" || x.Problem == nil {
		t.Errorf("exit: %+v", x)
	}
	if log != "hello\nworse\n" || string(x.Log) != log || x.LogSize != int64(len(log)) {
		t.Errorf("log %q, inline %q of %d", log, x.Log, x.LogSize)
	}
	if x.Files {
		t.Error("nothing was written, and there is something to collect")
	}
	if x.PeakMemory <= 0 || x.Ended.IsZero() {
		t.Errorf("exit: %+v", x)
	}
}

func TestSuccessAndSignal(t *testing.T) {
	c := newRig(t).dial()
	if x, _ := run(t, c, "J1.1", Job{Command: "true"}); x.Outcome != Succeeded || x.Code != 0 || x.Problem != nil {
		t.Errorf("true: %+v", x)
	}
	if x, _ := run(t, c, "J2.1", Job{Command: "kill -SEGV $$"}); x.Outcome != Failed || x.Code != -1 || x.Signal != "SEGV" {
		t.Errorf("a signal: %+v", x)
	}
}

func TestCodeArrivesWithModesLinksAndUnicode(t *testing.T) {
	r := newRig(t)
	code := r.objs.tree(map[string]string{
		"run.sh*": "#!/bin/sh\ncat 'dätä/ein tag.txt' link\n", "dätä/ein tag.txt": "tag\n", "link": "->dätä/ein tag.txt", "big": strings.Repeat("x", 2<<20),
	})
	c := r.dial()
	x, log := run(t, c, "J1.1", Job{Command: "./run.sh && wc -c <big && ls -d outputs logs", Code: code})
	if x.Outcome != Succeeded || log != "tag\ntag\n2097152\nlogs\noutputs\n" {
		t.Errorf("%+v\n%s", x, log)
	}
}

func TestLinkThatLeadsOutIsRefused(t *testing.T) {
	r := newRig(t)
	code := r.objs.tree(map[string]string{"a/evil": "->../../../x"})
	x, _ := run(t, r.dial(), "J1.1", Job{Command: "true", Code: code})
	if x.Outcome != Failed || x.Problem == nil || !strings.Contains(x.Problem.Cause, "leads out") {
		t.Errorf("%+v %v", x, x.Problem)
	}
}

func TestSecretsReachTheCommandAndNoFile(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	_, err := c.Submit(t.Context(), "J1.1", 1, Job{Command: `test "$(printf %s "$TOKEN" | wc -c)" = 12`, Env: map[string]string{"A": "b"}}, map[string]string{"TOKEN": "s3cr3t-value"})
	check(t, err)
	x := wait(t, c, "J1.1")
	if x.Outcome != Succeeded {
		t.Fatalf("%+v %s", x, x.Log)
	}
	check(t, filepath.WalkDir(r.folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "s3cr3t-value") {
				t.Errorf("the secret is in %s", path)
			}
		}
		return nil
	}))
}

func TestInputsAndOutputsAreFilledIn(t *testing.T) {
	r := newRig(t)
	tree := r.objs.tree(map[string]string{"a.txt": "A"})
	own := filepath.Join(t.TempDir(), "mit leer'zeichen.txt")
	check(t, os.WriteFile(own, []byte("own"), 0o600))
	job := Job{
		Command: `cat ${{inputs.dir}}/a.txt "${{inputs.file}}" ${{inputs.own}} "${{inputs.own}}" '${{inputs.own}}' ${{ inputs.link }}/a.txt
echo out > ${{outputs.folder}}/o.txt; echo one > ${{outputs.one}}; echo '${{inputs.none}}'`,
		Inputs: []Input{
			{Name: "dir", Folder: true, Tree: tree}, {Name: "file", Tree: tree}, {Name: "own", Path: own}, {Name: "link", Folder: true, Tree: tree, Link: true},
		},
		Outputs: []Output{{Name: "folder", Folder: true}, {Name: "one"}},
	}
	c := r.dial()
	x, log := run(t, c, "J1.1", job)
	if x.Outcome != Succeeded || log != "AAownownownA${{inputs.none}}\n" || !x.Files {
		t.Fatalf("%+v\n%s", x, log)
	}
	got := collect(t, c, "J1.1")
	if got["folder/o.txt"] != "out\n" || got["one/"] != "one\n" || len(got) != 2 {
		t.Errorf("collected %v", got)
	}
}

func TestTimeoutEndsTheTree(t *testing.T) {
	c := newRig(t).dial()
	began := time.Now()
	x, log := run(t, c, "J1.1", Job{Command: "trap 'echo asked' TERM; sleep 100 & wait; sleep 100", Timeout: 300 * time.Millisecond, Grace: 300 * time.Millisecond})
	if x.Outcome != TimedOut || log != "asked\n" {
		t.Errorf("%+v\n%s", x, log)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
}

func TestLogOverItsLimitIsDroppedAndCounted(t *testing.T) {
	c := newRig(t).dial()
	x, log := run(t, c, "J1.1", Job{Command: "head -c 5000000 /dev/zero | tr '\\0' x; sleep 1.3; head -c 1000000 /dev/zero | tr '\\0' y", LogLimit: 1000})
	if x.Outcome != Succeeded || x.LogDropped != 5_999_128 || x.LogSize != int64(len(log)) || x.LogSize > 1000 {
		t.Errorf("%+v, and %d bytes of log", x, len(log))
	}
	if !strings.HasPrefix(log, strings.Repeat("x", 872)+"\n[moorage:") || !strings.Contains(log, "5999128 were dropped") {
		t.Errorf("%.1100s", log)
	}
}

func TestPrepareFailureHasTheToolsOwnWords(t *testing.T) {
	c := newRig(t).dial()
	env := &Environment{Hash: "e1", Say: "by hand", Steps: []Step{{Args: []string{"sh", "-c", "echo no such package >&2; exit 4"}}}}
	submit(t, c, "J1.1", Job{Command: "echo never", Environment: env})
	x := wait(t, c, "J1.1")
	if x.Outcome != Failed || x.Problem == nil || x.Problem.Code != "EnvironmentFailed" || !strings.Contains(x.Problem.Cause, "no such package") {
		t.Errorf("%+v %+v", x, x.Problem)
	}
}

func TestEnvironmentIsMadeOnceAndUsed(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	tool := r.objs.put([]byte("#!/bin/sh\nmkdir -p \"$1/bin\"; echo made >> \"$1/count\"; echo warning: by hand | tee \"$1/say\"; cp \"$1/hello.in\" \"$1/bin/hello\"; chmod +x \"$1/bin/hello\"\n"))
	env := &Environment{
		Hash: "e1", Tools: []Tool{{Name: "maker", Object: tool}}, Path: []string{"bin"}, Env: []string{"WHERE={{env}}"},
		Steps: []Step{{Args: []string{"{{tool.maker}}", "{{env}}"}, Files: map[string]string{"hello.in": "#!/bin/sh\necho hello from $WHERE\n"}}},
	}
	for _, key := range []string{"J1.1", "J2.1", "J3.1"} {
		submit(t, c, key, Job{Command: "hello; cat $WHERE/count", Environment: env})
	}
	want := "hello from " + filepath.Join(r.folder, "srv/cmp/env/e1") + "\nmade\n"
	for _, key := range []string{"J1.1", "J2.1", "J3.1"} {
		if x := wait(t, c, key); string(x.Log) != want {
			t.Errorf("%s: %+v %q", key, x.Problem, x.Log)
		}
		if said, err := os.ReadFile(filepath.Join(r.dir(key), filePrepare)); err != nil || strings.Count(string(said), "warning: by hand\n") != 1 {
			t.Errorf("%s: its log of preparing says %q, %v", key, said, err)
		}
	}
}
