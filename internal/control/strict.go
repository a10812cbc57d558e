package control

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The policy azure-strict demands of a target what Azure's documentation demands: that a virtual machine runs Ubuntu and
// has a public address, and that an HDInsight cluster has one. It is for scripts that are to work in Azure as well. What
// is attached already is left alone.
var (
	ubuntuOnly = []string{"ssh"}
	publicOnly = []string{"ssh", "hdinsight"}
)

const (
	azureStrictMend = ", or start the server without --azure-strict"
	// lookupLimit bounds the question what addresses a name has.
	lookupLimit = 10 * time.Second
)

// azureStrict gives what stands in the way of the policy, or nil.
func (c *Control) azureStrict(ctx context.Context, req AttachRequest, a attachment, facts compute.Facts) *workspace.Problem {
	refuse := func(code, message, cause, mend string) *workspace.Problem {
		return &workspace.Problem{Class: workspace.Invalid, Code: code, Target: req.Name, Message: message, Cause: cause, Mend: mend + azureStrictMend}
	}
	if slices.Contains(ubuntuOnly, req.Kind) && !strings.HasPrefix(facts.Details["release"], "Ubuntu") {
		release := facts.Details["release"]
		if release == "" {
			release = "an unknown system"
		}
		return refuse("NotUbuntu", "the machine does not run Ubuntu, which the policy azure-strict demands", "it runs "+release, "attach a machine with Ubuntu")
	}
	if !slices.Contains(publicOnly, req.Kind) || a.found.Public {
		return nil
	}
	host := hostOf(facts.Details["address"])
	if host == "" {
		host = hostOf(req.Address)
	}
	addresses, err := c.lookup(ctx, host)
	if err != nil {
		return refuse("NoPublicAddress", "the target has no public address, which the policy azure-strict demands", err.Error(), "give it a public name or address")
	}
	var private []string
	for _, ip := range addresses {
		if isPublic(ip) {
			return nil
		}
		private = append(private, ip.String())
	}
	return refuse("NoPublicAddress", "the target has no public address, which the policy azure-strict demands", host+" is "+strings.Join(private, ", "), "give it a public address")
}

func (c *Control) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// hostOf is the host of an address in any of the forms of AttachRequest.Address, or of host:port.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// shared is the space of carrier-grade NAT (RFC 6598), which netip does not count as private.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// isPublic tells whether anybody on the Internet could reach an address.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}
