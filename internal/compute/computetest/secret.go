package computetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func secretsHidden(x *exam) {
	logged := newGrowing()
	x.env.Log = newLog(logged)
	t := x.attach()
	secret := "geheim" + x.env.Clock.NewID()
	// The command cannot hold the secret, so it is compared in a form that it can: backwards.
	j := x.job(`test "$(printf %s "$TOKEN" | rev)" = "` + reversed(secret) + `" && echo same; echo begun; sleep 60`)
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret(secret)}
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	if got := x.log(t, h); got != "same\nbegun\n" {
		x.Errorf("the command has not got its secret: %q", got)
	}
	look := func(when string) {
		x.Helper()
		if left := x.holding(secret); len(left) > 0 {
			x.Errorf("%s the secret is in %q", when, left)
		}
		if pids := withText(secret); len(pids) > 0 {
			x.Errorf("%s the secret is in the command line of %v", when, pids)
		}
		if got := x.logOf(t, h, compute.LogQuery{Stream: "prepare"}); strings.Contains(got, secret) {
			x.Errorf("%s the secret is in the log of preparing", when)
		}
		if strings.Contains(logged.String(), secret) {
			x.Errorf("%s the secret is in the server's log", when)
		}
	}
	look("while running")
	x.cancel(t, h)
	x.canceled(t, h)
	look("after the end")
	if pids := withVariable(secret); len(pids) > 0 {
		x.Errorf("after the end the secret is in the environment of %v", pids)
	}
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// withVariable lists the processes whose environment has a text.
func withVariable(text string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}
