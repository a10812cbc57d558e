package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestPackagesAreForThePythonOfTheImageAndCostNothingTwice(t *testing.T) {
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	dir, log := t.TempDir(), &buffer{}
	m := &Maker{Dir: dir, Uv: realUv(t), To: Registry{}}
	r := Recipe{Name: host + "/team/train:1", Base: host + "/base/python:1", Packages: &Packages{Requirements: []string{"six==1.16.0", "markupsafe"}, Python: "3.9"}, Env: map[string]string{"GREETING": "hello"}}
	first, err := m.Build(t.Context(), r, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, want := range []string{"its Python is /usr/bin/python3.", "manylinux 2.", "+ six==1.16.0", "warning: Python 3.9 is asked for", "pushed " + r.Name} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	img := pulled(t, r.Name)
	digest, err := img.Digest()
	if err != nil || digest.String() != first.Digest {
		t.Errorf("the registry has %s, and Build gave %s (%v)", digest, first.Digest, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	vars := strings.Join(config.Config.Env, "\n")
	if !strings.Contains(vars, "PATH=/opt/moorage/") || !strings.Contains(vars, ":/usr/bin:/bin") || !strings.Contains(vars, "GREETING=hello") {
		t.Errorf("the image's variables are\n%s", vars)
	}
	for name, h := range names(t, img, 1) {
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(epoch) {
			t.Errorf("%s has owner %d:%d and time %v", name, h.Uid, h.Gid, h.ModTime)
		}
	}

	// Again, without uv and with another name: the layer is kept.
	log2 := &buffer{}
	m.Uv = func(context.Context) ([]string, error) { return nil, errors.New("uv was asked for") }
	r.Name = host + "/team/train:2"
	second, err := m.Build(t.Context(), r, log2)
	if err != nil || second.Digest != first.Digest {
		t.Errorf("the second build gave %s (%v), the first %s\n%s", second.Digest, err, first.Digest, log2)
	}
	// Without what was kept, the same bytes.
	m = &Maker{Dir: t.TempDir(), Uv: realUv(t), To: Registry{}}
	third, err := m.Build(t.Context(), r, &buffer{})
	if err != nil || third.Digest != first.Digest {
		t.Errorf("a build elsewhere gave %s (%v), the first %s", third.Digest, err, first.Digest)
	}
	left, err := filepath.Glob(filepath.Join(dir, "build-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("builds left %v (%v)", left, err)
	}
}

func TestAPackageWithoutAWheelFailsInTheResolversWords(t *testing.T) {
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	m := &Maker{Dir: t.TempDir(), Uv: realUv(t), To: Registry{}}
	_, err := m.Build(t.Context(), Recipe{Name: host + "/x:1", Base: host + "/base/python:1", Packages: &Packages{Requirements: []string{"uwsgi"}}}, &buffer{})
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "PackagesUnavailable" || p.Class != workspace.Invalid || !strings.Contains(p.Cause, "no usable wheels") {
		t.Fatalf("the failure is %+v (%v)", p, err)
	}
}

func TestABaseIsCopiedBetweenRegistriesOnce(t *testing.T) {
	from, to := startRegistry(t), startRegistry(t)
	push(t, debianPython(t), from+"/base/python:1")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "größe.txt"), []byte("42"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("größe.txt", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	m := &Maker{Dir: t.TempDir(), To: Registry{}}
	log := &buffer{}
	r := Recipe{Name: to + "/team/files:1", Base: from + "/base/python:1", Files: []Files{{From: Folder(folder), To: "/srv/app"}}}
	if _, err := m.Build(t.Context(), r, log); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "fetching layer") {
		t.Errorf("nothing was fetched:\n%s", log)
	}
	found := names(t, pulled(t, r.Name), 1)
	if h := found["srv/app/größe.txt"]; h == nil || h.Mode != 0o640 || h.Size != 2 {
		t.Errorf("the file is %+v", h)
	}
	if h := found["srv/app/link"]; h == nil || h.Linkname != "größe.txt" {
		t.Errorf("the link is %+v", h)
	}
	log = &buffer{}
	r.Name = to + "/team/files:2"
	if _, err := m.Build(t.Context(), r, log); err != nil || strings.Contains(log.String(), "fetching layer") {
		t.Errorf("the base was fetched again (%v):\n%s", err, log)
	}
}

func TestArchivesAreReadAndWritten(t *testing.T) {
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	file := filepath.Join(t.TempDir(), "image.tar")
	out := &Maker{Dir: t.TempDir(), To: OCIArchive(file)}
	first, err := out.Build(t.Context(), Recipe{Name: "team/x:1", Base: host + "/base/python:1"}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	in := &Maker{Dir: t.TempDir(), To: Registry{}}
	second, err := in.Build(t.Context(), Recipe{Name: host + "/back:1", Archive: file}, &buffer{})
	if err != nil || first.Digest != second.Digest {
		t.Fatalf("it went out as %s and came back as %s (%v)", first.Digest, second.Digest, err)
	}
}

func TestProblemsOfRegistries(t *testing.T) {
	host := startRegistry(t)
	m := &Maker{Dir: t.TempDir(), To: Registry{}}
	for base, code := range map[string]string{
		host + "/none:1":     "ImageNotFound",
		"127.0.0.1:1/none:1": "RegistryFailed",
		"UPPER case":         "InvalidImage",
	} {
		_, err := m.Build(t.Context(), Recipe{Name: host + "/x:1", Base: base}, &buffer{})
		if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != code {
			t.Errorf("base %q: %v, want %s", base, err, code)
		}
	}
	if _, err := m.Build(t.Context(), Recipe{Name: host + "/x:1"}, &buffer{}); !errors.Is(err, &workspace.Problem{Code: "InvalidImage"}) {
		t.Errorf("without a base: %v", err)
	}
	_, err := m.Build(t.Context(), Recipe{Name: host + "/x:1", Dockerfile: &Dockerfile{Text: "FROM scratch"}}, &buffer{})
	if !errors.Is(err, &workspace.Problem{Code: "NoImageBuilder"}) {
		t.Errorf("without a builder: %v", err)
	}
}

func TestABuildEndsWithItsContext(t *testing.T) {
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("no longer wanted")
	m := &Maker{Dir: t.TempDir(), To: Registry{}, Uv: func(context.Context) ([]string, error) {
		return []string{"sh", "-c", "touch '" + started + "'; sleep 60; :"}, nil
	}}
	done := make(chan error, 1)
	go func() {
		_, err := m.Build(ctx, Recipe{Name: host + "/x:1", Base: host + "/base/python:1", Packages: &Packages{Requirements: []string{"six"}}}, &buffer{})
		done <- err
	}()
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("it ended early: %v", err)
		default:
		}
	}
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Fatalf("it ended with %v", err)
	}
}

func TestAnIndexThatIsDownIsTriedAgainAndItsPasswordNotShown(t *testing.T) {
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	m := &Maker{Dir: t.TempDir(), Uv: realUv(t), To: Registry{}, Network: Network{Index: workspace.NewSecret("http://bob:" + "hush-7731@127.0.0.1:1/simple")}}
	log := &buffer{}
	_, err := m.Build(t.Context(), Recipe{Name: host + "/x:1", Base: host + "/base/python:1", Packages: &Packages{Requirements: []string{"moorage-test-nothing"}}}, log)
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Class != workspace.Unavailable {
		t.Errorf("it failed with %+v (%v)", p, err)
	}
	if strings.Contains(log.String()+err.Error(), "hush") {
		t.Errorf("the password is shown: %v\n%s", err, log)
	}
}
