package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// finding is what one check saw. Thing says it in a sentence; cause and mend are there when it is wrong.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Thing string `json:"thing"`
	Cause string `json:"cause,omitempty"`
	Mend  string `json:"mend,omitempty"`
}

func newDoctor(source clock.Source) *cobra.Command {
	n := &connection{clock: source}
	var f format
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the way from here to a server, and what a client needs there",
		Long: `Check the way from here to a server: that it answers, that its certificate is trusted, that credentials and workspace
are good, that the clocks agree, that there is room on its disk, that azureml-core can upload, and what Azure's clients
remember. Each finding says what is
wrong, why, and how it is mended. The exit code is 1 when something is wrong.`,
		Example: `  moorage doctor
  moorage doctor --data ~/moorage -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			defer c.Close()
			d := &doctor{client: c, now: source.Now, lookup: net.DefaultResolver.LookupHost}
			findings := d.examine(cmd.Context())
			if err := f.print(cmd, findings, func() error { return showFindings(cmd.OutOrStdout(), findings) }); err != nil {
				return err
			}
			for _, x := range findings {
				if !x.OK {
					return Exit(exitFailed)
				}
			}
			return nil
		},
	}
	n.register(cmd.Flags())
	f.register(cmd.Flags())
	return cmd
}

func showFindings(w io.Writer, findings []finding) error {
	rows := make([][]string, 0, len(findings))
	for _, x := range findings {
		word := "ok"
		if !x.OK {
			word = "wrong"
		}
		rows = append(rows, []string{word, x.Check, x.Thing})
		if x.Cause != "" {
			rows = append(rows, []string{"", "", "cause: " + x.Cause})
		}
		if x.Mend != "" {
			rows = append(rows, []string{"", "", "mend: " + x.Mend})
		}
	}
	return show.Table(w, []string{"", "CHECK", "FINDING"}, rows)
}

// doctor runs the checks.
type doctor struct {
	client *client.Client
	now    func() time.Time
	lookup func(ctx context.Context, host string) ([]string, error)
}

// Beyond clockLimit tokens that were just made may count as expired, or as not valid yet.
const clockLimit = 2 * time.Minute

// examine makes the checks in an order in which the first that fails explains the most. Those that cannot be made without
// it are left out.
func (d *doctor) examine(ctx context.Context) []finding {
	seen, err := d.client.Look(ctx, d.client.URL()+"/healthz")
	server, ok := d.server(seen, err)
	findings := []finding{server}
	trusted, found := d.certificate(err)
	if found {
		findings = append(findings, trusted)
	}
	if !ok {
		return findings
	}
	findings = append(findings, d.clocks(seen))
	about, err := d.client.Server(ctx)
	credentials := finding{Check: "credentials", OK: err == nil, Thing: "the token is good for workspace " + d.client.Workspace()}
	if err == nil {
		err = d.client.CheckWorkspace(ctx)
	}
	if err != nil {
		return append(findings, wrong("credentials", err))
	}
	findings = append(findings, credentials)
	room := finding{Check: "room", OK: true, Thing: "the server's disk has room for new work"}
	if about.Room != nil {
		room = wrong("room", about.Room)
	}
	return append(findings, room, d.uploads(ctx, about.BlobHost), cloudCache(d.client.URL()))
}

// wrong makes a finding of an error.
func wrong(check string, err error) finding {
	x := finding{Check: check, Thing: err.Error()}
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		x.Thing, x.Cause, x.Mend = p.Message, p.Cause, p.Mend
	}
	return x
}

// server tells whether one answers. A certificate that is refused is an answer, too.
func (d *doctor) server(seen client.Seen, err error) (finding, bool) {
	x := finding{Check: "server", OK: true, Thing: d.client.URL() + " answers"}
	switch {
	case err == nil && seen.Status == 200:
		return x, true
	case err == nil:
		x.OK, x.Thing = false, fmt.Sprintf("%s answers, but not as a server of Moorage does", d.client.URL())
		x.Cause, x.Mend = fmt.Sprintf("the status of /healthz is %d", seen.Status), "name the server's own address: --url or MOORAGE_URL"
		return x, false
	case client.Untrusted(err):
		return x, false
	}
	x = wrong("server", err)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		x.Cause, x.Mend = "the name "+dns.Name+" is not known on this machine", "correct the address (--url or MOORAGE_URL), or make the name known"
	}
	if u, err := url.Parse(d.client.URL()); err == nil && proxyOf(u) != "" {
		x.Mend += "; the proxy " + proxyOf(u) + " is asked for it: if it is not to be, add " + u.Hostname() + " to NO_PROXY"
	}
	return x, false
}

// certificate is a finding only where there was one to judge.
func (d *doctor) certificate(err error) (finding, bool) {
	if err == nil {
		return finding{Check: "certificate", OK: true, Thing: "its certificate is trusted"}, true
	}
	if !client.Untrusted(err) {
		return finding{}, false
	}
	x := wrong("certificate", err)
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		x.Mend = "call the server by a name that its certificate has, or start it with --name"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		x.Mend = "set this machine's clock; if it is right, start the server again, which makes a new certificate"
	}
	return x, true
}

// clocks compares this machine's with the server's, of which the answer tells the second.
func (d *doctor) clocks(seen client.Seen) finding {
	x := finding{Check: "clock", OK: true, Thing: "this machine's clock agrees with the server's"}
	if seen.Date.IsZero() {
		x.Thing = "the server does not tell its time"
		return x
	}
	off := d.now().Sub(seen.Date).Round(time.Second)
	if off.Abs() <= clockLimit {
		return x
	}
	word := "ahead of"
	if off < 0 {
		word = "behind"
	}
	x.OK, x.Thing = false, fmt.Sprintf("this machine's clock is %s %s the server's", off.Abs(), word)
	x.Cause, x.Mend = "clients would take fresh tokens for expired ones", "set both clocks by NTP"
	return x
}

// uploads tells whether the name for azureml-core's uploads leads to the server, by itself or by a proxy.
func (d *doctor) uploads(ctx context.Context, blobHost string) finding {
	x := finding{Check: "uploads", OK: true}
	u, err := url.Parse(d.client.URL())
	if err != nil {
		return wrong("uploads", err)
	}
	if isBlobHost(u.Hostname()) {
		x.Thing = "azureml-core uploads to the server's own name"
		return x
	}
	at := *u
	at.Host = blobHost
	if port := u.Port(); port != "" {
		at.Host = net.JoinHostPort(blobHost, port)
	}
	by := ""
	if p := proxyOf(&at); p != "" {
		by = " through the proxy " + p
	}
	seen, err := d.client.Look(ctx, at.String()+"/healthz")
	if err == nil && seen.Status == 200 {
		x.Thing = blobHost + ", to which azureml-core uploads, leads to the server" + by
		return x
	}
	x.OK, x.Thing = false, blobHost+", to which azureml-core uploads, does not lead to the server"+by
	x.Mend = "run moorage env and do as it says, or take the variables of moorage env --proxy"
	switch {
	case err == nil:
		x.Cause = fmt.Sprintf("what answers there is another server (status %d)", seen.Status)
	case by != "":
		x.Cause = wrong("", err).Cause
		x.Mend = "take the variables of moorage env --proxy in a shell without another proxy, or add " + blobHost + " to NO_PROXY and to the hosts file"
	default:
		x.Cause = wrong("", err).Cause
		if hint := hostsLine(ctx, d.client.URL(), blobHost, d.lookup); hint != "" {
			x.Mend = "add the line \"" + hint + "\" to the hosts file (" + hostsFile + "), or take the variables of moorage env --proxy"
		}
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			x.Cause = "the name is not known on this machine"
		}
	}
	return x
}

// hostsFile says where it is.
const hostsFile = `/etc/hosts, on Windows %SystemRoot%\System32\drivers\etc\hosts`

// proxyOf is the proxy that the environment names for a URL, without its password.
func proxyOf(u *url.URL) string {
	p, err := client.ProxyFor(u)
	if err != nil || p == nil {
		return ""
	}
	return p.Redacted()
}
