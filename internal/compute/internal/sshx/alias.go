package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"
	"golang.org/x/crypto/ssh"
)

// aliases is an ssh_config of the server's user. Nil knows none.
type aliases struct {
	file string
	home string
	cfg  *ssh_config.Config
}

// alias is what an ssh_config says of a name.
type alias struct {
	host, port, user string
	keys             []string // identity files
	jump             []string
}

// openAliases reads the configuration that applies: the one named, or the user's own when host looks like an alias.
func openAliases(file, host string) (*aliases, error) {
	home, _ := os.UserHomeDir()
	asked := file != ""
	if !asked {
		if home == "" || host == "localhost" || strings.ContainsAny(host, ".:") {
			return nil, nil
		}
		file = filepath.Join(home, ".ssh", "config")
	}
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		file = filepath.Join(home, rest)
	}
	b, err := os.ReadFile(file)
	if !asked && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var cfg *ssh_config.Config
	if err == nil {
		cfg, err = ssh_config.Decode(bytes.NewReader(b))
	}
	if err != nil {
		return nil, invalid("InvalidSSHConfig", "config_file", fmt.Sprintf("the ssh_config %s of the server's user cannot be used", file), err.Error(),
			"correct that file, or write the machine's full name into the address")
	}
	return &aliases{file: file, home: home, cfg: cfg}, nil
}

// find tells what stands for a name. An unknown one stands for itself.
func (n *aliases) find(name string) (alias, error) {
	if n == nil {
		return alias{}, nil
	}
	var err error
	get := func(key string) string {
		v, e := n.cfg.Get(name, key)
		err = errors.Join(err, e)
		return strings.TrimSpace(v)
	}
	a := alias{host: get("HostName"), port: get("Port"), user: get("User")}
	jump, proxy := get("ProxyJump"), get("ProxyCommand")
	keys, e := n.cfg.GetAll(name, "IdentityFile")
	if err = errors.Join(err, e); err != nil {
		return alias{}, invalid("InvalidSSHConfig", "config_file", fmt.Sprintf("the ssh_config %s cannot be used for %q", n.file, name), err.Error(), "correct that file")
	}
	if jump == "" && proxy != "" && !strings.EqualFold(proxy, "none") {
		return alias{}, invalid("ProxyCommandUnsupported", "config_file", fmt.Sprintf("the ssh_config %s has a ProxyCommand for %q, which is not supported", n.file, name), proxy,
			"use ProxyJump there, or --jump (setting jump)")
	}
	a.host = strings.ReplaceAll(a.host, "%h", name)
	if jump != "" && !strings.EqualFold(jump, "none") {
		for j := range strings.SplitSeq(jump, ",") {
			a.jump = append(a.jump, strings.TrimSpace(j))
		}
	}
	for _, k := range keys {
		if !strings.EqualFold(k, "none") {
			a.keys = append(a.keys, n.path(k, name, a))
		}
	}
	return a, nil
}

// path fills in what ssh_config allows in the name of an identity file.
func (n *aliases) path(file, name string, a alias) string {
	file = strings.Trim(file, `"`)
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		file = filepath.Join(n.home, rest)
	}
	me := ""
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	return strings.NewReplacer("%%", "%", "%d", n.home, "%h", first(a.host, name), "%n", name, "%r", a.user, "%u", me, "%p", first(a.port, "22")).Replace(file)
}

// key reads an identity file. One that does not exist is passed over, as ssh does.
func (n *aliases) key(file, passphrase string) (ssh.Signer, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, invalid("NotAPrivateKey", "config_file", fmt.Sprintf("the identity file %s, named in %s, cannot be read", file, n.file), err.Error(), "let the server's user read it, or give a key with --private-key-file (setting private_key)")
	}
	return parseKey(string(b), passphrase, "the identity file "+file, "config_file")
}
