package server

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// fromElsewhere is a connection whose other end is another machine.
type fromElsewhere struct{ net.Conn }

func (fromElsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 999} }

// TestConnectLeadsToTheServerAndNowhereElse: what comes after CONNECT is the server's, if it is for the one name and by one
// who may.
func TestConnectLeadsToTheServerAndNowhereElse(t *testing.T) {
	word := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("moorage:word")) + "\r\n"
	tests := []struct {
		name, sent string
		elsewhere  bool
		status     string // of the answer; empty: none, the server gets what was sent
	}{
		{"TLS", "\x16\x03\x01", false, ""},
		{"no TLS", "GET / HTTP/1.1\r\n\r\n", false, ""},
		{"the name", "CONNECT moorage.blob.localhost:8443 HTTP/1.1\r\n\r\n", false, "200"},
		{"in other letters", "CONNECT Moorage.Blob.localhost:8443 HTTP/1.1\r\nHost: x\r\n\r\n", false, "200"},
		{"another host", "CONNECT example.com:443 HTTP/1.1\r\n\r\n", false, "403"},
		{"below the name", "CONNECT a.moorage.blob.localhost:443 HTTP/1.1\r\n\r\n", false, "403"},
		{"no port", "CONNECT moorage.blob.localhost HTTP/1.1\r\n\r\n", false, "403"},
		{"from elsewhere", "CONNECT moorage.blob.localhost:8443 HTTP/1.1\r\n\r\n", true, "407"},
		{"from elsewhere with a wrong word", "CONNECT moorage.blob.localhost:8443 HTTP/1.1\r\nProxy-Authorization: Basic bW9vcmFnZTo=\r\n\r\n", true, "407"},
		{"from elsewhere with the word", "CONNECT moorage.blob.localhost:8443 HTTP/1.1\r\n" + word + "\r\n", true, "200"},
		{"from elsewhere to another host", "CONNECT example.com:443 HTTP/1.1\r\n" + word + "\r\n", true, "403"},
		{"nonsense", "CONNECTED\r\n\r\n", false, "400"},
		{"without end", "CONNECT x:1 HTTP/1.1\r\nA: " + strings.Repeat("x", 9<<10), false, "400"},
	}
	l := &proxied{name: "moorage.blob.localhost", word: workspace.NewSecret("word")}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			inner, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if tt.elsewhere {
				inner = fromElsewhere{inner}
			}
			got := make(chan string, 1)
			go func() {
				server := &proxiedConn{Conn: inner, listener: l}
				buf := make([]byte, 64)
				n, _ := server.Read(buf)
				got <- string(buf[:n])
				_ = server.Close()
			}()
			if _, err := io.WriteString(client, tt.sent); err != nil {
				t.Fatal(err)
			}
			want := tt.sent
			if tt.status != "" {
				resp, err := http.ReadResponse(bufio.NewReader(client), &http.Request{Method: http.MethodConnect})
				if err != nil || !strings.HasPrefix(resp.Status, tt.status) {
					t.Fatalf("answer %+v %v", resp, err)
				}
				want = ""
				if tt.status == "200" {
					want = "\x16 the server's"
					if _, err := io.WriteString(client, want); err != nil {
						t.Fatal(err)
					}
				}
			}
			if seen := <-got; seen != want {
				t.Errorf("the server gets %q, want %q", seen, want)
			}
		})
	}
}
