package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// cloudCacheHint says that Azure's clients remember another cloud than this server, or "". They keep what a server said
// of its cloud under the user's folder of the Azure CLI, if there is one, and never ask again (azureml-v1.md §1.1).
func cloudCacheHint(url string) string {
	dir := os.Getenv("AZURE_CONFIG_DIR")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".azure")
	}
	file := filepath.Join(dir, "cloudEndpoints.json")
	text, err := os.ReadFile(file)
	if err != nil || len(bytes.TrimSpace(text)) == 0 || bytes.Contains(text, []byte(`"`+url+`"`)) {
		return ""
	}
	return fmt.Sprintf("moorage: azureml-core and the Azure CLI remember another server in %s. Remove that file.", file)
}
