package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// crane gives the options of a registry's client.
func (p *program) crane() []crane.Option {
	return []crane.Option{
		crane.WithAuth(&authn.Basic{Username: "moorage", Password: p.token}), crane.WithTransport(&http.Transport{TLSClientConfig: p.trust()}), crane.WithContext(p.t.Context()),
	}
}

// TestImagesAndUploadsOutliveTheServer: an image that was pushed is there after a kill, and an upload that the kill cut off
// goes on where the server says it is.
func TestImagesAndUploadsOutliveTheServer(t *testing.T) {
	data := t.TempDir()
	p := started(t, data)
	image, err := random.Image(3<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	const name = "/main/team/train:v1"
	if err := crane.Push(image, p.addr()+name, p.crane()...); err != nil {
		t.Fatal(err)
	}
	request := func(method, path, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("moorage", p.token)
		res, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res
	}
	upload := request(http.MethodPost, "/v2/main/team/train/blobs/uploads/", "").Header.Get("Location")
	if res := request(http.MethodPatch, upload, "first half, "); res.StatusCode != http.StatusAccepted {
		t.Fatalf("the first half: %s", res.Status)
	}
	p.kill()

	p = started(t, data)
	back, err := crane.Pull(p.addr()+name, p.crane()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(back); err != nil {
		t.Error(err)
	}
	if res := request(http.MethodGet, upload, ""); res.Header.Get("Range") != "0-11" {
		t.Errorf("the upload stands at %q", res.Header.Get("Range"))
	}
	if res := request(http.MethodPut, upload+"?digest="+fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("first half, second half"))), "second half"); res.StatusCode != http.StatusCreated {
		t.Errorf("the second half: %s", res.Status)
	}
}
