package server

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// A client on a machine that does not know the name for uploads takes the server itself as its proxy for https (moorage
// env --proxy). The server leads that one name to itself and nothing anywhere else: after CONNECT the same connection goes
// on with TLS. The request for it is not encrypted and shows at most a word that is good for nothing else.

// proxied is a listener whose connections may begin with CONNECT.
type proxied struct {
	net.Listener
	name string // the one host to which CONNECT leads
	word workspace.Secret
}

// Accept gives the next connection. What it begins with is looked at when it is first read.
func (l *proxied) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxiedConn{Conn: c, listener: l}, nil
}

type proxiedConn struct {
	net.Conn
	listener *proxied
	begun    sync.Once
	refused  bool
}

// Read gives what follows CONNECT, or everything if the connection does not begin with it.
func (c *proxiedConn) Read(p []byte) (n int, err error) {
	first := false
	c.begun.Do(func() {
		first = true
		n, err = c.Conn.Read(p)
	})
	if c.refused {
		return 0, io.EOF
	}
	if !first {
		return c.Conn.Read(p)
	}
	if err != nil || n == 0 || p[0] != http.MethodConnect[0] { // TLS begins with another byte, and other methods are told so by net/http
		return n, err
	}
	if !c.connect(p[:n]) {
		c.refused = true
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// connect answers a request of which the beginning was read, and tells whether the connection goes on as one to the server.
func (c *proxiedConn) connect(head []byte) bool {
	const most = 8 << 10
	req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(io.MultiReader(bytes.NewReader(bytes.Clone(head)), c.Conn), most)))
	switch {
	case err != nil || req.Method != http.MethodConnect:
		return c.answer(http.StatusBadRequest, "this server speaks https", "")
	case !c.may(req.Header.Get("Proxy-Authorization")):
		return c.answer(http.StatusProxyAuthRequired, "from another machine the proxy needs the word that moorage env --proxy prints", "Proxy-Authenticate: Basic realm=\"moorage\"\r\n")
	}
	host, _, err := net.SplitHostPort(req.Host)
	if err != nil || !strings.EqualFold(host, c.listener.name) {
		return c.answer(http.StatusForbidden, "this proxy leads to "+c.listener.name+" and nowhere else; add the host that you want to NO_PROXY", "")
	}
	_, err = io.WriteString(c.Conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	return err == nil
}

// may tells whether the client is on this machine or shows the word.
func (c *proxiedConn) may(authorization string) bool {
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		return true
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("moorage:"+c.listener.word.Reveal()))
	return subtle.ConstantTimeCompare([]byte(authorization), []byte(want)) == 1
}

// answer refuses.
func (c *proxiedConn) answer(status int, why, header string) bool {
	why += "\n"
	_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), header, len(why), why)
	return false
}
