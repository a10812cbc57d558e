package keeper

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// stepContained runs a step of the environment in a container of the job's image, so that what it makes fits the interpreter
// there. how is not empty when it ran and failed.
func (s *supervisor) stepContained(ctx context.Context, args []string, dir string) (how string, err error) {
	vars, mounts := s.packageSettings()
	c := contain{
		inside: insideSpec{
			Argv: args, Env: append(vars, processMark+"="+stepMark(dir)), Dir: dir, Grace: min(s.spec.Job.grace(), lingering),
			Ranks: []insideRank{{Log: filepath.Join(s.dir, filePrepare)}},
		},
		mark:   stepMark(dir),
		mounts: append([]mount{{path: s.dir}, {path: s.root.file("env")}, {path: s.root.file("tools"), read: true}}, mounts...),
	}
	b, err := s.newBox(c)
	if err != nil {
		return "", err
	}
	r := b.wait(ctx.Done(), c.inside.Grace)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case r.Problem != nil:
		return "", r.Problem
	case r.OutOfMemory:
		return "exit status 137, because memory ran out", nil
	case r.Status.Signaled():
		return "signal " + signalName(r.Status.Signal()), nil
	case r.Status.ExitStatus() != 0:
		return fmt.Sprintf("exit status %d", r.Status.ExitStatus()), nil
	}
	return "", nil
}

// packagePrefixes are of variables of a login that package managers heed. Where uv keeps things is the step's own choice.
var packagePrefixes = []string{"PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"}

var notPackage = []string{"UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "UV_PROJECT_ENVIRONMENT", "PIP_CACHE_DIR", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"}

// packageFiles are where package managers find how they reach an index: below the login's home, and the machine's.
var packageFiles = []string{"~/.config/pip/pip.conf", "~/.pip/pip.conf", "~/.config/uv/uv.toml", "~/.netrc", "/etc/pip.conf", "/etc/xdg/pip/pip.conf", "/etc/uv/uv.toml"}

// packageSettings are the machine's settings for indexes, proxies and certificates, for a step in a container: packages come
// from where the machine gets its own, whatever the image thinks.
func (s *supervisor) packageSettings() (vars []string, mounts []mount) {
	login := s.given.Login
	vars = s.machineVariables()
	seen := map[string]bool{}
	add := func(path string) bool {
		if !filepath.IsAbs(path) || seen[path] || !exists(path) {
			return false
		}
		seen[path] = true
		mounts = append(mounts, mount{path: path, read: true})
		return true
	}
	for _, v := range login {
		name, value, _ := strings.Cut(v, "=")
		if slices.Contains(notPackage, name) || !slices.ContainsFunc(packagePrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		vars = append(vars, v)
		for path := range strings.FieldsSeq(value) {
			add(path)
		}
	}
	home := lookup(login, "HOME")
	for _, file := range packageFiles {
		if rest, ok := strings.CutPrefix(file, "~/"); ok {
			file = filepath.Join(home, rest)
		}
		if add(file) && home != "" && strings.HasPrefix(file, home+"/") {
			vars = append(vars, "HOME="+home) // the folders above the file are the engine's, and nothing is written there
		}
	}
	if lookup(vars, "SSL_CERT_FILE") == "" {
		if roots, info := systemRoots(login); info != nil {
			const at = "/.moorage-roots.pem"
			mounts = append(mounts, mount{path: resolved(roots), at: at, read: true})
			vars = append(vars, "SSL_CERT_FILE="+at)
		}
	}
	return vars, mounts
}

// resolved is the file that a path leads to.
func resolved(path string) string {
	if file, err := filepath.EvalSymlinks(path); err == nil {
		return file
	}
	return path
}
