package keeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnUntouchedWorkingDirectoryIsHandedOnAndNoOther(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	root := filepath.Dir(filepath.Dir(r.dir("J.1")))
	run := func(key, command string) string {
		t.Helper()
		submit(t, c, key, Job{Command: command})
		x := wait(t, c, key)
		if x.Outcome != Succeeded {
			t.Fatalf("%s: %+v", key, x)
		}
		check(t, c.Release(t.Context(), key, 1))
		if left, err := filepath.Glob(filepath.Join(root, "jobs", "*")); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v %v", key, left, err)
		}
		return string(x.Log)
	}
	const look = "find . | sort; stat -c %i ."
	first := run("J1.1", look)
	if !strings.HasPrefix(first, ".\n./logs\n./outputs\n") {
		t.Errorf("a job began in %q", first)
	}
	for i, command := range []string{
		"touch x", "touch outputs/x", "ln -s / logs/x", "chmod 700 outputs", "rmdir logs", "rmdir logs; ln -s outputs logs", "mkdir logs/x",
	} {
		number := string(rune('A' + i))
		before := run("J"+number+"1.1", look)
		if again := run("J"+number+"2.1", look+"; "+command); again != before {
			t.Errorf("the directory was not handed on: %q, then %q", before, again)
		}
		if left, err := os.ReadDir(filepath.Join(root, "untouched")); err != nil || len(left) > 0 {
			t.Errorf("after %q was kept: %v %v", command, left, err)
		}
	}
}
