package keeper

import "testing"

func TestLoginsProxyIsNotAskedForTheWayBack(t *testing.T) {
	tests := []struct {
		name string
		vars map[string]string
		want string // of no_proxy
	}{
		{"no proxy", map[string]string{"A": "b"}, ""},
		{"a proxy", map[string]string{"HTTPS_PROXY": "http://p:1"}, "127.0.0.1," + blobHostName},
		{"lower case wins", map[string]string{"http_proxy": "http://p:1", "no_proxy": "a, b", "NO_PROXY": "c"}, "a,b,127.0.0.1," + blobHostName},
		{"all excepted", map[string]string{"ALL_PROXY": "socks5://p:1", "NO_PROXY": "*"}, ""},
		{"said already", map[string]string{"https_proxy": "p", "NO_PROXY": "127.0.0.1"}, "127.0.0.1," + blobHostName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			unproxied(tt.vars, "127.0.0.1", blobHostName)
			if got := tt.vars["no_proxy"]; got != tt.want {
				t.Errorf("no_proxy %q, want %q", got, tt.want)
			}
		})
	}
}
