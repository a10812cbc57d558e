package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func invalid(code, setting, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: code, Target: setting, Message: message, Cause: cause, Mend: mend,
	}}
}

func unreachable(err error, code, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: code, Target: "address", Message: message, Cause: cause, Mend: mend,
	}}
}

// dialFailed says why there is no TCP connection.
func (h hop) dialFailed(err error) error {
	message := fmt.Sprintf("%s cannot be reached", h)
	host, port, _ := net.SplitHostPort(h.addr)
	if through, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return h.jumpRefused(through, message)
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && dns.IsNotFound:
		return unreachable(err, "HostUnknown", message, fmt.Sprintf("no machine has the name %q", host),
			"check the spelling of the address; the server asks its own DNS, so use an IP address for a name that only you know")
	case isDNS:
		return unreachable(err, "HostUnknown", message, dns.Error(), "check the DNS of the server's machine")
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable(err, "ConnectionRefused", message, "the machine refused the connection: nothing listens on port "+port,
			"start the SSH server there (systemctl start ssh), or correct the port in the address")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return unreachable(err, "NoRoute", message, "there is no route to it", "check that the machine is up and in a network that the server can reach, or name a jump host")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return unreachable(err, "ConnectionTimedOut", message, fmt.Sprintf("it did not answer within %s", DialTimeout),
			"check that the machine is up and that no firewall drops connections to port "+port+", or name a jump host")
	}
	return unreachable(err, "ConnectionFailed", message, err.Error(), "check the address and the network between the server and the machine")
}

// jumpRefused says why a jump host did not go further.
func (h hop) jumpRefused(err *ssh.OpenChannelError, message string) error {
	cause := strings.TrimSpace(err.Message)
	if err.Reason == ssh.Prohibited {
		return &compute.Error{Kind: compute.ErrDenied, Err: err, Problem: workspace.Problem{
			Class: workspace.Denied, Code: "JumpForbidden", Target: "jump", Message: message, Cause: "the jump host forbids to go on from it: " + cause,
			Mend: "allow it there (AllowTcpForwarding yes in sshd_config), or take another jump host",
		}}
	}
	return unreachable(err, "ConnectionFailed", message, "the jump host cannot connect to it: "+cause, "check the address as seen from the jump host, and that the machine is up")
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// handshakeFailed says why there is a connection and no login.
func (h hop) handshakeFailed(err error, l *login) error {
	text := err.Error()
	if len(l.methods) > 0 && !isLost(err) && !errors.Is(err, errHandshake) {
		return h.refused(err, l)
	}
	message := fmt.Sprintf("no login at %s", h)
	if n, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		return h.noCommon(n, message)
	}
	switch {
	case errors.Is(err, errHandshake):
		return unreachable(err, "LoginTimedOut", message, fmt.Sprintf("the machine took the connection and did not finish the login within %s", HandshakeTimeout),
			"check the load of the machine, and that its port is that of an SSH server")
	case strings.Contains(text, "overflow reading version string"), strings.Contains(text, "invalid version"), strings.Contains(text, "max packet length"):
		return unreachable(err, "NotSSH", message, "what answers there does not speak SSH", "correct the port in the address")
	case isLost(err):
		return unreachable(err, "ConnectionLost", message, "the machine closed the connection before the login was done",
			"look at the log of its SSH server (journalctl -u ssh); it may be starting, full (MaxStartups) or ban this address")
	}
	return unreachable(err, "LoginFailed", message, strings.TrimPrefix(text, "ssh: handshake failed: "), "look at the log of its SSH server (journalctl -u ssh)")
}

// noCommon says that the machine has no algorithm in common with us; for a host key, that it lost the pinned type.
func (h hop) noCommon(err *ssh.AlgorithmNegotiationError, message string) error {
	if strings.Contains(err.Error(), "host key") && h.hostKey != "" {
		return h.hostKeyChanged("it has no key of that type any more: " + strings.Join(err.RequestedAlgorithms, ", "))
	}
	return &compute.Error{Kind: compute.ErrDenied, Err: err, Problem: workspace.Problem{
		Class: workspace.Conflict, Code: "NoCommonAlgorithm", Target: "address", Message: message,
		Cause: strings.TrimPrefix(err.Error(), "ssh: "), Mend: "update the SSH server of that machine: it only offers algorithms that are no longer safe",
	}}
}

// refused says which proofs the machine did not take, and what it would take.
func (h hop) refused(err error, l *login) error {
	have := "nothing"
	if len(l.have) > 0 {
		have = strings.Join(l.have, " and ")
	}
	cause := fmt.Sprintf("the machine refused user %s with %s; it takes: %s", h.user, have, strings.Join(l.methods, ", "))
	keys := slices.Contains(l.methods, "publickey")
	words := slices.Contains(l.methods, "password") || slices.Contains(l.methods, "keyboard-interactive")
	mend := "check the user name and the credentials"
	switch {
	case h.cfg.Password != "" && len(h.signers) == 0 && !h.cfg.UseAgent && !words:
		mend = "give a key with --private-key-file (setting private_key): that machine takes no passwords"
	case h.cfg.Password == "" && !keys:
		mend = "give a password with --password-file (setting password): that machine takes no keys"
	case h.cfg.Password == "":
		mend = fmt.Sprintf("add the public key to ~%s/.ssh/authorized_keys on that machine (ssh-copy-id), or check the user name", h.user)
	case !keys:
		mend = "check the user name and the password"
	}
	if said := err.Error(); !strings.Contains(said, "unable to authenticate") {
		cause += "; " + strings.TrimPrefix(said, "ssh: handshake failed: ")
	}
	return &compute.Error{Kind: compute.ErrDenied, Err: err, Problem: workspace.Problem{
		Class: workspace.Denied, Code: "LoginRefused", Target: h.setting(), Message: fmt.Sprintf("no login at %s", h), Cause: cause, Mend: mend,
	}}
}

// setting is the credential that a person would look at first.
func (h hop) setting() string {
	switch {
	case h.cfg.Password != "":
		return "password"
	case h.cfg.UseAgent && h.cfg.PrivateKey == "":
		return "use_agent"
	}
	return "private_key"
}

// isLost tells whether the line broke, as opposed to an answer that says no.
func isLost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
