package kubeconfig

import (
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const example = `
apiVersion: v1
kind: Config
current-context: blue
preferences: {colors: true}
contexts:
- {name: blue, context: {cluster: b, user: bob, namespace: ml}}
- {name: "arn:aws:eks:eu-1:1:cluster/green", context: {cluster: g, user: eve}}
- {name: cloud, context: {cluster: b, user: aws}}
- {name: old, context: {cluster: b, user: gcp}}
- {name: files, context: {cluster: f, user: f}}
- {name: nowhere, context: {cluster: missing, user: bob}}
clusters:
- {name: b, cluster: {server: "https://b:6443", certificate-authority-data: Q0E=, extensions: [{name: x}]}}
- {name: g, cluster: {server: "https://g:6443", insecure-skip-tls-verify: true}}
- {name: f, cluster: {server: "https://f:6443", certificate-authority: ca.pem}}
users:
- {name: bob, user: {token: hush-bob}}
- {name: eve, user: {username: eve, password: hush-eve}}
- {name: aws, user: {exec: {command: aws-iam-authenticator, args: [hush-arg]}}}
- {name: gcp, user: {auth-provider: {name: gcp}}}
- {name: f, user: {client-certificate: c.pem, client-key: k.pem, tokenFile: t}}
`

func file(t *testing.T, text string) *File {
	t.Helper()
	f, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMinimiseKeepsOneContextAndNothingElse(t *testing.T) {
	m, err := file(t, example).Minimise("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Context != "blue" || m.Server != "https://b:6443" || m.Namespace != "ml" {
		t.Errorf("%+v", m)
	}
	text := m.Text.Reveal()
	for _, gone := range []string{"hush-eve", "https://g", "extensions", "preferences", "hush-arg"} {
		if strings.Contains(text, gone) {
			t.Errorf("%q is still in %s", gone, text)
		}
	}
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc["kind"] != "Config" || !strings.Contains(text, "hush-bob") || !strings.Contains(text, "Q0E=") {
		t.Errorf("%s: %v", text, err)
	}
	again, err := file(t, text).Minimise("blue", nil)
	if err != nil || again.Text.Reveal() != text {
		t.Errorf("what is minimal does not stay as it is: %v", err)
	}
}

func TestMinimiseTakesFilesIn(t *testing.T) {
	content := map[string]string{"ca.pem": "CA", "c.pem": "cert", "k.pem": "key", "t": " token\n"}
	m, err := file(t, example).Minimise("files", func(path string) ([]byte, error) {
		text, ok := content[path]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{base64.StdEncoding.EncodeToString([]byte("key")), base64.StdEncoding.EncodeToString([]byte("CA")), `"token":"token"`} {
		if !strings.Contains(m.Text.Reveal(), want) {
			t.Errorf("%s is not in %s", want, m.Text.Reveal())
		}
	}
	if strings.Contains(m.Text.Reveal(), ".pem") || strings.Contains(m.Text.Reveal(), "tokenFile") {
		t.Errorf("a file is still named: %s", m.Text.Reveal())
	}
}

func TestMinimiseRefusesInPlainWords(t *testing.T) {
	for _, tt := range []struct{ context, code, says string }{
		{"cloud", "KubeconfigNeedsProgram", "aws-iam-authenticator"},
		{"old", "KubeconfigNeedsProgram", "auth provider gcp"},
		{"files", "InvalidKubeconfig", "--flatten"},
		{"nowhere", "InvalidKubeconfig", "missing"},
		{"none", "InvalidKubeconfig", "blue"},
	} {
		_, err := file(t, example).Minimise(tt.context, nil)
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Code != tt.code || !strings.Contains(p.Error(), tt.says) || p.Mend == "" {
			t.Errorf("%s: %v", tt.context, err)
		}
		if ok && strings.Contains(p.Error(), "hush") {
			t.Errorf("%s: a secret is told: %v", tt.context, p)
		}
	}
	for _, text := range []string{"hush: [", "[1]", "contexts: hush", strings.Repeat("x", most+1)} {
		if _, err := Read([]byte(text)); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%.20s: %v", text, err)
		}
	}
	if _, err := file(t, "kind: Config").Minimise("", nil); err == nil {
		t.Error("a file without a context has one")
	}
}

func TestContextsStandInAddresses(t *testing.T) {
	const arn = "arn:aws:eks:eu-1:1:cluster/green"
	for address, want := range map[string]string{"kubeconfig://blue": "blue", "kubeconfig://": "", Address(arn): arn, "kubeconfig://" + arn: arn, Address("a b%41"): "a b%41"} {
		if got, ok := ContextOf(address); !ok || got != want {
			t.Errorf("%s: %q, %v", address, got, ok)
		}
	}
	for _, other := range []string{"incluster://", "https://x", "kubeconfig:x"} {
		if _, ok := ContextOf(other); ok {
			t.Errorf("%s names a context", other)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(example)
	f.Add(`{"current-context":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Read([]byte(text))
		if err != nil {
			return
		}
		m, err := file.Minimise("", nil)
		if err != nil {
			return
		}
		if again, err := Read([]byte(m.Text.Reveal())); err != nil || again.Current != m.Context {
			t.Fatalf("what came of %q cannot be read: %v", text, err)
		}
	})
}
