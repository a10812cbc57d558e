package kubernetes

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// serveRegistry is a registry in memory that asks for a login.
func serveRegistry(t *testing.T, addr, user, password string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(l) }() // ends when closed
	t.Cleanup(func() { _ = server.Close() })
}

// basic is a login.
type basic struct{ user, password string }

func (b basic) Authorization() (*authn.AuthConfig, error) {
	return &authn.AuthConfig{Username: b.user, Password: b.password}, nil
}

func TestAPrivateImageIsPulledByTheJobsOwnLogin(t *testing.T) {
	k := engine.StartKubernetes(t)
	r := newRig(t, k)
	serveRegistry(t, k.Registry, "anna", "geheim")
	image := pushed(t, k, "private/base:1", "anna", "geheim")
	target := r.open()
	job := r.job("echo from there")
	job.Image = &compute.Image{Name: image}
	x := r.end(target, r.submit(target, job))
	if x.Outcome != compute.Failed || x.Problem == nil || !strings.Contains(x.Problem.Cause, "authorization") {
		t.Errorf("without a login: %+v, %v", x, x.Problem)
	}
	job = r.job("echo from there")
	job.Image = &compute.Image{Name: image, Login: &compute.Login{Server: "registry.local:5000", Username: "anna", Password: workspace.NewSecret("geheim")}}
	h := r.submit(target, job)
	if x := r.end(target, h); x.Outcome != compute.Succeeded {
		t.Fatalf("with a login: %+v, %v", x, x.Problem)
	}
	if err := target.Release(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	engine.Eventually(t, 30*time.Second, "the Secret goes with the Job", func() bool { return !strings.Contains(r.left(), "secret/") })
	missing := r.job("exit 0")
	missing.Image = &compute.Image{Name: "registry.local:5000/private/none:1", Login: job.Image.Login}
	begun := time.Now()
	x = r.end(target, r.submit(target, missing))
	if x.Outcome != compute.Failed || x.Problem == nil || !strings.Contains(x.Problem.Cause, "private/none:1") || time.Since(begun) > 15*time.Second {
		t.Errorf("an image that is not there, after %s: %+v, %v", time.Since(begun), x, x.Problem)
	}
}

// pushed is the node's own image, changed and pushed to the test's registry.
func pushed(t *testing.T, k *engine.Kubernetes, name, user, password string) string {
	t.Helper()
	archive := t.TempDir() + "/image.tar"
	k.Ctr(t, "images", "export", archive, "docker.io/"+k.Image)
	image, err := crane.Load(archive)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	// Another image than the node's own: the kubelet would ask every user of that for the pull's credentials from then on.
	config.Config.Labels = map[string]string{"pushed": name}
	if image, err = mutate.Config(image, config.Config); err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, k.Registry+"/"+name, crane.Insecure, crane.WithAuth(basic{user, password})); err != nil {
		t.Fatal(err)
	}
	return "registry.local:5000/" + name
}
