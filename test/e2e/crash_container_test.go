package e2e

import (
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/test/engine"
)

// TestEveryAcknowledgedJobInAContainerEndsExactlyOnce is the sweep of kills on engines that have no folder of this machine.
// In the end nothing of a job is left there.
func TestEveryAcknowledgedJobInAContainerEndsExactlyOnce(t *testing.T) {
	t.Run("in Docker", func(t *testing.T) {
		t.Parallel()
		d := engine.StartDocker(t)
		s := &sweep{t: t, kills: max(kills()/5, 2*len(fault.All())), compute: "box", marks: listen(t, "127.0.0.1")}
		s.prepare = func(p *program) {
			attach(p, "box", "--kind", "docker", "--address", "docker+unix://"+d.Socket, "--image", d.Image, "--set", "network=host", "--set", "slots=4")
		}
		s.run()
		nothingLeft(t, func() string {
			out, err := exec.CommandContext(t.Context(), "docker", "-H", "unix://"+d.Socket, "ps", "--all", "--filter", "label=moorage.key", "--format", "{{.Names}} {{.Status}}").CombinedOutput()
			if err != nil {
				t.Fatalf("docker ps: %v: %s", err, out)
			}
			return string(out)
		})
	})
	t.Run("on Kubernetes", func(t *testing.T) {
		t.Parallel()
		k := engine.StartKubernetes(t)
		namespace := k.Namespace(t)
		s := &sweep{t: t, kills: max(kills()/5, 2*len(fault.All())), compute: "cluster", marks: listen(t, k.Host), reach: 25 * time.Second}
		s.prepare = func(p *program) {
			attach(p, "cluster", "--kind", "kubernetes", "--address", "kubeconfig://test", "--kubeconfig-file", k.Kubeconfig, "--namespace", namespace, "--image", k.Image)
		}
		s.run()
		nothingLeft(t, func() string {
			return k.Kubectl(t, "get", "jobs,pods,services,secrets", "--namespace", namespace, "--output", "name")
		})
	})
}

func attach(p *program, name string, args ...string) {
	p.t.Helper()
	if out, err := p.cli(append([]string{"compute", "attach", name}, args...)...); err != nil {
		p.t.Fatalf("attach %s: %v: %s", name, err, out)
	}
}

// nothingLeft waits until an engine lists nothing any more. The server that released the last jobs runs on until the test ends.
func nothingLeft(t *testing.T, list func() string) {
	t.Helper()
	var there string
	defer func() {
		if t.Failed() {
			t.Logf("left are:\n%s", there)
		}
	}()
	until(t, "nothing of a job is left at the engine", func() bool {
		there = strings.TrimSpace(list())
		return there == ""
	})
}

// counted counts the starts of jobs that cannot write to this machine: each asks for its own address once.
type counted struct {
	url string

	mu   sync.Mutex
	seen map[string]int
}

// listen counts at an address of this machine, for as long as the test lasts.
func listen(t *testing.T, host string) *counted {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{url: "http://" + l.Addr().String() + "/", seen: map[string]int{}}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[strings.TrimPrefix(r.URL.Path, "/")]++
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return c
}

func (c *counted) command() string { return `wget -q -O /dev/null "$MARK"` }

func (c *counted) variables(name string) map[string]string {
	return map[string]string{"MARK": c.url + name, "PIDS": "/dev/null"}
}

func (c *counted) starts(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[name]
}

func (c *counted) left(string) string { return "" } // see nothingLeft
