package environment

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// kept is an object store in memory.
type kept struct {
	mu      sync.Mutex
	objects map[snapshot.Hash][]byte
	puts    int
}

func (k *kept) Has(_ context.Context, hashes []snapshot.Hash) (missing []snapshot.Hash, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range hashes {
		if _, ok := k.objects[h]; !ok {
			missing = append(missing, h)
		}
	}
	return missing, nil
}

func (k *kept) Put(_ context.Context, hash snapshot.Hash, r io.Reader, size int64) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if snapshot.Sum(b) != hash || int64(len(b)) != size {
		return errors.New("not what was announced")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.objects == nil {
		k.objects = map[snapshot.Hash][]byte{}
	}
	k.objects[hash] = b
	k.puts++
	return nil
}

func wheel(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{"uv/__init__.py": "", "uv-1.2.3.data/scripts/uvx": "no", "uv-1.2.3.data/scripts/uv": content} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// indexOf serves a simple index with wheels of uv 1.2.3 for every platform. sum overrides the hash that it states.
func indexOf(t *testing.T, html bool, sum string) (base string, requests *[]string) {
	t.Helper()
	var mu sync.Mutex
	requests = &[]string{}
	content := map[string][]byte{
		"uv-1.2.3-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl":                         wheel(t, "glibc"),
		"uv-1.2.3-py3-none-musllinux_1_1_x86_64.whl":                                               wheel(t, "amd64"),
		"uv-1.2.3-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl": wheel(t, "arm64"),
		"uv-1.2.3-py3-none-macosx_11_0_arm64.whl":                                                  wheel(t, "mac"),
		"uv-1.2.4-py3-none-musllinux_1_1_x86_64.whl":                                               wheel(t, "newer"),
		"uv-1.2.3.tar.gz": nil,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*requests = append(*requests, r.URL.Path)
		mu.Unlock()
		if user, pass, _ := r.BasicAuth(); user != "bob" || pass != "hunter2" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if name, ok := strings.CutPrefix(r.URL.Path, "/files/"); ok {
			w.Write(content[name])
			return
		}
		if r.URL.Path != "/simple/uv/" {
			http.NotFound(w, r)
			return
		}
		type file struct {
			Filename string            `json:"filename"`
			URL      string            `json:"url"`
			Hashes   map[string]string `json:"hashes"`
		}
		var files []file
		var page strings.Builder
		for name, b := range content {
			h := sum
			if h == "" {
				h = string(snapshot.Sum(b))
			}
			files = append(files, file{name, "../../files/" + name, map[string]string{"sha256": h}})
			fmt.Fprintf(&page, "<a href=\"../../files/%s#sha256=%s\" data-requires-python=\"&gt;=3.8\">%s</a><br/>\n", name, h, name)
		}
		if html {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, page.String())
			return
		}
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		json.NewEncoder(w).Encode(map[string]any{"name": "uv", "files": files})
	}))
	t.Cleanup(srv.Close)
	return strings.Replace(srv.URL, "http://", "http://bob:hunter2@", 1) + "/simple", requests
}

