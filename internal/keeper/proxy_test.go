package keeper

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

const nameBack = blobHostName + ":4711"

// aProxy is one for a job with these variables, and the address of it that the job is told.
func aProxy(t *testing.T, vars map[string]string) (*proxy, *url.URL) {
	t.Helper()
	p, err := openProxy(t.Context(), &wayBack{}, nameBack)
	check(t, err)
	p.back = func(_ context.Context, conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = fmt.Fprint(conn, "back: "+line)
	}
	p.enter(vars)
	t.Cleanup(p.close)
	u, err := url.Parse(vars["https_proxy"])
	check(t, err)
	return p, u
}

// through asks a proxy for a tunnel, and gives the status and what came back after sending a line.
func through(t *testing.T, u *url.URL, user *url.Userinfo, to string) (status, answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", u.Host)
	check(t, err)
	defer func() { _ = conn.Close() }()
	req := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if user != nil {
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.String())) + "\r\n"
	}
	_, err = io.WriteString(conn, req+"\r\n")
	check(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	check(t, err)
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return resp.Status, string(b)
	}
	_, err = io.WriteString(conn, "hello\n")
	check(t, err)
	line, _ := in.ReadString('\n')
	return resp.Status, line
}

// echo is a host that says after whom it is called and what it was told.
func echo(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				line, _ := bufio.NewReader(conn).ReadString('\n')
				_, _ = fmt.Fprint(conn, name+": "+line)
			}()
		}
	}()
	return ln.Addr().String()
}

// loginsProxy is a proxy as a site has one. It knows every host, counts, and refuses *.forbidden.
func loginsProxy(t *testing.T, asked *atomic.Int32) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("site:word")); r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if strings.Contains(r.Host, "forbidden") {
			http.Error(w, "not allowed by the site", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodConnect {
			_, _ = fmt.Fprintf(w, "site's proxy: %s", r.URL)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		// The first bytes of the other host come along with the answer.
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nsite's proxy to "+r.Host+", ")
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, line)
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	check(t, err)
	u.User = url.UserPassword("site", "word")
	return u
}

func TestProxyLeadsTheNameToTheServerAndOthersOn(t *testing.T) {
	_, u := aProxy(t, map[string]string{})
	for to, want := range map[string]string{
		nameBack: "back: hello\n", strings.ToUpper(nameBack[:7]) + nameBack[7:]: "back: hello\n", echo(t, "other"): "other: hello\n",
	} {
		if status, answer := through(t, u, u.User, to); answer != want {
			t.Errorf("%s: %s %q, want %q", to, status, answer, want)
		}
	}
	if status, _ := through(t, u, u.User, "127.0.0.1:1"); !strings.HasPrefix(status, "502") {
		t.Errorf("nobody listens: %s", status)
	}
}

func TestProxyIsForItsJobAlone(t *testing.T) {
	_, u := aProxy(t, map[string]string{})
	for _, user := range []*url.Userinfo{nil, url.UserPassword("moorage", "guess"), url.UserPassword("", "")} {
		if status, answer := through(t, u, user, nameBack); !strings.HasPrefix(status, "407") {
			t.Errorf("%v: %s %q", user, status, answer)
		}
	}
}

func TestProxyGoesThroughTheLoginsOwn(t *testing.T) {
	var asked atomic.Int32
	site := loginsProxy(t, &asked)
	near := echo(t, "near")
	vars := map[string]string{"HTTPS_PROXY": site.String(), "NO_PROXY": "localhost,.corp,::1,10.0.0.0/8"}
	_, u := aProxy(t, vars)
	if status, answer := through(t, u, u.User, "far.example:443"); answer != "site's proxy to far.example:443, hello\n" {
		t.Errorf("%s %q", status, answer)
	}
	if status, answer := through(t, u, u.User, "far.forbidden:443"); !strings.HasPrefix(status, "403") || !strings.Contains(answer, "not allowed by the site") {
		t.Errorf("%s %q", status, answer)
	}
	asked.Store(0)
	for _, to := range []string{nameBack, near, strings.Replace(near, "127.0.0.1", "localhost", 1)} {
		if status, answer := through(t, u, u.User, to); !strings.HasSuffix(answer, ": hello\n") {
			t.Errorf("%s: %s %q", to, status, answer)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the site's proxy was asked for hosts that it is not for")
	}
	if vars["no_proxy"] != ".corp,10.0.0.0/8,127.0.0.1" {
		t.Errorf("no_proxy %q: localhost would except the name", vars["no_proxy"])
	}
}

func TestProxyTakesOverPlainHTTPWhereTheLoginExceptedLocalhost(t *testing.T) {
	var asked atomic.Int32
	site := loginsProxy(t, &asked)
	vars := map[string]string{"https_proxy": site.String(), "http_proxy": site.String(), "NO_PROXY": "localhost"}
	_, u := aProxy(t, vars)
	if vars["http_proxy"] != u.String() || vars["HTTP_PROXY"] != "" {
		t.Fatalf("http_proxy %q", vars["http_proxy"])
	}
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "near: %s %q", r.URL, r.Header.Get("Proxy-Authorization"))
	}))
	defer near.Close()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(u)}}
	defer client.CloseIdleConnections()
	for at, want := range map[string]string{
		strings.Replace(near.URL, "127.0.0.1", "localhost", 1) + "/x": `near: /x ""`,
		"http://far.example/y": "site's proxy: http://far.example/y",
	} {
		resp, err := client.Get(at)
		check(t, err)
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(b) != want {
			t.Errorf("%s: %q, want %q", at, b, want)
		}
	}
}

func TestProxyThatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	for text, broken := range map[string]bool{"": false, "proxy:3128": false, "http://u:p@proxy": false, "https://proxy": false, "socks5://proxy:1080": true, "http://": true} {
		o := onwardOf(map[string]string{"ALL_PROXY": text})
		if (o.broken != nil) != broken || broken && strings.Contains(o.broken.Error(), "proxy:1080") {
			t.Errorf("%q: %v", text, o.broken)
		}
	}
}

func TestEntriesOfNoProxy(t *testing.T) {
	tests := []struct {
		entry, host string
		want        bool
	}{
		{"*", "a.b:1", true},
		{"localhost", nameBack, true},
		{".localhost", nameBack, true},
		{"*.Localhost", nameBack, true},
		{"host", nameBack, false},
		{"localhost:4711", nameBack, true},
		{"localhost:4712", nameBack, false},
		{"b.c", "a.b.c:443", true},
		{"b.c", "ab.c:443", false},
		{"10.0.0.0/8", "10.1.2.3:443", true},
		{"10.0.0.0/8", "11.1.2.3:443", false},
		{"10.0.0.1", "10.0.0.1:443", true},
		{"::1", "[::1]:443", true},
		{"", "a:1", false},
	}
	for _, tt := range tests {
		if got := covers(tt.entry, tt.host); got != tt.want {
			t.Errorf("%q covers %q: %v", tt.entry, tt.host, got)
		}
	}
}
