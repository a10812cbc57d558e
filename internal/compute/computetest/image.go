package computetest

import (
	"errors"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// inImage is a job in the exam's image.
func (x *exam) inImage(image, command string) compute.Job {
	j := x.job(command)
	j.Image = &compute.Image{Name: image}
	return j
}

func imageIsSeen(x *exam) {
	t := x.attach()
	for image, want := range map[string]string{x.opts.Image: "[]", x.opts.OtherImage: "[other]"} {
		j := x.inImage(image, `echo "[$EXAM_IMAGE]"; cat given; echo made >outputs/made; exit 4`)
		j.Code = x.objects.AddTree(map[string]Node{"given": {Text: "code\n"}})
		h, e := x.run(t, j)
		if e.Outcome != compute.Failed || e.Code != 4 {
			x.Fatalf("image %s: %s", image, x.describe(t, h, e))
		}
		if got := x.log(t, h); got != want+"\ncode\n" {
			x.Errorf("image %s: log %q", image, got)
		}
		home := &Home{}
		x.collect(t, h, home)
		if b, ok := home.Text(compute.OutputsFolder, "made"); !ok || b != "made\n" {
			x.Errorf("image %s: outputs %q %v", image, b, ok)
		}
	}
}

func imageIsMissing(x *exam) {
	t := x.attach()
	command, count := x.mark("exit 0")
	j := x.inImage("127.0.0.1:1/exam/none:1", command)
	ref, err := t.Submit(x.Context(), j)
	if err != nil { // a target may know at once
		if p := x.isProblem(err); !errors.Is(err, compute.ErrInvalid) || !strings.Contains(p.Error(), "exam/none") {
			x.Errorf("submit: %v", err)
		}
		return
	}
	h := compute.Handle{Key: j.Key, Ref: ref}
	x.endAfterwards(t, h)
	e := x.end(t, h)
	if e.Outcome != compute.Failed || e.Problem == nil || e.Problem.Cause == "" || e.Problem.Mend == "" || !strings.Contains(e.Problem.Error(), "exam/none") {
		x.Errorf("exit: %s", x.describe(t, h, e))
	}
	if n := count(t, h); n != 0 {
		x.Errorf("the command ran %d times", n)
	}
}

func imageGetsItsGrace(x *exam) {
	t := x.attach()
	j := x.inImage(x.opts.Image, "trap 'echo tidied; exit 9' TERM\necho begun\nwhile :; do sleep 0.05; done")
	j.Grace = 20 * time.Second
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	x.cancel(t, h)
	x.canceled(t, h)
	if got := x.log(t, h); !strings.Contains(got, "tidied") {
		x.Errorf("the job was not asked: %q", got)
	}
}

func imageKeepsSecrets(x *exam) {
	secret := "geheim" + x.env.Clock.NewID()
	t := x.attach()
	j := x.inImage(x.opts.Image, `test "$(printf %s "$TOKEN" | rev)" = "`+reversed(secret)+`" && echo same; sleep 60`)
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret(secret)}
	h := x.submit(t, j)
	x.logHas(t, h, "same")
	if x.opts.Processes {
		if pids := withText(secret); len(pids) > 0 {
			x.Errorf("the secret is in the command line of %v", pids)
		}
	}
	if x.opts.Folder != nil {
		if left := x.holding(secret); len(left) > 0 {
			x.Errorf("the secret is in %q", left)
		}
	}
}

func imageReachesTheServer(x *exam) {
	if x.opts.Limits.NoWayBack {
		x.Skip("a limit of the kind: NoWayBack")
	}
	x.onWayBack(answering(x))
	t := x.attach()
	j := x.inImage(x.opts.Image, ask+" one")
	j.Env = map[string]string{"BACK": compute.WayBackAddress}
	h := x.submit(t, j)
	x.succeed(t, h)
	if got := x.log(t, h); !strings.Contains(got, "question one") {
		x.Errorf("log: %q", got)
	}
}

func imageMakesItsEnvironment(x *exam) {
	t := x.attach()
	j := x.inImage(x.opts.OtherImage, `cat "$MADE"; exam-hello`)
	j.Environment = &compute.Environment{
		Hash: "env-" + strings.ToLower(x.env.Clock.NewID()),
		Steps: []compute.Step{{Args: []string{"sh", "make.sh", "{{env}}"}, Files: map[string]string{
			"make.sh": "set -e\necho making\nmkdir -p \"$1/bin\"\necho \"[$EXAM_IMAGE]\" >\"$1/made\"\nprintf '#!/bin/sh\\necho hello\\n' >\"$1/bin/exam-hello\"\nchmod +x \"$1/bin/exam-hello\"\n",
		}}},
		Path: []string{"bin"}, Env: []string{"MADE={{env}}/made"},
	}
	h := x.submit(t, j)
	x.succeed(t, h)
	if got := x.log(t, h); got != "[other]\nhello\n" {
		x.Errorf("log: %q", got)
	}
	if got := x.logOf(t, h, compute.LogQuery{Stream: "prepare"}); !strings.Contains(got, "making\n") {
		x.Errorf("log of preparing: %q", got)
	}
}

func imageRunsOutOfMemory(x *exam) {
	t := x.attach()
	j := x.inImage(x.opts.Image, "head -c 400000000 /dev/zero | tail -c 390000000 >/dev/null")
	j.Resources = compute.Resources{Memory: 64 << 20, MemoryLimit: 64 << 20}
	h, e := x.run(t, j)
	if e.Outcome != compute.Failed || e.Code != 137 || e.Problem == nil || e.Problem.Code != "OutOfMemory" || e.Problem.Mend == "" {
		x.Errorf("exit %d: %s", e.Code, x.describe(t, h, e))
	}
}
