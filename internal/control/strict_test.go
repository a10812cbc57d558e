package control

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestAzureStrictDemandsUbuntuAndAPublicAddress(t *testing.T) {
	c := New(Config{AzureStrict: true})
	t.Cleanup(c.Close)
	ubuntu := map[string]string{"release": "Ubuntu 24.04.1 LTS"}
	at := func(details map[string]string, address string) map[string]string {
		out := map[string]string{"address": address}
		maps.Copy(out, details)
		return out
	}
	tests := []struct {
		name, kind, address string
		found               catalog.Found
		details             map[string]string
		code                string // "": it is taken
		says                string
	}{
		{"public Ubuntu", "ssh", "ssh://bob@8.8.8.8:22", catalog.Found{}, ubuntu, "", ""},
		{"public Ubuntu by IPv6", "ssh", "ssh://bob@[2606:4700::1111]:22", catalog.Found{}, ubuntu, "", ""},
		{"another system", "ssh", "ssh://bob@8.8.8.8:22", catalog.Found{}, map[string]string{"release": "Debian GNU/Linux 12"}, "NotUbuntu", "Debian GNU/Linux 12"},
		{"a system that says nothing", "ssh", "ssh://bob@8.8.8.8:22", catalog.Found{}, nil, "NotUbuntu", "unknown"},
		{"private", "ssh", "ssh://bob@10.0.0.5:22", catalog.Found{}, ubuntu, "NoPublicAddress", "10.0.0.5"},
		{"private, dialled by an alias", "ssh", "ssh://box", catalog.Found{}, at(ubuntu, "192.168.1.7:22"), "NoPublicAddress", "192.168.1.7"},
		{"public by what Azure says", "ssh", "ssh://vm.private.example", catalog.Found{Public: true}, ubuntu, "", ""},
		{"an HDInsight cluster may run what it runs", "hdinsight", "ssh://8.8.8.8", catalog.Found{}, nil, "", ""},
		{"a private HDInsight cluster", "hdinsight", "ssh://10.0.0.5", catalog.Found{}, nil, "NoPublicAddress", "10.0.0.5"},
		{"other kinds are no matter of the policy", "docker", "docker+unix:///x", catalog.Found{}, nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := c.azureStrict(t.Context(), AttachRequest{Name: "vm1", Kind: tt.kind, Address: tt.address}, attachment{found: tt.found}, compute.Facts{Details: tt.details})
			switch {
			case tt.code == "" && p != nil, tt.code != "" && p == nil:
				t.Fatalf("got %v, wanted %q", p, tt.code)
			case p != nil && (p.Code != tt.code || p.Class != workspace.Invalid || !strings.Contains(p.Cause, tt.says) || !strings.Contains(p.Mend, "--azure-strict")):
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestPublicAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
		"10.1.2.3": false, "172.20.0.1": false, "192.168.0.1": false, "127.0.0.1": false, "169.254.1.1": false, "100.64.0.1": false,
		"::1": false, "fe80::1": false, "fd00::1": false, "::ffff:10.0.0.1": false, "224.0.0.1": false, "0.0.0.0": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public %v", text, got)
		}
	}
}
