package cli

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// blobHostHint says how the server's blob host is made known on this machine, or "" when it leads to the server already.
// It is the name of the form X.blob.Y that azureml-core insists on for uploads (azureml-v1.md §1.4); nothing else needs it.
// lookup gives the addresses of a name.
func blobHostHint(ctx context.Context, server, blobHost string, lookup func(ctx context.Context, host string) ([]string, error)) string {
	u, err := url.Parse(server)
	if err != nil || blobHost == "" || strings.HasPrefix(strings.TrimPrefix(u.Hostname(), firstLabel(u.Hostname())), ".blob.") {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	at, err := lookup(ctx, u.Hostname())
	if err != nil || len(at) == 0 {
		return "" // the server itself cannot be found, which whoever uses it will hear
	}
	known, err := lookup(ctx, blobHost)
	if err == nil && slices.ContainsFunc(known, func(a string) bool { return slices.Contains(at, a) || loopback(a) && slices.ContainsFunc(at, loopback) }) {
		return ""
	}
	cause := "is not known on this machine"
	if len(known) > 0 {
		cause = "leads to " + known[0] + " on this machine"
	}
	to := at[0]
	if loopback(to) {
		to = "127.0.0.1"
	}
	return fmt.Sprintf("moorage: azureml-core uploads files to %s, which %s. Add this line to the hosts file:\n    %s %s", blobHost, cause, to, blobHost)
}

func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

func loopback(address string) bool {
	ip := net.ParseIP(address)
	return ip != nil && ip.IsLoopback()
}

// urlOf is the server's address among the variables.
func urlOf(vars [][2]string) string {
	for _, v := range vars {
		if v[0] == "MOORAGE_URL" {
			return v[1]
		}
	}
	return ""
}
