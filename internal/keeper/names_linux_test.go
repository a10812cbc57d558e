package keeper

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestJobReachesTheWayBackByNameInEachWay(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not here")
	}
	for _, w := range []way{wayName, wayNamespace, wayProxy} {
		t.Run(string(w), func(t *testing.T) {
			r := newRig(t)
			r.opts.WayBack = answerHTTP
			env := map[string]string{"BLOB": BlobHost}
			// curl of plain http through CONNECT (-p) by the proxy for https: TLS is not what is tested here.
			command := `exec 2>&1; p=; test -n "$https_proxy" && p="-p -x $https_proxy"; curl -sS --max-time 20 $p "http://$BLOB/c/x"`
			switch w {
			case wayName:
				if !resolves(t.Context()) {
					whereTheNameResolves(t)
					return
				}
			case wayNamespace:
				hosts := filepath.Join(t.TempDir(), "hosts")
				check(t, writeHosts(hosts))
				if err := tryNamespace(t.Context(), []string{os.Args[0], "keeper"}, hosts); err != nil {
					t.Skip("no mount namespace on this machine: ", err)
				}
				env[wayVariable] = string(wayNamespace)
			case wayProxy:
				env[wayVariable] = string(wayProxy)
			}
			before, err := os.ReadFile("/etc/hosts")
			check(t, err)
			c := r.dial()
			x, log := run(t, c, "J1.1", Job{Env: env, Command: command})
			if !strings.HasPrefix(log, "J1.1 answers GET /c/x for "+blobHostName+":") {
				t.Errorf("%+v log: %s", x.Problem, log)
			}
			after, err := os.ReadFile("/etc/hosts")
			check(t, err)
			if string(after) != string(before) {
				t.Error("the machine's own hosts file changed")
			}
			prepare, err := os.ReadFile(filepath.Join(r.dir("J1.1"), filePrepare))
			if word := map[way]string{wayName: "leads to this machine", wayNamespace: "hosts file of its own", wayProxy: "job's proxy"}[w]; err != nil || !strings.Contains(string(prepare), word) {
				t.Errorf("log of preparing: %s %v", prepare, err)
			}
		})
	}
}

// whereTheNameResolves runs the test again in a namespace in which this machine knows the name.
func whereTheNameResolves(t *testing.T) {
	t.Helper()
	hosts := filepath.Join(t.TempDir(), "hosts")
	check(t, writeHosts(hosts))
	self := []string{os.Args[0], "keeper"}
	if err := tryNamespace(t.Context(), self, hosts); err != nil {
		t.Skip("the name does not resolve on this machine, and no mount namespace can be had: ", err)
	}
	argv := inNamespace(self, hosts, os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.SysProcAttr = mountNamespace()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// answerHTTP answers each request on a way back with one line.
func answerHTTP(key string, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	line, _ := in.ReadString('\n')
	host, _ := in.ReadString('\n')
	said := fmt.Sprintf("%s answers %s for %s\n", key, strings.TrimSuffix(strings.TrimSpace(line), " HTTP/1.1"), strings.TrimSpace(strings.TrimPrefix(host, "Host: ")))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(said), said)
}

func TestNamespaceChangesNothingElseForTheJob(t *testing.T) {
	r := newRig(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	check(t, writeHosts(hosts))
	if err := tryNamespace(t.Context(), []string{os.Args[0], "keeper"}, hosts); err != nil {
		t.Skip("no mount namespace on this machine: ", err)
	}
	c := r.dial()
	const look = "id; grep -E 'Cap(Eff|Prm|Amb|Inh)' /proc/self/status; touch f; stat -c %u:%g f; exit 3"
	_, plain := run(t, c, "J1.1", Job{Command: look})
	x, log := run(t, c, "J2.1", Job{Env: map[string]string{"BLOB": BlobHost, wayVariable: string(wayNamespace)}, Command: look})
	if log != plain || x.Code != 3 {
		t.Errorf("exit code %d, in the namespace:\n%s\nelsewhere:\n%s", x.Code, log, plain)
	}
}

func TestKilledSupervisorTakesAJobInANamespaceWithIt(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Env: map[string]string{"BLOB": BlobHost, wayVariable: string(wayNamespace)}, Command: "echo begun; sleep 300 & sleep 300"})
	untilLog(t, r, "J1.1", "begun")
	var h holder
	b, err := os.ReadFile(filepath.Join(r.dir("J1.1"), fileLockName))
	check(t, err)
	check(t, json.Unmarshal(b, &h))
	check(t, signalProcess(h.PID, h.Start, 9))
	until(t, "the job is lost", func() bool { s := status(t, c, "J1.1"); return s.Phase == Ended && s.Exit.Outcome == Lost })
	var st startRecord
	check(t, readRecord(r.dir("J1.1"), fileStarted, &st))
	until(t, "its processes are gone", func() bool {
		all, err := processes()
		check(t, err)
		for _, p := range all {
			if marked(p.pid, []byte(processMark+"="+st.Mark)) {
				return false
			}
		}
		return true
	})
}

func TestCanceledJobInANamespaceEnds(t *testing.T) {
	c := newRig(t).dial()
	submit(t, c, "J1.1", Job{Env: map[string]string{"BLOB": BlobHost, wayVariable: string(wayNamespace)}, Command: "sleep 300 & sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	if x := wait(t, c, "J1.1"); x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
}

func TestOnlyAJobThatAsksPaysForTheName(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	_, log := run(t, c, "J1.1", Job{Env: map[string]string{"BACK": WayBackAddress}, Command: "env | grep -i proxy; true"})
	if log != "" || exists(filepath.Join(r.dir("J1.1"), fileHosts)) || exists(filepath.Join(r.dir("J1.1"), filePrepare)) {
		t.Errorf("%q", log)
	}
}
