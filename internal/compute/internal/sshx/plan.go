package sshx

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hop is one machine on the way, the target last.
type hop struct {
	cfg     Config
	addr    string // host:port
	user    string
	hostKey string
	signers []ssh.Signer
	jump    bool
}

// String names the machine for people.
func (h hop) String() string {
	if h.jump {
		return fmt.Sprintf("the jump host %s@%s", h.user, h.addr)
	}
	return fmt.Sprintf("%s@%s", h.user, h.addr)
}

// place is what an address says; what it leaves open is empty.
type place struct{ user, host, port string }

// parse reads "ssh://user@host:22" and its shorter forms.
func parse(address, setting string) (place, error) {
	wrong := func(cause string) (place, error) {
		return place{}, invalid("InvalidAddress", setting, fmt.Sprintf("%.200q is not the address of a machine", address), cause, "write it as ssh://user@host:22")
	}
	text := strings.TrimSpace(address)
	switch scheme, _, ok := strings.Cut(text, "://"); {
	case text == "":
		return wrong("it is empty")
	case !ok:
		if strings.Count(text, ":") > 1 && !strings.Contains(text, "[") { // a bare IPv6 address
			user, host, found := strings.Cut(text, "@")
			if !found {
				user, host = "", text
			}
			text = user + "@[" + host + "]"
			if user == "" {
				text = "[" + host + "]"
			}
		}
		text = "ssh://" + text
	case scheme != "ssh":
		return wrong(fmt.Sprintf("it begins with %s:// and not with ssh://", scheme))
	}
	u, err := url.Parse(text)
	if err != nil {
		return wrong("it cannot be read")
	}
	if _, ok := u.User.Password(); ok {
		return place{}, invalid("PasswordInAddress", setting, "the address holds a password", "", "give it with --password-file (setting password): an address is shown to everybody")
	}
	p := place{user: u.User.Username(), host: u.Hostname(), port: u.Port()}
	if p.host == "" || strings.HasPrefix(p.host, "-") {
		return wrong("it names no host")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return wrong("there is something after the host and port")
	}
	if p.port != "" {
		if n, err := strconv.Atoi(p.port); err != nil || n < 1 || n > 65535 {
			return wrong("its port is not a number from 1 to 65535")
		}
	}
	return p, nil
}

// plan resolves settings and aliases to the machines to go through.
func plan(cfg Config) ([]hop, error) {
	if err := CheckHostKey(cfg.HostKey); err != nil {
		return nil, err
	}
	for _, k := range cfg.JumpHostKeys {
		if err := CheckHostKey(k); err != nil {
			return nil, err
		}
	}
	target, err := parse(cfg.Address, "address")
	if err != nil {
		return nil, err
	}
	if cfg.User != "" {
		target.user = cfg.User
	}
	names, err := openAliases(cfg.ConfigFile, target.host)
	if err != nil {
		return nil, err
	}
	last, jumps, err := cfg.resolve(names, target, "address")
	if err != nil {
		return nil, err
	}
	if len(cfg.Jump) > 0 {
		jumps = cfg.Jump
	}
	var hops []hop
	for i, j := range jumps {
		p, err := parse(j, "jump")
		if err != nil {
			return nil, err
		}
		h, _, err := cfg.resolve(names, p, "jump")
		if err != nil {
			return nil, err
		}
		h.jump = true
		if p.user == "" && h.user == "" {
			h.user = last.user
		}
		if i < len(cfg.JumpHostKeys) {
			h.hostKey = cfg.JumpHostKeys[i]
		}
		hops = append(hops, h)
	}
	last.hostKey = cfg.HostKey
	hops = append(hops, last)
	for _, h := range hops {
		if h.user == "" {
			return nil, invalid("NoUser", "username", "no user name to log in with at "+h.addr, "neither the address nor the settings name one", "write it into the address: ssh://user@host:22")
		}
		if len(h.signers) == 0 && cfg.Password == "" && !cfg.UseAgent {
			return nil, invalid("NoCredentials", "private_key", "nothing to log in with at "+h.addr, "", "give --private-key-file, --password-file or --use-agent (settings private_key, password, use_agent)")
		}
	}
	return hops, nil
}

// resolve makes a hop of an address: what the settings say goes before what the alias says.
func (cfg Config) resolve(names *aliases, p place, setting string) (hop, []string, error) {
	a, err := names.find(p.host)
	if err != nil {
		return hop{}, nil, err
	}
	h := hop{cfg: cfg, user: first(p.user, a.user)}
	port := first(p.port, a.port, "22")
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return hop{}, nil, invalid("InvalidAddress", setting, fmt.Sprintf("the port %q of %s is not a number from 1 to 65535", port, p.host), "", "correct it in the ssh_config")
	}
	h.addr = net.JoinHostPort(first(a.host, p.host), port)
	if cfg.PrivateKey != "" {
		s, err := parseKey(cfg.PrivateKey, cfg.Passphrase, "the private key", "private_key")
		if err != nil {
			return hop{}, nil, err
		}
		h.signers = []ssh.Signer{s}
		return h, a.jump, nil
	}
	for _, file := range a.keys {
		s, err := names.key(file, cfg.Passphrase)
		if err != nil {
			return hop{}, nil, err
		}
		if s != nil {
			h.signers = append(h.signers, s)
		}
	}
	return h, a.jump, nil
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
