package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// way is how the engine is reached.
type way struct {
	engine *client.Client
	at     string // the address, for people
	facts  func(*compute.Facts)
	// why says more of a failure than the API's client does; nil: it is another.
	why   func(error) error
	close func() error
}

const (
	defaultSocket = "/var/run/docker.sock"
	dialTimeout   = 10 * time.Second
)

// way reads the address. Nothing is connected yet.
func (s Settings) way(env compute.Env) (way, error) {
	address := s.Address
	if address == "" {
		address = "docker+unix://" + defaultSocket
	}
	u, err := url.Parse(address)
	if err != nil {
		return way{}, s.badAddress("it cannot be read")
	}
	if _, ok := u.User.Password(); ok {
		return way{}, invalid("address", "the address holds a password", errors.New("an address is shown to everybody: give it with --password-file (setting password)"))
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return way{}, s.badAddress("there is something after the path")
	}
	switch u.Scheme {
	case "docker+unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return way{}, s.badAddress("a socket is written docker+unix:///path/of/socket")
		}
		return s.byClient(u.Path, "unix://"+u.Path)
	case "docker+ssh":
		return s.bySSH(u, env)
	case "docker+tcp":
		return s.byTCP(u)
	}
	return way{}, s.badAddress("it begins with none of docker+unix://, docker+ssh:// and docker+tcp://")
}

func (s Settings) badAddress(cause string) error {
	return invalid("address", fmt.Sprintf("%.200q is not the address of a Docker engine", s.Address), errors.New(cause))
}

func (s Settings) byClient(at, host string, opts ...client.Opt) (way, error) {
	c, err := client.New(append([]client.Opt{client.WithHost(host)}, opts...)...)
	if err != nil {
		return way{}, invalid("address", "the engine's address cannot be used", err)
	}
	return way{engine: c, at: at, close: c.Close}, nil
}

// byTCP is an engine that listens on the network. Whoever reaches it is root there, so that it is spoken to by TLS, or on
// loopback.
func (s Settings) byTCP(u *url.URL) (way, error) {
	if u.User != nil || u.Port() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return way{}, s.badAddress("an engine on the network is written docker+tcp://host:port")
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: dialTimeout}
	host := "tcp://" + u.Host
	if s.CA+s.Cert+s.Key != "" {
		c, err := s.tls(u.Hostname())
		if err != nil {
			return way{}, err
		}
		transport.TLSClientConfig = c
	} else if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return way{}, &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
			Class: workspace.Invalid, Code: "TLSMissing", Target: "ca", Message: "an engine on the network is only spoken to by TLS",
			Cause: "whoever reaches an engine is root on its machine, and without TLS everybody between does",
			Mend:  "start it with --tlsverify and give --tls-ca-file, --tls-cert-file and --tls-key-file (settings ca, cert, key), or attach it by docker+ssh://user@host",
		}}
	}
	w, err := s.byClient(u.Host, host, client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}), client.WithHost(host), client.WithDialContext(dialer.DialContext))
	w.why = func(err error) error { return tlsFailed(u.Host, err) }
	return w, err
}

// tls is the configuration that the settings ask for.
func (s Settings) tls(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if s.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(s.CA)) {
			return nil, invalid("ca", "ca holds no certificate", errors.New("it begins with -----BEGIN CERTIFICATE-----, as in ca.pem of the engine"))
		}
	}
	if (s.Cert == "") != (s.Key == "") {
		return nil, invalid("key", "cert and key go together, and one of them is missing", nil)
	}
	if s.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(s.Cert), []byte(s.Key))
		if err != nil {
			return nil, invalid("key", "cert and key cannot be used", errors.New(strings.TrimPrefix(err.Error(), "tls: ")))
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// tlsFailed says what is wrong between two certificates; nil if it is something else.
func tlsFailed(at string, err error) error {
	p := workspace.Problem{Class: workspace.Denied, Cause: err.Error()}
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	alert, isAlert := errors.AsType[tls.AlertError](err)
	record, isRecord := errors.AsType[tls.RecordHeaderError](err)
	text := err.Error()
	switch {
	case unverified || strings.Contains(text, "x509: "):
		p.Code, p.Target, p.Message = "EngineUntrusted", "ca", "the certificate of the engine at "+at+" is not trusted"
		p.Mend = "give the certificate that signed it with --tls-ca-file (setting ca), and the name or address in its certificate as the address"
	case isAlert || strings.Contains(text, "remote error: tls: ") || strings.Contains(text, "tlsverify"):
		p.Code, p.Target, p.Message = "EngineDenied", "cert", "the engine at "+at+" does not take the server's certificate"
		p.Mend = "give a certificate that the engine's own ca.pem signed, with its key: --tls-cert-file and --tls-key-file (settings cert, key)"
		if isAlert {
			p.Cause = alert.Error()
		}
	case isRecord || strings.Contains(text, "server gave HTTP response to HTTPS client"):
		p.Code, p.Target, p.Message = "EngineWithoutTLS", "address", "what answers at "+at+" does not speak TLS"
		p.Mend = "start the engine there with --tlsverify, or correct the port: with TLS it is usually 2376"
		if isRecord {
			p.Cause = record.Msg
		}
	case strings.Contains(text, "HTTP request to an HTTPS server") || strings.Contains(text, "TLS-enabled daemon without TLS"):
		p.Code, p.Target, p.Message = "EngineNeedsTLS", "ca", "the engine at "+at+" speaks only TLS"
		p.Mend = "give --tls-ca-file, --tls-cert-file and --tls-key-file (settings ca, cert, key)"
	default:
		return nil
	}
	return &compute.Error{Kind: compute.ErrDenied, Err: err, Problem: p}
}
