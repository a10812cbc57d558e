package kubeconfig

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// takeIn puts the content of the file that a field names in place of the field. Content that is there already goes first,
// as kubectl has it for certificates; for tokens kubectl prefers the file.
func takeIn(part map[string]any, field, data string, read func(string) ([]byte, error)) error {
	path, _ := part[field].(string)
	if path == "" {
		return nil
	}
	if _, there := part[data]; there && data != "token" {
		return nil
	}
	if read == nil {
		return problem(fmt.Sprintf("the kubeconfig refers to a file by %q", field), "only its text came here", "take its files in: kubectl config view --raw --minify --flatten")
	}
	content, err := read(path)
	if err != nil {
		return problem(fmt.Sprintf("the file that the kubeconfig names by %q cannot be read", field), err.Error(), "see that "+path+" is there, and your right to read it")
	}
	if data == "token" {
		part[data] = strings.TrimSpace(string(content))
		return nil
	}
	part[data] = base64.StdEncoding.EncodeToString(content)
	return nil
}
