package keeper

import (
	"bufio"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// proxy is an HTTP proxy on loopback for one job. It leads one name to the way back, and everything else to where it would
// go without it: to the proxy that the login has, or straight there. Other logins of the machine can connect to it, too:
// it demands a secret that only the job has, because what the login's proxy lets through is not theirs.
type proxy struct {
	ln     net.Listener
	name   string // host:port of the way back
	secret string
	onward onward
	back   func(ctx context.Context, conn net.Conn)
	stop   context.CancelFunc
	work   sync.WaitGroup
	plain  *http.Transport // for http without TLS
}

// maxThrough is how many connections go through the proxy at once; more wait.
const maxThrough = 1024

const (
	headLimit    = time.Minute // for a request's head
	connectLimit = time.Minute // for reaching another host
)

// openProxy listens. Nothing is served before enter.
func openProxy(ctx context.Context, back *wayBack, name string) (*proxy, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &proxy{ln: ln, name: name, secret: randomMark(), back: back.carry, stop: func() {}}, nil
}

// enter makes this the proxy of the variables, learns from them where to pass things on, and begins to serve.
func (p *proxy) enter(vars map[string]string) {
	p.onward = onwardOf(vars)
	p.plain = &http.Transport{Proxy: p.onward.plainProxy, DisableCompression: true, ResponseHeaderTimeout: 0, IdleConnTimeout: time.Minute}
	us := (&url.URL{Scheme: "http", User: url.UserPassword("moorage", p.secret), Host: p.ln.Addr().String()}).String()
	vars["https_proxy"], vars["HTTPS_PROXY"] = us, us
	// IPv6 addresses go, too: the native part of azureml-dataprep takes one for a host and a port, and panics.
	keep := slices.DeleteFunc(slices.Clone(p.onward.except), func(e string) bool { return covers(e, p.name) || strings.Count(e, ":") > 1 })
	if len(keep) < len(p.onward.except) && p.onward.http != nil {
		// Who is told no longer to bypass the login's proxy comes to us, and we do.
		vars["http_proxy"] = us
		if vars["HTTP_PROXY"] != "" {
			vars["HTTP_PROXY"] = us
		}
	}
	if !slices.Contains(keep, "127.0.0.1") {
		keep = append(keep, "127.0.0.1")
	}
	except(vars, keep)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.work.Go(func() { acceptAll(ctx, p.ln, maxThrough, p.handle) }) // ends when closed
}

func (p *proxy) close() {
	p.stop()
	_ = p.ln.Close()
	p.work.Wait()
	if p.plain != nil {
		p.plain.CloseIdleConnections()
	}
}

// handle answers the requests of one connection.
func (p *proxy) handle(ctx context.Context, conn net.Conn) {
	c := &headConn{Conn: conn, r: bufio.NewReader(conn)}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(headLimit))
		req, err := http.ReadRequest(c.r)
		if err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		switch {
		case !p.knows(req):
			refuse(c, http.StatusProxyAuthRequired, "this proxy is for one job", "Proxy-Authenticate: Basic realm=\"moorage\"\r\n")
			return
		case req.Method == http.MethodConnect:
			p.connect(ctx, c, req.Host)
			return
		case req.URL.Scheme == "http" && req.URL.Host != "":
			if !p.forward(ctx, c, req) {
				return
			}
		default:
			refuse(c, http.StatusBadRequest, "this is a proxy", "")
			return
		}
	}
}

// knows tells whether a request shows the job's secret.
func (p *proxy) knows(req *http.Request) bool {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("moorage:"+p.secret))
	return subtle.ConstantTimeCompare([]byte(req.Header.Get("Proxy-Authorization")), []byte(want)) == 1
}

const connected = "HTTP/1.1 200 Connection established\r\n\r\n"

// connect makes the connection one to host:port.
func (p *proxy) connect(ctx context.Context, c *headConn, to string) {
	if strings.EqualFold(to, p.name) {
		if _, err := io.WriteString(c, connected); err == nil {
			p.back(ctx, c)
		}
		return
	}
	soon, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	up, err := p.onward.dial(soon, to)
	if no, ok := errors.AsType[*refusal](err); ok {
		refuse(c, no.status, no.said, "")
		return
	}
	if err != nil {
		refuse(c, http.StatusBadGateway, err.Error(), "")
		return
	}
	defer context.AfterFunc(ctx, func() { _ = up.Close() })()
	if _, err := io.WriteString(c, connected); err != nil {
		_ = up.Close()
		return
	}
	pipe(c, up)
}

// hopHeaders belong to one connection (RFC 9110 §7.6.1).
var hopHeaders = []string{"Connection", "Proxy-Connection", "Proxy-Authorization", "Keep-Alive", "Te", "Upgrade"}

