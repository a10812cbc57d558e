package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// cloudCacheHint says that Azure's clients remember another cloud than this server, or "". They keep what a server said
// of its cloud under the user's folder of the Azure CLI, if there is one, and never ask again (azureml-v1.md §1.1).
func cloudCacheHint(url string) string {
	dir := azureFolder()
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, "cloudEndpoints.json")
	text, err := os.ReadFile(file)
	if err != nil || len(bytes.TrimSpace(text)) == 0 || bytes.Contains(text, []byte(`"`+url+`"`)) {
		return ""
	}
	return fmt.Sprintf("moorage: azureml-core and the Azure CLI remember another server in %s. Remove that file.", file)
}

// azureFolder is the user's folder of the Azure CLI, which may not be there; "" where nobody knows its place.
func azureFolder() string {
	if dir := os.Getenv("AZURE_CONFIG_DIR"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".azure")
}

// cloudCache is what a doctor finds of that folder. That there is none matters to old releases of azureml-core alone, which
// die of it in words that do not tell why.
func cloudCache(url string) finding {
	const check = "azure folder"
	dir := azureFolder()
	if hint := cloudCacheHint(url); hint != "" {
		return finding{
			Check: check, Thing: "azureml-core and the Azure CLI remember another server", Cause: "they keep a server's cloud and never ask again",
			Mend: "remove " + filepath.Join(dir, "cloudEndpoints.json"),
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return finding{Check: check, OK: true, Thing: "Azure's clients remember no server; releases of azureml-core from 2023 do not start before mkdir " + dir}
	}
	return finding{Check: check, OK: true, Thing: "Azure's clients remember no other server"}
}
