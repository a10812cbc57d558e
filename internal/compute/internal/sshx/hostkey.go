package sshx

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Fingerprint is the SHA-256 fingerprint of a host key as ssh shows it; empty for what is not a key.
func Fingerprint(hostKey string) string {
	k, err := parseHostKey(hostKey)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(k)
}

// CheckHostKey tells what is wrong with the text of a pinned key. Empty is fine.
func CheckHostKey(hostKey string) error {
	if hostKey == "" {
		return nil
	}
	if _, err := parseHostKey(hostKey); err != nil {
		return invalid("InvalidHostKey", "host_key", "the pinned host key cannot be read", err.Error(),
			"give a line as in a .pub file, e.g. \"ssh-ed25519 AAAA…\"; ssh-keyscan prints it")
	}
	return nil
}

func parseHostKey(text string) (ssh.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, err
	}
	if k.Type() == ssh.CertAlgoED25519v01 || strings.Contains(k.Type(), "-cert-") {
		return nil, errors.New("it is a certificate and not a key")
	}
	return k, nil
}

// formatHostKey is a key's one form: its type and its bytes.
func formatHostKey(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

// hostKeyCheck compares the key that a machine shows with the pinned one.
type hostKeyCheck struct {
	hop     hop
	shown   string
	problem error
}

// algorithms asks the machine for a key of the pinned one's type: it may have several, and another is not a change.
func (c *hostKeyCheck) algorithms() []string {
	types := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA}
	if k, err := parseHostKey(c.hop.hostKey); err == nil {
		types = []string{k.Type()}
	}
	var out []string
	for _, t := range types {
		if t == ssh.KeyAlgoRSA {
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		out = append(out, t)
	}
	return out
}

func (c *hostKeyCheck) see(_ string, _ net.Addr, key ssh.PublicKey) error {
	c.shown = formatHostKey(key)
	if c.hop.hostKey == "" {
		return nil
	}
	pinned, err := parseHostKey(c.hop.hostKey)
	if err == nil && formatHostKey(pinned) == c.shown {
		return nil
	}
	c.problem = c.hop.hostKeyChanged(fmt.Sprintf("it shows %s %s", key.Type(), ssh.FingerprintSHA256(key)))
	return c.problem
}

// hostKeyChanged is the problem of a machine that is not the one that was attached, or was installed anew.
func (h hop) hostKeyChanged(shows string) error {
	setting, update := "host_key", "--host-key KEY"
	if h.jump {
		setting, update = "jump_host_keys", "--set jump_host_keys=[KEY,…]"
	}
	return &compute.Error{Kind: compute.ErrDenied, Problem: workspace.Problem{
		Class: workspace.Conflict, Code: "HostKeyChanged", Target: setting,
		Message: fmt.Sprintf("the machine at %s does not show the host key that was pinned when it was attached", h.addr),
		Cause:   fmt.Sprintf("pinned is %s, and %s", Fingerprint(h.hostKey), shows),
		Mend: "if the machine was installed anew, check the new fingerprint on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and " +
			"give the new key: moorage compute update NAME " + update + " (setting " + setting + "); if not, somebody may stand in between: do not connect",
	}}
}
