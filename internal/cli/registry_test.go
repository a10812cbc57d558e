package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// registrySimulator answers as the server's registry does, two repositories a page.
func registrySimulator(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /native/v1/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/registry/login", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"server":"gpu-box.lan:8443","prefix":"main","username":"moorage","password":"TOKEN"}`)
	})
	mux.HandleFunc("GET /v2/_catalog", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("last") != "" {
			fmt.Fprint(w, `{"repositories":["main/c"]}`)
			return
		}
		w.Header().Set("Link", `</v2/_catalog?last=main%2Fa%2Fb>; rel="next"`)
		fmt.Fprint(w, `{"repositories":["main/a","main/a/b"]}`)
	})
	mux.HandleFunc("GET /v2/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"tags":["v1","of-%s"]}`, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/tags/list"), "/", "-"))
	})
	mux.HandleFunc("DELETE /v2/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/manifests/none") {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"the repository has no manifest \"none\"","detail":{"code":"ManifestUnknown"}}]}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestRegistryCommands(t *testing.T) {
	s := registrySimulator(t)
	for name, v := range map[string]string{"URL": s.URL, "CA": "", "TOKEN": "t", "TOKEN_FILE": "", "SUBSCRIPTION": "s", "RESOURCE_GROUP": "g", "WORKSPACE": "w"} {
		t.Setenv("MOORAGE_"+name, v)
	}
	for _, tt := range []struct {
		args string
		code int
		want []string
	}{
		{"registry login", 0, []string{"docker login -u moorage --password-stdin gpu-box.lan:8443", "docker push gpu-box.lan:8443/main/IMAGE", "/etc/docker/certs.d/gpu-box.lan:8443/ca.crt"}},
		{"registry login --password", 0, []string{"TOKEN\n"}},
		{"registry list", 0, []string{"main/a ", "v1 of-main-a\n", "main/a/b", "v1 of-main-a-b\n", "main/c"}},
		{"registry list -o json", 0, []string{`"name": "main/c"`, `"of-main-c"`}},
		{"registry delete main/a:v1", 0, []string{"deleted main/a:v1"}},
		{"registry delete main/a@sha256:00", 0, []string{"deleted"}},
		{"registry delete main/a:none", 1, []string{`the repository has no manifest "none"`}},
		{"registry delete main/a", 2, []string{"names no tag and no digest"}},
		{"registry delete localhost:8443/a", 2, []string{"names no tag and no digest"}},
	} {
		var out bytes.Buffer
		code := Main(t.Context(), strings.Fields(tt.args), Streams{Out: &out, Err: &out})
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(out.String(), want) {
				t.Errorf("%s: code %d, want %d and %q in\n%s", tt.args, code, tt.code, want, out.String())
			}
		}
	}
}

func TestEnginesTakeARegistryOnLoopbackAsItIs(t *testing.T) {
	for server, want := range map[string]bool{"localhost:8443": true, "127.0.0.1:1": true, "[::1]:8443": true, "localhost": true, "box.lan:8443": false, "10.0.0.1:8443": false} {
		if got := trusting(server); got != want {
			t.Errorf("%s: %v", server, got)
		}
	}
}
