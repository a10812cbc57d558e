package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Network is how registries and package indexes are reached from where the builder runs. The zero value is the way of the
// server's own process: its roots, and the proxies of its environment.
type Network struct {
	// CA is a PEM bundle that is trusted beside the machine's roots.
	CA string
	// Proxy is the address of a proxy for http and https, with credentials if it wants some; empty: that of the environment.
	Proxy workspace.Secret
	// NoProxy lists hosts that are reached without it, as NO_PROXY does.
	NoProxy string
	// Index and Extra are simple indexes of Python packages; they may hold credentials. Without Index, uv's own settings count.
	Index workspace.Secret
	Extra []workspace.Secret
	// Plain are registries, host or host:port, that may be spoken to without TLS. Those on loopback always may.
	Plain []string
}

// transport reaches registries. It never falls back to a connection that anyone can read but for those that may.
func (n Network) transport() (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if n.CA != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(n.CA)) {
			return nil, invalid("ca", "the certificates for image builds cannot be read", "", "give a PEM file with at least one certificate")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if !n.Proxy.Empty() {
		proxy := (&httpproxy.Config{HTTPProxy: n.Proxy.Reveal(), HTTPSProxy: n.Proxy.Reveal(), NoProxy: n.NoProxy}).ProxyFunc()
		t.Proxy = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
	}
	return guarded{next: t, plain: n.Plain}, nil
}

// guarded refuses plain HTTP to hosts for which nobody allowed it: a registry's client would fall back to it for private
// addresses, and send the password.
type guarded struct {
	next  http.RoundTripper
	plain []string
}

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !loopback(r.URL.Hostname()) && !slices.Contains(g.plain, r.URL.Host) && !slices.Contains(g.plain, r.URL.Hostname()) {
		return nil, errors.New("registry " + r.URL.Host + " is not spoken to without TLS")
	}
	return g.next.RoundTrip(r)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// variables are the settings for a program that reads them from its environment; folder is for a file that they name.
func (n Network) variables(folder string) ([]string, error) {
	var vars []string
	if !n.Proxy.Empty() {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
			vars = append(vars, name+"="+n.Proxy.Reveal())
		}
		vars = append(vars, "NO_PROXY="+n.NoProxy, "no_proxy="+n.NoProxy)
	}
	if !n.Index.Empty() {
		vars = append(vars, "UV_DEFAULT_INDEX="+n.Index.Reveal())
	}
	if len(n.Extra) > 0 {
		var extra []string
		for _, x := range n.Extra {
			extra = append(extra, x.Reveal())
		}
		vars = append(vars, "UV_INDEX="+strings.Join(extra, " "))
	}
	if n.CA == "" {
		return vars, nil
	}
	bundle := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(bundle, append(machineRoots(), n.CA...), 0o600); err != nil {
		return nil, err
	}
	return append(vars, "SSL_CERT_FILE="+bundle), nil
}

// machineRoots are the roots that this machine trusts; a program that is told of a bundle trusts nothing else.
func machineRoots() []byte {
	for _, file := range []string{os.Getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if file == "" {
			continue
		}
		if b, err := os.ReadFile(file); err == nil {
			return append(b, '\n')
		} else if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
	}
	return nil
}
