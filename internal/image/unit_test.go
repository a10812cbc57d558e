package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestTheImagesOfADockerfileAreFound(t *testing.T) {
	got := bases(`ARG TAG=3.12
ARG EMPTY
FROM --platform=linux/amd64 registry.example:5000/team/base:${TAG} AS build
FROM python:$TAG
COPY --from=build --chown=1:1 /a /b
COPY --from=ghcr.io/astral/uv:0.9 /uv /uv
COPY --from=0 /a /b
RUN --mount=type=cache,from=busybox:1,target=/x \
    echo FROM nothing
from ${EMPTY:-debian:12}
FROM scratch
FROM Build
# FROM comment
`, map[string]string{"TAG": "3.13"})
	want := []string{"busybox:1", "debian:12", "ghcr.io/astral/uv:0.9", "python:3.13", "registry.example:5000/team/base:3.13"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q", got)
	}
}

func TestPythonVersionsThatServe(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{"3.11.2", "", true},
		{"3.11.2", "3.11", true},
		{"3.11.2", "3.11.2", true},
		{"3.11.2", "3.11.3", false},
		{"3.11.2", "3.12", false},
		{"3.11.2", ">=3.10,<3.12", true},
		{"3.12.0", ">=3.10,<3.12", false},
		{"3.12.0", ">=3.10,<=3.12", true},
		{"3.12.4", "<=3.12", true},
		{"3.11.2", "!=3.11.*", false},
		{"3.11.2", "~=3.10", true},
		{"3.11.2", "~=3.11.3", false},
		{"3.11.2", ">3.11", false},
		{"3.12.0", ">3.11", true},
		{"3.11.2", "nonsense", false},
		{"", "3.11", false},
		{"3.11.2", ">=", false},
	} {
		if got := serves(c.have, c.want); got != c.ok {
			t.Errorf("%s for %q: %v", c.have, c.want, got)
		}
	}
}