// forward passes on one request without TLS, and tells whether another may follow on the connection.
func (p *proxy) forward(ctx context.Context, c *headConn, req *http.Request) bool {
	last := req.Close
	out := req.WithContext(ctx)
	out.RequestURI = ""
	for _, h := range hopHeaders {
		out.Header.Del(h)
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = []string{""} // none is sent
	}
	resp, err := p.plain.RoundTrip(out)
	if err != nil {
		refuse(c, http.StatusBadGateway, err.Error(), "")
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	resp.Close = last
	return resp.Write(c) == nil && !last && !resp.Close
}

// refuse answers with a status and ends the connection's use.
func refuse(c io.Writer, status int, why, header string) {
	why += "\n"
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), header, len(why), why)
}

// headConn is a connection of which the head was read through a buffer.
type headConn struct {
	net.Conn
	r *bufio.Reader
}

// Read gives first what the buffer holds.
func (h *headConn) Read(b []byte) (int, error) { return h.r.Read(b) }

// CloseWrite ends this direction.
func (h *headConn) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return h.Close()
}

// onward is where a login's own variables send requests.
type onward struct {
	https, http *url.URL // nil: straight
	except      []string
	broken      error // why the proxy for https cannot be used
}

func onwardOf(vars map[string]string) onward {
	o := onward{except: exceptions(vars)}
	o.http, _ = proxyURL(vars, "http_proxy") // what cannot be read, programs ignore as well
	o.https, o.broken = proxyURL(vars, "https_proxy")
	return o
}

func proxyURL(vars map[string]string, name string) (*url.URL, error) {
	text := either(vars, name)
	if text == "" {
		text = either(vars, "all_proxy")
	}
	if text == "" {
		return nil, nil
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s names no proxy that speaks http", strings.ToUpper(name)) // its text may hold a password
	}
	return u, nil
}

// straight tells whether a host is excepted, or is this machine.
func (o onward) straight(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(o.except, func(e string) bool { return covers(e, hostport) })
}

// covers tells whether an entry of NO_PROXY means a host:port. Programs differ; this is what most of them have.
func covers(entry, hostport string) bool {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if entry == "*" {
		return true
	}
	if network, err := netip.ParsePrefix(entry); err == nil {
		ip, err := netip.ParseAddr(host)
		return err == nil && network.Contains(ip)
	}
	if h, p, err := net.SplitHostPort(entry); err == nil {
		if p != port {
			return false
		}
		entry = h
	}
	entry = strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(entry, "*"), "."))
	host = strings.ToLower(host)
	return entry != "" && (host == entry || strings.HasSuffix(host, "."+entry))
}

func (o onward) plainProxy(req *http.Request) (*url.URL, error) {
	if o.http == nil || o.straight(req.URL.Host) {
		return nil, nil
	}
	return o.http, nil
}

// refusal is the answer of the login's proxy that is no connection.
type refusal struct {
	status int
	said   string
}

func (r *refusal) Error() string { return r.said }

// dial connects to host:port.
func (o onward) dial(ctx context.Context, to string) (net.Conn, error) {
	var d net.Dialer
	if o.straight(to) {
		return d.DialContext(ctx, "tcp", to)
	}
	if o.broken != nil {
		return nil, o.broken
	}
	if o.https == nil {
		return d.DialContext(ctx, "tcp", to)
	}
	return o.through(ctx, to)
}

// through connects by way of the login's proxy.
func (o onward) through(ctx context.Context, to string) (conn net.Conn, err error) {
	at := o.https.Host
	if o.https.Port() == "" {
		at = net.JoinHostPort(o.https.Hostname(), map[string]string{"http": "80", "https": "443"}[o.https.Scheme])
	}
	var d net.Dialer
	if o.https.Scheme == "https" {
		conn, err = (&tls.Dialer{NetDialer: &d, Config: &tls.Config{ServerName: o.https.Hostname(), MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", at)
	} else {
		conn, err = d.DialContext(ctx, "tcp", at)
	}
	if err != nil {
		return nil, fmt.Errorf("the login's proxy: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	on, err := o.ask(conn, to)
	if err != nil {
		_ = conn.Close()
	}
	return on, err
}

// ask asks the login's proxy at the other end for host:port.
func (o onward) ask(conn net.Conn, to string) (net.Conn, error) {
	req := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if user := o.https.User; user != nil {
		password, _ := user.Password()
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		return nil, fmt.Errorf("the login's proxy: %w", err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("the login's proxy: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // of a connection there is none
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what came is shown
		return nil, &refusal{status: resp.StatusCode, said: "the login's proxy refuses " + to + ": " + resp.Status + "\n" + string(said)}
	}
	return &headConn{Conn: conn, r: br}, nil
}
