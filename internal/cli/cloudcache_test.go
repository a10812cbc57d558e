package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRememberedCloudOfAnotherServerIsSaid(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("AZURE_CONFIG_DIR", dir)
	const url = "https://localhost:8443"
	file := filepath.Join(dir, "cloudEndpoints.json")
	if hint := cloudCacheHint(url); hint != "" {
		t.Errorf("nothing is remembered, and it says %q", hint)
	}
	for text, said := range map[string]bool{
		`{"clouds": [{"resource_manager": "https://localhost:8443"}]}`:  false,
		`{"clouds": [{"resource_manager": "https://localhost:84431"}]}`: true,
		"": false,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if hint := cloudCacheHint(url); (hint != "") != said || said && !strings.Contains(hint, file) {
			t.Errorf("%s: %q", text, hint)
		}
	}
}

func TestAnAzureFolderThatIsNotThereIsNoFault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "azure")
	t.Setenv("AZURE_CONFIG_DIR", dir)
	if x := cloudCache("https://localhost:8443"); !x.OK || !strings.Contains(x.Thing, "mkdir "+dir) {
		t.Errorf("%+v", x)
	}
}
