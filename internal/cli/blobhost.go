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
	if err != nil || blobHost == "" || isBlobHost(u.Hostname()) {
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
	return fmt.Sprintf("moorage: azureml-core uploads files to %s, which %s. Take the variables of moorage env --proxy, or add this line to the hosts file:\n    %s", blobHost, cause, lineFor(at, blobHost))
}

// hostsLine is the line of the hosts file by which a name leads to the server, or "" when the server itself is not found.
func hostsLine(ctx context.Context, server, name string, lookup func(ctx context.Context, host string) ([]string, error)) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	at, err := lookup(ctx, u.Hostname())
	if err != nil || len(at) == 0 {
		return ""
	}
	return lineFor(at, name)
}

func lineFor(at []string, name string) string {
	to := at[0]
	if loopback(to) {
		to = "127.0.0.1"
	}
	return to + " " + name
}

// isBlobHost tells whether a name has the form X.blob.Y, so that azureml-core uploads to it as it is.
func isBlobHost(host string) bool {
	_, rest, _ := strings.Cut(host, ".")
	return strings.HasPrefix(rest, "blob.")
}

func loopback(address string) bool {
	ip := net.ParseIP(address)
	return ip != nil && ip.IsLoopback()
}

// valueOf is one of the variables, or "".
func valueOf(vars [][2]string, name string) string {
	for _, v := range vars {
		if v[0] == name {
			return v[1]
		}
	}
	return ""
}
