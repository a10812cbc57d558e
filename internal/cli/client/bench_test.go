package client

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// serve starts a TLS server with HTTP/2 and gives a client of it.
func serve(t testing.TB, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{URL: s.URL, CA: ca, Token: workspace.NewSecret("t"), Workspace: workspace.Workspace{Subscription: "s", ResourceGroup: "g", Name: "w"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func BenchmarkLog(b *testing.B) {
	const size = 100 << 20
	chunk := make([]byte, 256<<10)
	c := serve(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for sent := 0; sent < size; sent += len(chunk) {
			_, _ = w.Write(chunk)
		}
	}))
	b.SetBytes(size)
	for b.Loop() {
		if n, err := c.Log(b.Context(), "j", "", 0, true, io.Discard); n != size || err != nil {
			b.Fatal(n, err)
		}
	}
}
