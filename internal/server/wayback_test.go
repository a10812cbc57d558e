package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/secret"
)

// TestAJobThatOffersHTTP2IsServedToo: such clients take the protocol that the handshake promised. The native library of
// azureml-core's datasets is one (azureml-v1.md §22).
func TestAJobThatOffersHTTP2IsServedToo(t *testing.T) {
	authority, err := secret.NewAuthority("box", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	way := newWayBack(config)
	config.NextProtos = []string{"h2", "http/1.1"} // as net/http leaves it for the other listener
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) }), ConnContext: wayContext}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(way) }()
	t.Cleanup(func() { _ = server.Close(); _ = way.Close(); <-served })

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Certificate())
	here, there := net.Pipe()
	way.Serve(compute.Key{Job: "j", Attempt: 1}, there)
	conn := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	defer conn.Close()
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("the handshake promised %q", got)
	}
}
