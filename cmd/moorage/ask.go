package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/server"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// ask sends a request of the administrator to the server that holds a data folder.
func ask(ctx context.Context, data, method, path string, answer any) error {
	var announced server.Announcement
	b, err := os.ReadFile(filepath.Join(data, "server.json"))
	if err == nil {
		err = json.Unmarshal(b, &announced)
	}
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "NoServer", Message: "no server is known for the data folder " + data, Cause: err.Error(),
			Mend: "start it: moorage serve --data " + data,
		}
	}
	ca, err := os.ReadFile(filepath.Join(data, "ca.pem"))
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(data, "keys", "admin.secret"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	req, err := http.NewRequestWithContext(ctx, method, announced.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	res, err := client.Do(req)
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "NoServer", Message: "the server at " + announced.URL + " does not answer", Cause: err.Error(),
			Mend: "start it: moorage serve --data " + data,
		}
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return json.NewDecoder(res.Body).Decode(answer)
	}
	var failed struct{ Error workspace.Problem }
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&failed); err != nil || failed.Error.Message == "" {
		return fmt.Errorf("%s: the server answered %s", path, res.Status)
	}
	return &failed.Error
}
