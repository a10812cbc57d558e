package environment

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// settings are the variables that uv gets from uv.sh, by name, in a home folder with files.
func settings(t *testing.T, files map[string]string, env ...string) map[string]string {
	t.Helper()
	home := t.TempDir()
	for name, text := range files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "~", home)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(home, "env", "uv.sh")
	if err := os.MkdirAll(filepath.Dir(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte(uvScript), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", script, filepath.Dir(script), "env")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home}
	for _, v := range env {
		cmd.Env = append(cmd.Env, strings.ReplaceAll(v, "~", home))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case name == "UV_CACHE_DIR", name == "UV_PYTHON_INSTALL_DIR", name == "UV_NO_PROGRESS", name == "UV_NO_MODIFY_PATH", name == "UV_PYTHON_PREFERENCE":
		case name == "UV_NATIVE_TLS", name == "UV_SYSTEM_CERTS": // depend on the machine
		case strings.HasPrefix(name, "UV_"), strings.HasPrefix(name, "SSL_"), name == "HTTPS_PROXY", name == "HTTP_PROXY":
			got[name] = strings.ReplaceAll(value, home, "~")
		}
	}
	return got
}

// On a machine whose pip is told where packages come from, uv goes there, whatever form the telling has.
func TestPipsOwnConfigurationServesUv(t *testing.T) {
	const pip = "[list]\nindex-url = https://no.example/\n[global]\ntimeout=1\nindex-url = https://conf.example/simple\nextra-index-url=https://extra.example/\ncert = /c.pem\n"
	best := map[string]string{"UV_INDEX_STRATEGY": "unsafe-best-match"}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(best)
		maps.Copy(all, more)
		return all
	}
	machine := settings(t, nil)
	conf := map[string]string{".config/pip/pip.conf": pip}
	for name, c := range map[string]struct {
		files map[string]string
		env   []string
		want  map[string]string
	}{
		"nothing": {nil, nil, best},
		"pip.conf": {conf, nil, with(map[string]string{
			"UV_DEFAULT_INDEX": "https://conf.example/simple", "UV_INDEX": "https://extra.example/", "SSL_CERT_FILE": "/c.pem",
		})},
		"variables win": {conf, []string{"PIP_INDEX_URL=https://env.example/", "PIP_CERT=/e.pem"}, with(map[string]string{
			"UV_DEFAULT_INDEX": "https://env.example/", "UV_INDEX": "https://extra.example/", "SSL_CERT_FILE": "/e.pem",
		})},
		"uv's own wins": {conf, []string{"UV_DEFAULT_INDEX=https://uv.example/", "SSL_CERT_FILE=/u.pem"}, with(map[string]string{
			"UV_DEFAULT_INDEX": "https://uv.example/", "SSL_CERT_FILE": "/u.pem",
		})},
		"uv's own file wins": {map[string]string{".config/pip/pip.conf": pip, ".config/uv/uv.toml": ""}, nil, map[string]string{"SSL_CERT_FILE": "/c.pem"}},
		"another folder of settings": {map[string]string{"etc/pip/pip.conf": "[global]\nindex_url = https://xdg.example/\n"}, []string{"XDG_CONFIG_HOME=~/etc"}, with(map[string]string{
			"UV_DEFAULT_INDEX": "https://xdg.example/",
		})},
		"the old file": {map[string]string{".pip/pip.conf": "[install]\nindex-url: https://old.example/\n"}, nil, with(map[string]string{"UV_DEFAULT_INDEX": "https://old.example/"})},
		"a file by variable": {map[string]string{".config/pip/pip.conf": pip, "own.conf": "[global]\nindex-url=https://own.example/\n"}, []string{"PIP_CONFIG_FILE=~/own.conf"}, with(map[string]string{
			"UV_DEFAULT_INDEX": "https://own.example/", "UV_INDEX": "https://extra.example/", "SSL_CERT_FILE": "/c.pem",
		})},
		"no files": {conf, []string{"PIP_CONFIG_FILE=/dev/null"}, best},
		"several lines": {map[string]string{".config/pip/pip.conf": "[global]\n# a comment\nextra-index-url =\n    https://a.example/\n    https://b.example/\ntrusted-host = a.example\n    b.example\nfind-links = /w1\n  /w2\n"}, nil, with(map[string]string{
			"UV_INDEX": "https://a.example/ https://b.example/", "UV_INSECURE_HOST": "a.example b.example", "UV_FIND_LINKS": "/w1,/w2",
		})},
		"no index": {map[string]string{".config/pip/pip.conf": "[global]\nno-index = true\n"}, []string{"PIP_FIND_LINKS=/w1 /w2"}, with(map[string]string{"UV_NO_INDEX": "1", "UV_FIND_LINKS": "/w1,/w2"})},
		"a proxy and a client certificate": {map[string]string{".config/pip/pip.conf": "[global]\nproxy = http://p.example:3128\nclient-cert = /k.pem\n"}, nil, with(map[string]string{
			"HTTPS_PROXY": "http://p.example:3128", "HTTP_PROXY": "http://p.example:3128", "SSL_CLIENT_CERT": "/k.pem",
		})},
		"the machine's proxy wins":     {nil, []string{"PIP_PROXY=http://p.example:3128", "https_proxy=x", "http_proxy=x"}, best},
		"roots of other programs":      {nil, []string{"REQUESTS_CA_BUNDLE=/r.pem"}, with(map[string]string{"SSL_CERT_FILE": "/r.pem"})},
		"a value with a quote":         {nil, []string{`PIP_INDEX_URL=https://x.example/'$(exit 3)"`}, with(map[string]string{"UV_DEFAULT_INDEX": `https://x.example/'$(exit 3)"`})},
		"the user's choice of version": {nil, []string{"UV_INDEX_STRATEGY=first-index"}, map[string]string{"UV_INDEX_STRATEGY": "first-index"}},
	} {
		got := settings(t, c.files, c.env...)
		for variable, value := range machine { // of its own /etc/pip.conf
			if _, asked := c.want[variable]; !asked && got[variable] == value {
				delete(got, variable)
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
