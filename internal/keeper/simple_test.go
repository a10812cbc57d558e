package keeper

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyASimpleCommandIsStartedWithoutAShell(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"python", "python3.11"} {
		check(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o700))
	}
	env := []string{"A=1", "PATH=relative:" + bin, "PATHS=/"}
	for text, want := range map[string]string{
		`/usr/bin/python3 -c 'print("$HOME"; 1)'`:            `/usr/bin/python3|-c|print("$HOME"; 1)`,
		"python train.py --data /my/data \t--lr=0.1,2 é":     bin + "/python|train.py|--data|/my/data|--lr=0.1,2|é",
		" python3.11 -m pkg.train --name=\"a b\"'c'd \"\"\n": bin + "/python3.11|-m|pkg.train|--name=a bcd|",
		"./train.sh": "./train.sh",
	} {
		if got := strings.Join(simpleCommand(text, env), "|"); got != want {
			t.Errorf("%q became %q", text, got)
		}
		// The shell must see the same words.
		out, err := exec.Command("/bin/sh", "-c", `set -- `+strings.TrimSpace(text)+`; IFS='|'; printf %s "$*"`).Output()
		check(t, err)
		if got := strings.TrimPrefix(want, bin+"/"); got != string(out) {
			t.Errorf("of %q the shell makes %q", text, out)
		}
	}
	for _, text := range []string{
		"python a.py; echo", "python a.py && python b.py", "python a.py | tee x", "python a.py > x", "A=1 python a.py", "echo hello", "cd x",
		"python a.py &", "python a.py\npython b.py", `python "$(date)"`, "python `date`", "python $X", "/a/b=1 c", "python 'a", "(python a.py)",
		"python a.py # what", "exit 3", "", "python a.py\\\n", ". ./env", "! ./x", "python a\\ b", "python *.py", "python ~/a", "python3 a.py",
		"'./a b' c", "python {a,b}", "pythonic a.py",
	} {
		if got := simpleCommand(text, env); got != nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestACommandWithoutAShellFailsAsItDoesWithOne(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	check(t, os.WriteFile(script, []byte("echo $0 $1; exit 7\n"), 0o700)) // without #!, only a shell runs it
	for key, want := range map[string]struct {
		command, log string
		code         int
	}{
		"J1.1": {script + " x", script + " x\n", 7},
		"J2.1": {dir + "/absent", "not found", 127},
		"J3.1": {dir, "ermission denied", 126},
		"J4.1": {"./absent.sh", "not found", 127},
	} {
		submit(t, c, key, Job{Command: want.command})
		x := wait(t, c, key)
		if x.Code != want.code || !strings.Contains(string(x.Log), want.log) {
			t.Errorf("%s: %d %q", want.command, x.Code, x.Log)
		}
	}
	submit(t, c, "J5.1", Job{Command: "/bin/sh -c 'kill -9 $$'"})
	if x := wait(t, c, "J5.1"); x.Signal != "KILL" {
		t.Errorf("%+v", x)
	}
}