func TestWhatAnImageShowsOfPythonFollowsItsLayers(t *testing.T) {
	program := func(minor string) node {
		return node{machine: elf.EM_X86_64, loader: "/lib64/ld-linux-x86-64.so.2", patch: "3." + minor + ".4"}
	}
	libc := node{glibc: 36}
	for name, c := range map[string]struct {
		files  view
		search string
		want   string // path, version, C library; or a part of the problem
	}{
		"debian":      {view{"bin": {link: "usr/bin"}, "usr/bin/python3": {link: "python3.11"}, "usr/bin/python3.11": program("11"), "lib/libc.so.6": libc}, "/usr/bin", "/usr/bin/python3.11 3.11.4 manylinux 36"},
		"linked path": {view{"bin": {link: "usr/bin"}, "usr/bin/python3": {link: "/usr/bin/python3.11"}, "usr/bin/python3.11": program("11"), "lib/libc.so.6": libc}, "/bin", "/usr/bin/python3.11 3.11.4 manylinux 36"},
		"path order":  {view{"usr/bin/python3.9": program("9"), "usr/bin/python3": {link: "python3.9"}, "opt/conda/bin/python": {link: "python3.10"}, "opt/conda/bin/python3.10": program("10"), "l/libc-2.31.so": {glibc: 31}}, "/opt/conda/bin:/usr/bin", "/opt/conda/bin/python3.10 3.10.4 manylinux 31"},
		"number only": {view{"usr/bin/python3.12": program("12"), "l/libc.so.6": libc}, "/usr/bin", "/usr/bin/python3.12 3.12.4 manylinux 36"},
		"alpine":      {view{"usr/bin/python3": {link: "python3.12"}, "usr/bin/python3.12": {machine: elf.EM_AARCH64, loader: "/lib/ld-musl-aarch64.so.1"}, "usr/lib/libpython3.12.so.1.0": {patch: "3.12.8"}}, "/usr/bin", "/usr/bin/python3.12 3.12.8 musllinux 2"},
		"loop":        {view{"usr/bin/python3": {link: "python"}, "usr/bin/python": {link: "python3"}}, "/usr/bin", "no Python 3"},
		"dangling":    {view{"usr/bin/python3": {link: "../../../../gone"}}, "/usr/bin", "no Python 3"},
		"python 2":    {view{"usr/bin/python": {link: "python2.7"}}, "/usr/bin", "no Python 3"},
		"none":        {view{}, "/usr/bin", "no Python 3"},
	} {
		p, err := c.files.python(strings.Split(c.search, ":"))
		got := fmt.Sprint(p.Path, " ", p.Version, " ", p.System, " ", p.Minor)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestLayersRemoveAndReplace(t *testing.T) {
	v := view{}
	lay := func(entries ...tar.Header) {
		for _, h := range entries {
			if err := v.entry(&h, strings.NewReader("")); err != nil {
				t.Fatal(err)
			}
		}
	}
	lay(tar.Header{Typeflag: tar.TypeSymlink, Name: "./a/python3", Linkname: "python3.9"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/python3.9"},
		tar.Header{Typeflag: tar.TypeLink, Name: "c/python3.9", Linkname: "a/python3.9"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "d", Linkname: "a"},
		tar.Header{Typeflag: tar.TypeReg, Name: "e/f/python3"}, tar.Header{Typeflag: tar.TypeReg, Name: "g/python3"})
	lay(tar.Header{Typeflag: tar.TypeReg, Name: "a/.wh.python3.9"}, tar.Header{Typeflag: tar.TypeDir, Name: "d/"},
		tar.Header{Typeflag: tar.TypeReg, Name: "e/.wh..wh..opq"}, tar.Header{Typeflag: tar.TypeReg, Name: ".wh.g"})
	var names []string
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "a/python3 c/python3.9" {
		t.Errorf("there are %s", got)
	}
}

func TestThePatchVersionIsTheWholeNumber(t *testing.T) {
	for text, want := range map[string]string{"x13.12.9 y\x003.12.4\x00": "3.12.4", "3.12.10+": "3.12.10", "3.12.4.5 3.12.7 (main": "3.12.7", "3.12.x": "", "3.12.123": ""} {
		if got := patchVersion([]byte(text), "12"); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestPasswordsDoNotGoOverPlainHTTP(t *testing.T) {
	reached := false
	g := guarded{plain: []string{"registry.internal:5000"}, next: roundTrip(func(*http.Request) (*http.Response, error) {
		reached = true
		return nil, io.EOF
	})}
	for address, ok := range map[string]bool{
		"http://10.1.2.3:5000/v2/": false, "http://registry.local/v2/": false, "https://10.1.2.3:5000/v2/": true, "http://127.0.0.1:5000/v2/": true, "http://localhost/v2/": true, "http://registry.internal:5000/v2/": true,
	} {
		reached = false
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.RoundTrip(r)
		if resp != nil {
			resp.Body.Close()
		}
		if err == nil || reached != ok {
			t.Errorf("%s: reached %v (%v)", address, reached, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTheSettingsOfACompanysNetworkReachUv(t *testing.T) {
	dir := t.TempDir()
	vars, err := Network{
		CA: "-----BEGIN CERTIFICATE-----\nown\n", Proxy: workspace.NewSecret("http://who:what@proxy:3128"), NoProxy: "internal", Index: workspace.NewSecret("https://u:p@index/simple"),
		Extra: []workspace.Secret{workspace.NewSecret("https://a"), workspace.NewSecret("https://b")},
	}.variables(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTPS_PROXY=http://who:what@proxy:3128", "NO_PROXY=internal", "UV_DEFAULT_INDEX=https://u:p@index/simple", "UV_INDEX=https://a https://b", "SSL_CERT_FILE=" + dir + "/ca.pem"} {
		if !slices.Contains(vars, want) {
			t.Errorf("%q lacks %s", vars, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !strings.HasSuffix(string(b), "own\n") {
		t.Errorf("the bundle ends with %q (%v)", b[max(0, len(b)-40):], err)
	}
	if _, err := (Network{CA: "no certificate"}).transport(); err == nil {
		t.Error("a bundle without a certificate is taken")
	}
}

func TestLayersThatAreNotUsedGo(t *testing.T) {
	l := layers{dir: t.TempDir(), limit: 3000}
	random := make([]byte, 1500)
	fill := func(seed byte) func(w *tar.Writer) error {
		return func(w *tar.Writer) error {
			for i := range random { // not to be compressed much
				seed = seed*31 + byte(i*i>>3) + 7
				random[i] = seed ^ byte(i*7919>>4)
			}
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: int64(len(random)), Mode: 0o644}); err != nil {
				return err
			}
			_, err := w.Write(random)
			return err
		}
	}
	for i, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if _, made, err := l.get(key, fill(byte(i))); err != nil || !made {
			t.Fatal(made, err)
		}
	}
	if _, err := l.find("f"); err != nil {
		t.Errorf("the newest went: %v", err)
	}
	if _, err := l.find("a"); err == nil {
		t.Error("the oldest stays")
	}
}

func TestHostileTarsAreRefused(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"above":    {Typeflag: tar.TypeReg, Name: "../x"},
		"absolute": {Typeflag: tar.TypeReg, Name: "/etc/x"},
		"link":     {Typeflag: tar.TypeLink, Name: "x", Linkname: "../../etc/passwd"},
		"device":   {Typeflag: tar.TypeChar, Name: "x"},
	} {
		var in, out bytes.Buffer
		w := tar.NewWriter(&in)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Close()
		file := filepath.Join(t.TempDir(), "in.tar")
		if err := os.WriteFile(file, in.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := place(t.Context(), tar.NewWriter(&out), Archive(file), "/app"); err == nil {
			t.Errorf("%s: it was placed", name)
		}
		dir := t.TempDir()
		err := FileBuild{Dockerfile: Dockerfile{Context: Archive(file)}}.unpack(context.WithoutCancel(t.Context()), dir)
		if _, found := os.Lstat(filepath.Join(filepath.Dir(dir), "x")); found == nil || err == nil && name != "device" && name != "link" {
			t.Errorf("%s: it was unpacked (%v)", name, err)
		}
	}
}
