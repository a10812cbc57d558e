package cli

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// patient is a server for the doctor to look at.
type patient struct {
	*httptest.Server
	token, room, blobHost string
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{token: "secret", blobHost: "127.0.0.1"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	admitted := func(then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+p.token {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"error":{"code":"InvalidAuthenticationToken","message":"the token is not known","mend":"take a valid one"}}`)
				return
			}
			then(w, r)
		}
	}
	mux.HandleFunc("GET /native/v1/server", admitted(func(w http.ResponseWriter, _ *http.Request) {
		room := "null"
		if p.room != "" {
			room = fmt.Sprintf(`{"code":"DiskLow","message":%q,"cause":"5 MB are free","mend":"make room"}`, p.room)
		}
		_, _ = fmt.Fprintf(w, `{"version":"1","blob_host":%q,"room":%s}`, p.blobHost, room)
	}))
	mux.HandleFunc("GET "+simWorkspace, admitted(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	p.Server = httptest.NewUnstartedServer(mux)
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

// examined are the findings about a server, by check.
func (p *patient) examined(t *testing.T, trusting bool, now func() time.Time) map[string]finding {
	t.Helper()
	cfg := client.Config{URL: p.URL, Token: workspace.NewSecret("secret"), Workspace: workspace.Workspace{Subscription: "sub", ResourceGroup: "rg", Name: "ws"}}
	if trusting {
		cfg.CA = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(cfg.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &doctor{client: c, now: now, lookup: func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }}
	out := map[string]finding{}
	for _, x := range d.examine(t.Context()) {
		out[x.Check] = x
	}
	return out
}

func TestDoctorFindsWhatIsWrongAndNothingElse(t *testing.T) {
	azure := t.TempDir()
	t.Setenv("AZURE_CONFIG_DIR", azure)
	tests := []struct {
		name     string
		untrust  bool
		clock    time.Duration
		harm     func(p *patient)
		check    string // the one that is wrong; empty: none
		says     []string
		complete bool // all other checks are made
	}{
		{name: "all is well", complete: true},
		{name: "no server", harm: func(p *patient) { p.Close() }, check: "server", says: []string{"cannot be reached", "connection refused", "moorage serve"}},
		{name: "another server", harm: func(p *patient) { p.Config.Handler = http.NotFoundHandler() }, check: "server", says: []string{"not as a server of Moorage does", "404"}},
		{name: "another authority", untrust: true, check: "certificate", says: []string{"not trusted", "moorage env"}},
		{name: "slow clock", clock: -10*time.Minute - 30*time.Second, check: "clock", says: []string{"10m", "behind", "NTP"}, complete: true},
		{name: "fast clock", clock: 10 * time.Minute, check: "clock", says: []string{"ahead of"}, complete: true},
		{name: "wrong token", harm: func(p *patient) { p.token = "another" }, check: "credentials", says: []string{"not known", "take a valid one"}},
		{name: "full disk", harm: func(p *patient) { p.room = "the disk is nearly full" }, check: "room", says: []string{"nearly full", "5 MB are free", "make room"}, complete: true},
		{
			name: "unknown name", harm: func(p *patient) { p.blobHost = "up.blob.invalid" }, check: "uploads",
			says: []string{"up.blob.invalid", "not known on this machine", `"127.0.0.1 up.blob.invalid"`, "env --proxy"}, complete: true,
		},
		{
			name: "another server's cloud", harm: func(*patient) {
				if err := os.WriteFile(filepath.Join(azure, "cloudEndpoints.json"), []byte(`"https://elsewhere"`), 0o600); err != nil {
					t.Fatal(err)
				}
			}, check: "azure folder", says: []string{"another server", "remove " + azure}, complete: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatient(t)
			if tt.harm != nil {
				tt.harm(p)
			}
			found := p.examined(t, !tt.untrust, func() time.Time { return time.Now().Add(tt.clock) })
			for check, x := range found {
				if x.OK == (check == tt.check) {
					t.Errorf("%+v", x)
				}
				if x.OK && (x.Cause != "" || x.Mend != "") || !x.OK && (x.Thing == "" || x.Cause == "" && check != "credentials" || x.Mend == "") {
					t.Errorf("thing, cause, mend: %+v", x)
				}
			}
			for _, s := range tt.says {
				if x := found[tt.check]; !strings.Contains(x.Thing+" | "+x.Cause+" | "+x.Mend, s) {
					t.Errorf("%+v does not say %q", x, s)
				}
			}
			if tt.complete && len(found) != 7 {
				t.Errorf("%d checks were made", len(found))
			}
		})
	}
}

func TestFindingsAreReadable(t *testing.T) {
	var b bytes.Buffer
	err := showFindings(&b, []finding{{Check: "server", OK: true, Thing: "it answers"}, {Check: "clock", Thing: "it is late", Cause: "nobody set it", Mend: "set it"}})
	want := `       CHECK   FINDING
ok     server  it answers
wrong  clock   it is late
               cause: nobody set it
               mend: set it
`
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestServerAsProxyIsForOneName(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("NO_PROXY", "wiki,.localhost,::1, com")
	secret := workspace.NewSecret("s")
	vars := func(url string) [][2]string {
		return [][2]string{{"IDENTITY_HEADER", "s"}, {"MLFLOW_TRACKING_URI", url + "/mlflow"}, {"REQUESTS_CA_BUNDLE", "/home/localhost/ca.pem"}, {"MOORAGE_URL", url}}
	}
	for _, tt := range []struct{ url, server, proxy string }{
		{"https://localhost:8443", "https://127.0.0.1:8443", "http://127.0.0.1:8443"},
		{"https://127.0.0.1:8443", "https://127.0.0.1:8443", "http://127.0.0.1:8443"},
		{"https://box.lan:8443", "https://box.lan:8443", "http://moorage:" + secret.ProxyWord().Reveal() + "@box.lan:8443"},
		{"https://box.lan", "https://box.lan", "http://moorage:" + secret.ProxyWord().Reveal() + "@box.lan:443"},
	} {
		list, err := proxied(vars(tt.url), blobHost)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, v := range list {
			got[v[0]] = v[1]
		}
		if got["MOORAGE_URL"] != tt.server || got["MLFLOW_TRACKING_URI"] != tt.server+"/mlflow" || got["REQUESTS_CA_BUNDLE"] != "/home/localhost/ca.pem" {
			t.Errorf("%s: %v", tt.url, got)
		}
		if got["HTTPS_PROXY"] != tt.proxy || got["https_proxy"] != tt.proxy {
			t.Errorf("%s: proxy %q", tt.url, got["HTTPS_PROXY"])
		}
		except := strings.Split(got["NO_PROXY"], ",")
		has := map[string]int{}
		for _, e := range except {
			has[e]++
			if e == "*" || strings.HasSuffix(blobHost, "."+strings.TrimPrefix(e, ".")) || strings.Count(e, ":") > 1 {
				t.Errorf("%q is excepted", e)
			}
		}
		if got["NO_PROXY"] != got["no_proxy"] || has["wiki"] != 1 || has["com"] != 1 || has["de"] != 1 || has["127.0.0.1"] != 1 {
			t.Errorf("NO_PROXY %s", got["NO_PROXY"])
		}
	}
}

func TestServerIsNoProxyBesideAnother(t *testing.T) {
	t.Setenv("https_proxy", "")
	t.Setenv("HTTPS_PROXY", "http://site:3128")
	_, err := proxied([][2]string{{"MOORAGE_URL", "https://localhost:8443"}}, blobHost)
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "OtherProxy" || !strings.Contains(p.Mend, blobHost) {
		t.Errorf("%v", err)
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:8443") // printed by the same command
	if _, err := proxied([][2]string{{"MOORAGE_URL", "https://localhost:8443"}}, blobHost); err != nil {
		t.Error(err)
	}
}
