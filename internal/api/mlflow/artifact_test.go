package mlflow_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestArtifacts(t *testing.T) {
	s := start(t)
	id := s.newRun(t, `{}`)
	root := "/mlflow-artifacts/artifacts/0/" + id + "/artifacts"
	content := strings.Repeat("0123456789", 1000)
	for _, name := range []string{"a.txt", "dir/b%20%C3%BC%23.bin", "dir/sub/c", "100%25.txt"} {
		if a := s.as(t, token, http.MethodPut, root+"/"+name, content, "Content-Type", "text/html"); a.status != 200 || string(a.body) != "{}" {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
	}
	for header, want := range map[string]struct {
		status       int
		body, ranges string
	}{
		"":                 {200, content, ""},
		"bytes=0-3":        {206, "0123", "bytes 0-3/10000"},
		"bytes=9998-":      {206, "89", "bytes 9998-9999/10000"},
		"bytes=-3":         {206, "789", "bytes 9997-9999/10000"},
		"bytes=9999-20000": {206, "9", "bytes 9999-9999/10000"},
		"bytes=10000-":     {416, "", "bytes */10000"},
		"bytes=5-2":        {200, content, ""},
		"bytes=0-1,5-6":    {200, content, ""},
		"lines=1-2":        {200, content, ""},
		"bytes=-0":         {416, "", "bytes */10000"},
		"bytes=x-":         {200, content, ""},
	} {
		a := s.as(t, token, http.MethodGet, root+"/a.txt", "", "Range", header)
		if a.status != want.status || string(a.body) != want.body || a.header.Get("Content-Range") != want.ranges {
			t.Errorf("Range %q: %d %q %.40s", header, a.status, a.header.Get("Content-Range"), a.body)
		}
		if !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("a browser may run it: %v", a.header)
		}
	}
	if a := s.as(t, token, http.MethodHead, root+"/a.txt", ""); a.status != 200 || a.header.Get("Content-Length") != "10000" {
		t.Errorf("%d %v", a.status, a.header)
	}
	list := func(path string) string {
		a := s.get(t, path)
		m := a.json(t)
		var names []string
		files, _ := m["files"].([]any)
		for _, f := range files {
			f := f.(map[string]any)
			name := f["path"].(string)
			if f["is_dir"].(bool) {
				name += "/"
			}
			names = append(names, fmt.Sprint(name, f["file_size"]))
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	folder := func(p string) string {
		return list("/mlflow-artifacts/artifacts?path=" + url.QueryEscape("0/"+id+"/artifacts"+p))
	}
	for p, want := range map[string]string{
		"": "100%.txt10000 a.txt10000 dir/<nil>", "/dir": "b ü#.bin10000 sub/<nil>", "/dir/": "b ü#.bin10000 sub/<nil>", "/none": "", "/a.txt": "",
	} {
		if got := folder(p); got != want {
			t.Errorf("folder %q: %q, want %q", p, got, want)
		}
	}
	for p, want := range map[string]string{"": "100%.txt10000 a.txt10000 dir/<nil>", "dir": "dir/b ü#.bin10000 dir/sub/<nil>", "a.txt": ""} {
		if got := list("/mlflow/artifacts/list?run_id=" + id + "&path=" + url.QueryEscape(p)); got != want {
			t.Errorf("run's %q: %q, want %q", p, got, want)
		}
	}
	if a := s.as(t, token, http.MethodDelete, root+"/dir", ""); a.status != 200 || folder("") != "100%.txt10000 a.txt10000" {
		t.Errorf("%d %s, left %s", a.status, a.body, folder(""))
	}
	if a := s.as(t, token, http.MethodDelete, root+"/dir", ""); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.as(t, token, http.MethodPut, "/mlflow-artifacts/artifacts/some/where", "x"); a.status != 200 || list("/mlflow-artifacts/artifacts?path=some") != "where1" {
		t.Errorf("loose: %d %s", a.status, a.body)
	}
}
