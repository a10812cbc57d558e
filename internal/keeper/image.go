package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// imageName is what an engine may be asked for. It is no option, and holds nothing that a shell or a log would misread. A
// count of repetitions would cost every start of the program a millisecond or two.
var imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)

const maxImageName = 511

func checkImage(i *Image) error {
	if i == nil || len(i.Name) <= maxImageName && imageName.MatchString(i.Name) {
		return nil
	}
	return fault(Invalid, workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidImage", Message: fmt.Sprintf("%.80q cannot be the name of an image", i.Name), Target: "image",
		Mend: "write it as docker does, e.g. python:3.12 or registry.example/team/train:1",
	})
}

// fetchImage sees to it that the engine has the job's image. One that is there is not asked for anew.
func (s *supervisor) fetchImage(ctx context.Context) error {
	e := s.given.Engine
	if e == nil {
		p := s.given.NoEngine
		if p == nil {
			p = noEngine()
		}
		q := *p
		q.Warning = false
		return &q
	}
	s.note("container by %s at %s", e.Kind, e.Path)
	image := s.spec.Job.Image
	if _, err := e.ask(ctx, s.given.Login, "image", "inspect", "--format", "{{.Id}}", image.Name); err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.preparing("")
	env, done, err := s.registryLogin(image)
	if err != nil {
		return err
	}
	defer done()
	name := image.Name
	if e.Kind == podman {
		name = qualified(name)
	}
	s.note("+ %s pull %s", e.Kind, name)
	from := fileSize(filepath.Join(s.dir, filePrepare))
	err = s.runHere(ctx, []string{e.Path, "pull", name}, "/", env)
	if _, ok := errors.AsType[*exec.ExitError](err); !ok || ctx.Err() != nil {
		return err
	}
	return &workspace.Problem{
		Code: "ImagePullFailed", Message: fmt.Sprintf("image %s cannot be had on the target", image.Name), Cause: tail(filepath.Join(s.dir, filePrepare), from), Target: "image",
		Mend: "correct the image's name, or give the registry's credentials; its log of preparing has all of it",
	}
}

// qualified is an image's name as Docker reads it; Podman has no registry that it asks without being told.
func qualified(name string) string {
	first, _, nested := strings.Cut(name, "/")
	switch {
	case !nested:
		return "docker.io/library/" + name
	case strings.ContainsAny(first, ".:") || first == "localhost":
		return name
	}
	return "docker.io/" + name
}

// loginVariable holds, in the environment of the engine's program alone, what helper answers with.
const loginVariable = "MOORAGE_REGISTRY_LOGIN"

// helper is a credential helper as Docker's and Podman's programs ask for one. So the password is in no file and in no list
// of processes, and no registry is logged in to for longer than one pull.
const helper = `#!/bin/sh
[ "$1" = get ] && printf '%s' "$` + loginVariable + `"
`

// registryLogin is the environment in which the engine's program pulls an image, with a folder that done removes.
func (s *supervisor) registryLogin(image *Image) (env []string, done func(), err error) {
	env, done = s.given.Login, func() {}
	if s.given.Password == "" {
		return env, done, nil
	}
	servers := []string{image.Registry}
	if image.Registry == "" || image.Registry == "docker.io" {
		servers = []string{"docker.io", "https://index.docker.io/v1/"}
	}
	helpers := map[string]string{}
	for _, server := range servers {
		helpers[server] = "moorage"
	}
	config, err := json.Marshal(map[string]any{"credHelpers": helpers})
	if err != nil {
		return nil, done, err
	}
	answer, err := json.Marshal(map[string]string{"ServerURL": servers[len(servers)-1], "Username": image.Username, "Secret": s.given.Password})
	if err != nil {
		return nil, done, err
	}
	dir, err := os.MkdirTemp(s.dir, "login-")
	if err != nil {
		return nil, done, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	file := filepath.Join(dir, "config.json")
	if err := errors.Join(os.WriteFile(file, config, 0o600), os.WriteFile(filepath.Join(dir, "docker-credential-moorage"), []byte(helper), 0o700)); err != nil {
		done()
		return nil, func() {}, err
	}
	return overlay(env, []string{
		"DOCKER_CONFIG=" + dir, "REGISTRY_AUTH_FILE=" + file, loginVariable + "=" + string(answer), "PATH=" + prefixed([]string{dir}, lookup(env, "PATH")),
	}), done, nil
}
