package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestBlobURLHasTheFormThatClientsUploadTo(t *testing.T) {
	for _, tt := range []struct{ host, configured, want string }{
		{"localhost:8443", "", "https://moorage.blob.localhost:8443/c/a%20b/%C3%9F%25.txt?sig=s"},
		{"box.example", "", "https://moorage.blob.localhost/c/a%20b/%C3%9F%25.txt?sig=s"},
		{"[::1]:8443", "", "https://moorage.blob.localhost:8443/c/a%20b/%C3%9F%25.txt?sig=s"},
		{"box.example:8443", "up.blob.example", "https://up.blob.example:8443/c/a%20b/%C3%9F%25.txt?sig=s"},
		{"other.blob.lan:1", "up.blob.example", "https://other.blob.lan:1/c/a%20b/%C3%9F%25.txt?sig=s"},
	} {
		rt := newRouter(t, Route{Method: "GET", Pattern: "/url", Public: "for the test", Handler: func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, BlobURL(r, "c", "a b/ß%.txt", "sig=s"))
			return err
		}})
		rt.cfg.BlobHost = tt.configured
		r := httptest.NewRequest(http.MethodGet, "/url", nil)
		r.Host = tt.host
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Body.String() != tt.want {
			t.Errorf("asked by %s with host %q: %s, want %s", tt.host, tt.configured, w.Body, tt.want)
		}
	}
}

func TestEverythingIsServedUnderABlobHost(t *testing.T) {
	rt := newRouter(t,
		Route{Method: "GET", Pattern: WorkspacePath + "/jobs/{name}", Handler: say},
		Route{Method: "GET", Pattern: "/metrics", Public: "for the test", Handler: say},
		Route{Method: "GET", Pattern: "/blob/{account}/{container}", Handler: func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, r.PathValue("account")+" "+r.PathValue("container"))
			return err
		}},
		Route{Method: "GET", Pattern: "/blob/{account}/{container}/{path...}", Handler: func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, r.PathValue("account")+" "+r.PathValue("container")+" "+r.PathValue("path"))
			return err
		}},
	)
	for _, tt := range []struct{ host, path, protocol, want string }{
		{"up.blob.lan", wsPath + "/jobs/x", "", "W x"},
		{"up.blob.lan:99", strings.ToLower(wsPath[:strings.LastIndex(wsPath, "/")]) + "/W/JOBS/x", "", "W x"},
		{"up.blob.lan", "/metrics", "", " "},
		{"up.blob.lan", "/metrics", "2021-12-02", "up metrics"}, // a container of that name
		{"up.blob.lan", "/c/Models/a%20b", "2021-12-02", "up c Models/a b"},
		{"up.blob.lan", "/c/Models/a%20b", "", "up c Models/a b"},
		{"up.blob.lan", "/blob/acct/c/x", "2021-12-02", "acct c x"},
		{"box.lan", "/blob/acct/c/Subscriptions/Jobs", "", "acct c Subscriptions/Jobs"},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Host = tt.host
		r.Header.Set("Authorization", "admin")
		if tt.protocol != "" {
			r.Header.Set("x-ms-version", tt.protocol)
		}
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.String() != tt.want {
			t.Errorf("%s%s: %d %q, want %q", tt.host, tt.path, w.Code, w.Body, tt.want)
		}
	}
}

// exact takes the signature "good" for one name.
type exact struct {
	fakeAuth
	name string
}

func (e exact) CheckSignature(_ url.Values, _, blob, _ string) error {
	if blob == e.name {
		return nil
	}
	return &workspace.Problem{Class: workspace.Unauthenticated, Code: "AuthenticationFailed", Message: "bad signature", Mend: "get one"}
}

func TestNamesQuotedOnceMoreAreKnownByTheirSignature(t *testing.T) {
	rt := newRouter(t, Route{
		Method: "PUT", Pattern: "/blob/{account}/{container}/{path...}", Action: ActionBlobs + "write",
		Signed: func(r *http.Request) Grant {
			return Grant{Container: r.PathValue("container"), Blob: r.PathValue("path"), Verb: "w", Variable: "path"}
		},
		Handler: func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, r.PathValue("path"))
			return err
		},
	})
	for _, tt := range []struct {
		signed, path string
		status       int
	}{
		{"a b.png", "a%20b.png", 200},
		{"a b.png", "a%2520b.png", 200},
		{"a%20b.png", "a%2520b.png", 200},
		{"a%20b.png", "a%252520b.png", 200},
		{"100%.txt", "100%25.txt", 200},
		{"100%.txt", "100%2525.txt", 200},
		{"größe", "gr%25C3%25B6%25C3%259Fe", 200},
		{"a b.png", "a%252520b.png", 401}, // twice too often
		{"a b.png", "a%2520c.png", 401},
	} {
		rt.cfg.Auth = exact{name: tt.signed}
		w := call(rt, http.MethodPut, "/blob/x/c/"+tt.path+"?sig=good", "", nil)
		if w.Code != tt.status || tt.status == 200 && w.Body.String() != tt.signed {
			t.Errorf("%s signed, %s sent: %d %q", tt.signed, tt.path, w.Code, w.Body)
		}
	}
}

func TestJobsUploadByTheNameThatLeadsToTheirWayBack(t *testing.T) {
	rt := newRouter(t, Route{Method: "GET", Pattern: "/url", Public: "for the test", Handler: func(w http.ResponseWriter, r *http.Request) error {
		_, err := io.WriteString(w, BlobURL(r, "c", "x", "sig=s"))
		return err
	}})
	rt.cfg.BlobHost = "up.blob.example" // which leads elsewhere
	r := httptest.NewRequest(http.MethodGet, "/url", nil)
	r = r.WithContext(authn.WithWayBack(r.Context(), "J", 1))
	r.Host = "127.0.0.1:4711"
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	if want := "https://moorage.blob.localhost:4711/c/x?sig=s"; w.Body.String() != want {
		t.Errorf("%s, want %s", w.Body, want)
	}
}
