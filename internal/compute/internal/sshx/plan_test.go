package sshx

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestAddressesAreRead(t *testing.T) {
	for text, want := range map[string]place{
		"ssh://user@host:2222":  {"user", "host", "2222"},
		"ssh://host":            {"", "host", ""},
		"user@host":             {"user", "host", ""},
		"host:22":               {"", "host", "22"},
		"10.0.0.1":              {"", "10.0.0.1", ""},
		"::1":                   {"", "::1", ""},
		"u@fe80::1":             {"u", "fe80::1", ""},
		"ssh://u@[fe80::1]:23/": {"u", "fe80::1", "23"},
		"  user@host ":          {"user", "host", ""},
		"DOMAIN%5Cuser@host":    {`DOMAIN\user`, "host", ""},
	} {
		if got, err := parse(text, "address"); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for text, code := range map[string]string{
		"": "InvalidAddress", "http://host": "InvalidAddress", "ssh://": "InvalidAddress", "u@host:0": "InvalidAddress", "u@host:99999": "InvalidAddress",
		"ssh://u@host/path": "InvalidAddress", "u@-oProxyCommand=x": "InvalidAddress", "ssh://u:pass@host": "PasswordInAddress", "u@host:x": "InvalidAddress",
	} {
		_, err := parse(text, "address")
		if p := fails(t, err, compute.ErrInvalid, code); strings.Contains(p.Error(), "pass@") {
			t.Errorf("%q: the error shows the password", text)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"ssh://u@h:22", "u@h", "[::1]:22", "ssh://u:p@h", "%zz@h", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text, "address")
		if err == nil && (p.host == "" || strings.HasPrefix(p.host, "-")) {
			t.Errorf("%q is read as %+v", text, p)
		}
	})
}

func TestWhatLacksIsSaidBeforeConnecting(t *testing.T) {
	fails(t, Check(Config{Address: "u@host.example"}), compute.ErrInvalid, "NoCredentials")
	fails(t, Check(Config{Address: "host.example", Password: "x"}), compute.ErrInvalid, "NoUser")
	fails(t, Check(Config{Address: "u@host.example", Password: "x", HostKey: "junk"}), compute.ErrInvalid, "InvalidHostKey")
	fails(t, Check(Config{Address: "u@host.example", Password: "x", Jump: []string{"http://x"}}), compute.ErrInvalid, "InvalidAddress")
	fails(t, Check(Config{Address: "u@host.example", Password: "x", ConfigFile: "/does/not/exist"}), compute.ErrInvalid, "InvalidSSHConfig")
	if err := Check(Config{Address: "host.example", User: "u", Password: "x"}); err != nil {
		t.Error(err)
	}
}

// What a person types on the command line is a flag, and what a program sends is a setting: a mend names both.
func TestMendsNameTheFlagAndTheSetting(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	locked, _ := engine.NewKey(t, "passphrase")
	closed := hop{cfg: Config{Password: "x"}, user: "u", addr: "h:22"}
	open := hop{user: "u", addr: "h:22"}
	key, keyErr := parseKey(locked, "", "the private key", "private_key")
	_, agentErr := hop{cfg: Config{UseAgent: true}}.methods()
	refusal := errors.New("unable to authenticate")
	for what, tc := range map[string]struct {
		err   error
		names []string
	}{
		"nothing to log in with": {Check(Config{Address: "u@host.example"}), []string{"--private-key-file", "private_key", "--password-file", "password", "--use-agent", "use_agent"}},
		"password in address":    {Check(Config{Address: "ssh://u:p@h"}), []string{"--password-file", "setting password"}},
		"locked key":             {keyErr, []string{"--passphrase-file", "setting passphrase"}},
		"no agent":               {agentErr, []string{"--private-key-file", "setting private_key"}},
		"keys only":              {closed.refused(refusal, &login{methods: []string{"publickey"}}), []string{"--private-key-file", "setting private_key"}},
		"passwords only":         {open.refused(refusal, &login{methods: []string{"password"}}), []string{"--password-file", "setting password"}},
		"other host key":         {open.hostKeyChanged("it shows another"), []string{"--host-key", "setting host_key"}},
		"other key of the jump":  {hop{jump: true}.hostKeyChanged("it shows another"), []string{"--set jump_host_keys=", "setting jump_host_keys"}},
	} {
		p, ok := errors.AsType[*workspace.Problem](tc.err)
		if !ok {
			t.Errorf("%s: %v", what, tc.err)
			continue
		}
		for _, name := range tc.names {
			if !strings.Contains(p.Mend, name) {
				t.Errorf("%s: %q does not name %s", what, p.Mend, name)
			}
		}
	}
	if key != nil {
		t.Error("a locked key was opened")
	}
}

// home makes an own home with an ssh_config for the test.
func home(t testing.TB, config string) string {
	t.Helper()
	dir := t.TempDir()
	t.(*testing.T).Setenv("HOME", dir)
	if err := os.MkdirAll(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, ".ssh", "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAliasOfSSHConfigConnects(t *testing.T) {
	s, jump := engine.StartSSHD(t, engine.SSHDOptions{}), engine.StartSSHD(t, engine.SSHDOptions{})
	private, public := engine.NewKey(t, "")
	s.Authorize(t, public)
	jump.Authorize(t, public)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	file := home(t, "Host gpu\n  HostName 127.0.0.1\n  Port "+s.Port+"\n  User "+s.User+"\n  IdentityFile ~/.ssh/absent\n  IdentityFile "+key+"\n"+
		"Host far\n  HostName %h-is-not-used\n"+
		"Host door\n  HostName 127.0.0.1\n  Port "+jump.Port+"\n  User "+jump.User+"\n"+
		"Host inner\n  HostName 127.0.0.1\n  Port "+s.Port+"\n  User "+s.User+"\n  ProxyJump door\n"+
		"Host *\n  IdentityFile "+key+"\n  ServerAliveInterval 30\n")
	c, err := dial(t, Config{Address: "gpu", HostKey: s.HostKey})
	works(t, c, err)
	c, err = dial(t, Config{Address: "ssh://inner", HostKey: s.HostKey})
	works(t, c, err)
	if len(c.JumpHostKeys) != 1 || c.JumpHostKeys[0] != jump.HostKey {
		t.Errorf("jump hosts: %q", c.JumpHostKeys)
	}
	// Named, the file counts for every address, also one with dots.
	c, err = dial(t, Config{Address: "ssh://" + s.User + "@" + s.Addr, ConfigFile: file})
	works(t, c, err)
	// What the settings say goes before it.
	hops, err := plan(Config{Address: "ssh://other@gpu:77", PrivateKey: private})
	if err != nil || hops[0].user != "other" || hops[0].addr != "127.0.0.1:77" {
		t.Errorf("plan: %+v, %v", hops, err)
	}
}

func TestSSHConfigIsLeftAloneForFullNames(t *testing.T) {
	home(t, "Match host x exec \"false\"\n  User y\n")
	if err := Check(Config{Address: "u@host.example", Password: "x"}); err != nil {
		t.Error(err)
	}
	home(t, "Host gpu\n  ProxyCommand nc %h %p\n")
	fails(t, Check(Config{Address: "u@gpu", Password: "x"}), compute.ErrInvalid, "ProxyCommandUnsupported")
}
