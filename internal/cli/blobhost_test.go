package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
)

const blobHost = "moorage.blob.localhost"

func TestBlobHostIsSaidWhenItDoesNotLeadToTheServer(t *testing.T) {
	tests := []struct {
		name, server string
		hosts        map[string][]string
		want         string // in the hint; empty: there is none
	}{
		{"known", "https://localhost:8443", map[string][]string{"localhost": {"127.0.0.1"}, blobHost: {"127.0.0.1"}}, ""},
		{"known by another loopback address", "https://localhost:8443", map[string][]string{"localhost": {"127.0.0.1"}, blobHost: {"::1"}}, ""},
		{"unknown", "https://localhost:8443", map[string][]string{"localhost": {"::1", "127.0.0.1"}}, "is not known on this machine. Take the variables of moorage env --proxy, or add this line to the hosts file:\n    127.0.0.1 " + blobHost},
		{"server elsewhere", "https://box.lan", map[string][]string{"box.lan": {"10.0.0.5"}, blobHost: {"127.0.0.1"}}, "leads to 127.0.0.1 on this machine. Take the variables of moorage env --proxy, or add this line to the hosts file:\n    10.0.0.5 " + blobHost},
		{"server elsewhere, known", "https://box.lan", map[string][]string{"box.lan": {"10.0.0.5"}, blobHost: {"10.0.0.5"}}, ""},
		{"the server's own name will do", "https://ml.blob.lan:8443", map[string][]string{"ml.blob.lan": {"10.0.0.5"}}, ""},
		{"the form, but further down", "https://a.ml.blob.lan", map[string][]string{"a.ml.blob.lan": {"10.0.0.5"}}, "10.0.0.5 " + blobHost},
		{"no server", "https://gone.lan", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := blobHostHint(t.Context(), tt.server, blobHost, func(_ context.Context, host string) ([]string, error) {
				if a, ok := tt.hosts[host]; ok {
					return a, nil
				}
				return nil, errors.New("no such host")
			})
			if tt.want == "" && got != "" || !strings.HasSuffix(got, tt.want) {
				t.Errorf("hint %q, want %q at its end", got, tt.want)
			}
		})
	}
}