func newTool(t *testing.T, dir, index string, k *kept) *UvTool {
	t.Helper()
	u, err := NewUvTool(UvConfig{Dir: dir, Objects: k, Index: workspace.NewSecret(index), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUvComesFromItsWheelForEachPlatform(t *testing.T) {
	for _, html := range []bool{false, true} {
		index, _ := indexOf(t, html, "")
		k := &kept{}
		u := newTool(t, t.TempDir(), index, k)
		for platform, want := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64", "darwin/arm64": "mac"} {
			goos, goarch, _ := strings.Cut(platform, "/")
			tool, err := u.Get(t.Context(), goos, goarch)
			if err != nil {
				t.Fatalf("html %v, %s: %v", html, platform, err)
			}
			if got := string(k.objects[tool.Object]); got != want || tool.Name != "uv" {
				t.Errorf("html %v, %s: got %q, want %q", html, platform, got, want)
			}
		}
	}
}

func TestUvIsFetchedOnce(t *testing.T) {
	index, requests := indexOf(t, false, "")
	k, dir := &kept{}, t.TempDir()
	u := newTool(t, dir, index, k)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := u.Get(t.Context(), "linux", "amd64"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(*requests) != 2 || k.puts != 1 {
		t.Errorf("%d requests and %d puts, want 2 and 1: %v", len(*requests), k.puts, *requests)
	}
	// A restarted server, and a store that lost the object, take the downloaded one.
	k.objects = nil
	if _, err := u.Get(t.Context(), "linux", "amd64"); err != nil {
		t.Error(err)
	}
	tool, err := newTool(t, dir, index, k).Get(t.Context(), "linux", "amd64")
	if err != nil || string(k.objects[tool.Object]) != "amd64" {
		t.Errorf("got %v, %v", tool, err)
	}
	if len(*requests) != 2 {
		t.Errorf("fetched again: %v", *requests)
	}
}

func TestUvWithAWrongHashIsNotTaken(t *testing.T) {
	index, _ := indexOf(t, false, string(snapshot.Sum([]byte("something else"))))
	k, dir := &kept{}, t.TempDir()
	_, err := newTool(t, dir, index, k).Get(t.Context(), "linux", "amd64")
	if !errors.Is(err, &workspace.Problem{Code: "UvUnavailable"}) || !strings.Contains(err.Error(), "sha256") || len(k.objects) != 0 {
		t.Errorf("got %v, %d objects", err, len(k.objects))
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUvThatCannotBeHadSaysWhyWithoutTheCredentials(t *testing.T) {
	index, _ := indexOf(t, false, "")
	for name, c := range map[string]struct{ index, say string }{
		"wrong password": {strings.Replace(index, "hunter2", "hunter3", 1), "401"},
		"not an index":   {index + "/nowhere", "404"},
		"nobody there":   {"http://bob:hunter3@127.0.0.1:1/simple", "refused"},
		"nonsense":       {"http://bob:hunter3@[::1/simple", "not understood"},
	} {
		_, err := newTool(t, t.TempDir(), c.index, &kept{}).Get(t.Context(), "linux", "amd64")
		if !errors.Is(err, &workspace.Problem{Code: "UvUnavailable"}) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: got %v, want %q", name, err, c.say)
		}
		if err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: the password is in %q", name, err)
		}
	}
	if _, err := newTool(t, t.TempDir(), index, &kept{}).Get(t.Context(), "plan9", "mips"); !errors.Is(err, &workspace.Problem{Code: "UvUnavailable"}) {
		t.Errorf("got %v", err)
	}
}

func TestIndexIsTheOneThatPipWouldUse(t *testing.T) {
	files := map[string]string{
		"/h/.config/pip/pip.conf": "# mine\n[list]\nindex-url = https://no.example/\n[global]\ntimeout = 1\nindex_url = https://user.example/simple\n",
		"/etc/pip.conf":           "[global]\nindex-url: ignored\nindex-url=https://etc.example/simple\n",
	}
	read := func(name string) ([]byte, error) {
		if s, ok := files[name]; ok {
			return []byte(s), nil
		}
		return nil, os.ErrNotExist
	}
	for want, env := range map[string]map[string]string{
		"https://uv.example/":         {"UV_DEFAULT_INDEX": "https://uv.example/", "PIP_INDEX_URL": "https://pip.example/"},
		"https://pip.example/":        {"PIP_INDEX_URL": "https://pip.example/", "HOME": "/h"},
		"https://user.example/simple": {"HOME": "/h"},
		"https://etc.example/simple":  {"HOME": "/other"},
	} {
		if got := configuredIndex(func(k string) string { return env[k] }, read); got != want {
			t.Errorf("%v: got %q, want %q", env, got, want)
		}
	}
	files = nil
	if got := configuredIndex(func(string) string { return "" }, read); got != "" {
		t.Errorf("got %q, want none", got)
	}
}

func FuzzIndexPage(f *testing.F) {
	f.Add([]byte(`{"files":[{"filename":"a","url":"b","hashes":{"sha256":"c"}}]}`))
	f.Add([]byte(`<a href="a#sha256=b">a</a>`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseSimpleJSON(b)
		_, _ = parseSimpleHTML(b)
	})
}
