package registry

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	gcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	ours "github.com/moorage-ml/moorage/internal/authn"
)

// crane gives the options of go-containerregistry's client with a password.
func (s *server) crane(password string) []crane.Option {
	return []crane.Option{
		crane.WithAuth(&authn.Basic{Username: "moorage", Password: password}), crane.WithTransport(s.http.Client().Transport), crane.WithContext(s.t.Context()),
	}
}

func (s *server) push(image gcr.Image, name, password string) error {
	return crane.Push(image, s.host+"/"+name, s.crane(password)...)
}

func TestCranePushesPullsListsCopiesAndDeletes(t *testing.T) {
	s := newServer(t, "")
	image, err := random.Image(1<<20, 3)
	must(t, err)
	want, err := image.Digest()
	must(t, err)
	must(t, s.push(image, "main/team/train:v1", admin))
	back, err := crane.Pull(s.host+"/main/team/train:v1", s.crane(admin)...)
	must(t, err)
	must(t, validate.Image(back))
	if got, err := back.Digest(); err != nil || got != want {
		t.Errorf("%v came back, %v went: %v", got, want, err)
	}
	must(t, crane.Copy(s.host+"/main/team/train:v1", s.host+"/main/copy:latest", s.crane(admin)...)) // by mounting
	must(t, crane.Tag(s.host+"/main/copy:latest", "second", s.crane(admin)...))
	tags, err := crane.ListTags(s.host+"/main/copy", s.crane(admin)...)
	must(t, err)
	if !slices.Equal(tags, []string{"latest", "second"}) {
		t.Errorf("tags %v", tags)
	}
	names, err := crane.Catalog(s.host, s.crane(admin)...)
	must(t, err)
	if !slices.Equal(names, []string{"main/copy", "main/team/train"}) {
		t.Errorf("catalogue %v", names)
	}
	must(t, crane.Delete(s.host+"/main/copy:second", s.crane(admin)...))
	if _, err := crane.Digest(s.host+"/main/copy:second", s.crane(admin)...); err == nil {
		t.Error("a deleted tag is still there")
	}
	if d, err := crane.Digest(s.host+"/main/copy:latest", s.crane(admin)...); err != nil || d != want.String() {
		t.Errorf("the tag beside it: %s, %v", d, err)
	}
}

func TestTokensOfAWorkspaceReachItAlone(t *testing.T) {
	s := newServer(t, "")
	image, err := random.Image(1000, 1)
	must(t, err)
	push, pull := s.token("id-of-main", ours.RegistryPush), s.token("id-of-main", ours.RegistryPull)
	must(t, s.push(image, "main/a:1", push))
	must(t, s.push(image, "id-of-main/b:1", push)) // the id serves as well as the name
	must(t, s.push(image, "other/a:1", admin))
	for _, tt := range []struct {
		what     string
		password string
		do       func(options []crane.Option) error
		refusal  string // empty: it is allowed
	}{
		{"pull, to pull", pull, func(o []crane.Option) error { _, err := crane.Pull(s.host+"/main/a:1", o...); return err }, ""},
		{"pull, to push", pull, func(o []crane.Option) error { return crane.Push(image, s.host+"/main/c:1", o...) }, "DENIED"},
		{"pull, to delete", pull, func(o []crane.Option) error { return crane.Delete(s.host+"/main/a:1", o...) }, "DENIED"},
		{"push, to pull from another", push, func(o []crane.Option) error { _, err := crane.Pull(s.host+"/other/a:1", o...); return err }, "DENIED"},
		{"push, to push to another", push, func(o []crane.Option) error { return crane.Push(image, s.host+"/other/c:1", o...) }, "403"},
		{"push, to push where none is", push, func(o []crane.Option) error { return crane.Push(image, s.host+"/none/c:1", o...) }, "403"},
		{"wrong", "wrong", func(o []crane.Option) error { _, err := crane.Pull(s.host+"/main/a:1", o...); return err }, "UNAUTHORIZED"},
		{"none", "", func(o []crane.Option) error { _, err := crane.Pull(s.host+"/main/a:1", o...); return err }, "UNAUTHORIZED"},
		{"administrator, where none is", admin, func(o []crane.Option) error { _, err := crane.Pull(s.host+"/none/c:1", o...); return err }, "NAME_UNKNOWN"},
	} {
		err := tt.do(s.crane(tt.password))
		if tt.refusal == "" && err != nil || tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), tt.refusal)) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.refusal)
		}
	}
	names, err := crane.Catalog(s.host, s.crane(pull)...)
	if err != nil || !slices.Equal(names, []string{"main/a", "main/b"}) {
		t.Errorf("the catalogue of one workspace: %v, %v", names, err)
	}
}
