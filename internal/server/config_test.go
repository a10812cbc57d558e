package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func config(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "moorage.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadConfig(file)
}

func problemOf(t *testing.T, err error, code string) *workspace.Problem {
	t.Helper()
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != code || p.Message == "" || p.Mend == "" {
		t.Fatalf("got %v, wanted the problem %s", err, code)
	}
	return p
}

func TestConfigFileIsRead(t *testing.T) {
	c, err := config(t, `
data: /srv/m
listen: 0.0.0.0:1
allow_remote: true
names: [a, b]
min_free: 2GB
workspace: {name: main}
jobs:
  keep: 1m
  retention: 720h
tokens: {life: 10m, job_life: 24h}
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/srv/m" || !c.AllowRemote || len(c.Names) != 2 || c.MinFree != 2e9 || c.Workspace.Name != "main" || c.Jobs.Keep != time.Minute || c.Jobs.Retention != 720*time.Hour || c.Tokens != (Tokens{10 * time.Minute, 24 * time.Hour}) {
		t.Errorf("%+v", c)
	}
}

func TestWrongConfigNamesTheLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, cause string }{
		"unknown field": {"listen: 127.0.0.1:1\nlisten_on: x\n", "line 2"},
		"nested":        {"jobs:\n  kepp: 1m\n", "line 2"},
		"wrong type":    {"data: a\nallow_remote: [1]\n", "line 2"},
		"alias":         {"data: &a x\nlisten: *a\n", "line 2"},
		"deep":          {"data: " + strings.Repeat("[", 100_000), "line 1"},
		"no size":       {"min_free: lots\n", ""},
		"not YAML":      {"data: \"a\nb: {", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config(t, tc.text)
			if p := problemOf(t, err, "InvalidConfig"); !strings.Contains(p.Cause, tc.cause) {
				t.Errorf("cause %q", p.Cause)
			}
		})
	}
	_, err := ReadConfig(filepath.Join(t.TempDir(), "none"))
	problemOf(t, err, "NoConfigFile")
}

func TestTokensThatEndBeforeAClientComesAgainAreRefused(t *testing.T) {
	for tokens, ok := range map[Tokens]bool{
		{}: true, {Life: time.Second, JobLife: time.Minute}: true, {Life: -time.Hour}: false, {JobLife: 59 * time.Second}: false, {JobLife: -time.Hour}: false,
	} {
		_, err := Config{Data: "/d", Tokens: tokens}.complete()
		if ok != (err == nil) {
			t.Errorf("%+v: %v", tokens, err)
		}
		if !ok {
			problemOf(t, err, "InvalidTokenLife")
		}
	}
}

func TestAddressesOutsideLoopbackNeedAWord(t *testing.T) {
	for listen, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:1": true, "[::1]:1": true, "127.0.0.2:1": true, "0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "example.org:1": false,
	} {
		_, err := Config{Data: "/d", Listen: listen}.complete()
		if (err == nil) != ok {
			t.Errorf("%s: %v", listen, err)
		}
		if err != nil {
			problemOf(t, err, "RemoteNotAllowed")
		}
		if _, err := (Config{Data: "/d", Listen: listen, AllowRemote: true}).complete(); err != nil {
			t.Errorf("%s allowed: %v", listen, err)
		}
	}
	_, err := Config{Data: "/d", Listen: "nonsense"}.complete()
	problemOf(t, err, "InvalidListen")
}

func TestSizesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Size{"500MB": 5e8, "2 GB": 2e9, "1kb": 1000, "17": 17, "3B": 3, "none": -1, "0": 0} {
		var s Size
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		var again Size
		if want != 0 && (again.Set(s.String()) != nil || again != s) {
			t.Errorf("%q is written %q", text, s.String())
		}
	}
	for _, text := range []string{"", "MB", "-1", "1.5GB", "9999999999TB", "5 apples"} {
		var s Size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, s)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"500MB", "none", "-1", "1e9", "99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.Set(text) != nil || s == 0 {
			return
		}
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%q: %d is written %q: %v", text, s, s.String(), err)
		}
	})
}

func TestUploadsGoToANameOfTheirForm(t *testing.T) {
	for want, names := range map[string][]string{
		"moorage.blob.localhost": {"gpu-box.lan", "10.0.0.5"},
		"up.blob.gpu-box.lan":    {"gpu-box.lan", "up.blob.gpu-box.lan", "other.blob.lan"},
	} {
		s := &Server{cfg: Config{Names: names}}
		if got := s.blobHost(); got != want {
			t.Errorf("with the names %v it is %s, want %s", names, got, want)
		}
	}
}
