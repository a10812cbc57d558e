package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// login is how to prove who one is to a machine.
type login struct {
	auth    []ssh.AuthMethod
	have    []string // for people: what there was to show
	methods []string // that the machine would take
	agent   net.Conn
}

func (l *login) close() {
	if l.agent != nil {
		_ = l.agent.Close()
	}
}

// offered notes what the machine would take, and leaves the choice to the order of auth.
func (l *login) offered(ctx *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	for _, m := range ctx.AllowedMethods {
		if !slices.Contains(l.methods, m) {
			l.methods = append(l.methods, m)
		}
	}
	return nil, nil
}

// methods makes the ways to log in: keys first, since a wrong password may lock an account.
func (h hop) methods() (*login, error) {
	l := &login{}
	signers := slices.Clone(h.signers)
	if len(signers) > 0 {
		l.have = append(l.have, "the private key "+ssh.FingerprintSHA256(signers[0].PublicKey()))
	}
	if h.cfg.UseAgent {
		more, err := l.dialAgent()
		if err != nil {
			return nil, err
		}
		signers = append(signers, more...)
		l.have = append(l.have, fmt.Sprintf("%d keys of the ssh-agent", len(more)))
	}
	if len(signers) > 0 {
		l.auth = append(l.auth, ssh.PublicKeys(signers...))
	}
	if p := h.cfg.Password; p != "" {
		l.have = append(l.have, "the password")
		l.auth = append(l.auth, ssh.Password(p), ssh.KeyboardInteractive(answer(p)))
	}
	return l, nil
}

// answer gives the password to a single hidden question, which is how PAM asks for it; anything else it does not know.
func answer(password string) ssh.KeyboardInteractiveChallenge {
	return func(_, _ string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range questions {
			if echos[i] || len(questions) > 1 {
				return nil, fmt.Errorf("the machine asks %q, and only a password can be answered", strings.TrimSpace(questions[i]))
			}
			answers[i] = password
		}
		return answers, nil
	}
}

func (l *login) dialAgent() ([]ssh.Signer, error) {
	const (
		instead = "or give a key with --private-key-file (setting private_key) in place of --use-agent (use_agent)"
		mend    = "start the server from a session with an ssh-agent (ssh-add -l lists its keys), " + instead
	)
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, invalid("NoAgent", "use_agent", "there is no ssh-agent to ask for keys", "SSH_AUTH_SOCK is not set for the server", mend)
	}
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "unix", socket)
	if err != nil {
		return nil, invalid("NoAgent", "use_agent", "the ssh-agent does not answer", err.Error(), mend)
	}
	_ = conn.SetDeadline(time.Now().Add(HandshakeTimeout)) // one that asks a person for each use may never answer
	signers, err := agent.NewClient(conn).Signers()
	if err != nil || len(signers) == 0 {
		_ = conn.Close()
		cause := "it holds no key"
		if err != nil {
			cause = err.Error()
		}
		return nil, invalid("NoAgent", "use_agent", "the ssh-agent gives no key", cause, "add one with ssh-add, "+instead)
	}
	l.agent = conn
	return signers, nil
}

// parseKey reads a private key. what names it for people, setting is where it came from.
func parseKey(text, passphrase, what, setting string) (ssh.Signer, error) {
	b := []byte(strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")) + "\n")
	s, err := ssh.ParsePrivateKey(b)
	if err == nil {
		return s, nil
	}
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); !locked {
		cause := err.Error()
		mend := "give the whole private key file, from -----BEGIN to the last line, as ssh-keygen writes it"
		if _, _, _, _, pub := ssh.ParseAuthorizedKey(b); pub == nil {
			cause, mend = "it is a public key", "give the private key: the file without .pub"
		} else if strings.HasPrefix(text, "PuTTY-User-Key-File") {
			cause, mend = "it is in PuTTY's form", "convert it: puttygen key.ppk -O private-openssh -o key"
		}
		return nil, invalid("NotAPrivateKey", setting, what+" cannot be read", cause, mend)
	}
	if passphrase == "" {
		return nil, invalid("PassphraseMissing", "passphrase", what+" is encrypted and no passphrase was given", "", "give it with --passphrase-file (setting passphrase)")
	}
	s, err = ssh.ParsePrivateKeyWithPassphrase(b, []byte(passphrase))
	if err != nil {
		return nil, invalid("WrongPassphrase", "passphrase", what+" cannot be opened with the passphrase that was given", err.Error(),
			"give the passphrase that ssh-keygen asked for when the key was made (ssh-keygen -y -f FILE tries one)")
	}
	return s, nil
}
