package environment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// simpleIndex is a Python package index as PEP 503 (HTML) and PEP 691 (JSON) describe it.
type simpleIndex struct {
	client *http.Client
	base   string
}

// indexFile is a file that an index offers.
type indexFile struct {
	Name   string
	URL    *url.URL
	SHA256 string // hexadecimal
}

// The largest page and file read from an index, in bytes.
const (
	maxIndexPage = 64 << 20
	maxIndexFile = 256 << 20
)

// find gives the first file of a project that match accepts. A file without a SHA-256 is not taken.
func (s simpleIndex) find(ctx context.Context, project string, match func(name string) bool) (indexFile, error) {
	page := strings.TrimSuffix(s.base, "/") + "/" + project + "/"
	resp, err := s.get(ctx, page, "application/vnd.pypi.simple.v1+json, text/html;q=0.5")
	if err != nil {
		return indexFile{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxIndexPage))
	if err != nil {
		return indexFile{}, fmt.Errorf("index: %s: %w", redacted(page), err)
	}
	parse := parseSimpleHTML
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		parse = parseSimpleJSON
	}
	files, err := parse(body)
	if err != nil {
		return indexFile{}, fmt.Errorf("index: %s: %w", redacted(page), err)
	}
	for _, f := range files {
		if !match(f.Name) {
			continue
		}
		if len(f.SHA256) != 64 {
			return indexFile{}, fmt.Errorf("index: %s states no sha256 for %s", redacted(page), f.Name)
		}
		// A relative address is one below the page that was really read, with the credentials of the one asked for.
		absolute := resp.Request.URL.ResolveReference(f.URL)
		if absolute.User == nil && absolute.Host == resp.Request.URL.Host {
			absolute.User = resp.Request.URL.User
		}
		f.URL = absolute
		return f, nil
	}
	return indexFile{}, fmt.Errorf("index: %s has no such file among %d", redacted(page), len(files))
}

// download writes a file to dest, which must not exist, and compares it with its hash.
func (s simpleIndex) download(ctx context.Context, f indexFile, dest string) error {
	resp, err := s.get(ctx, f.URL.String(), "*/*")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, h), io.LimitReader(resp.Body, maxIndexFile))
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("index: %s: %w", f.Name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, f.SHA256) {
		return fmt.Errorf("index: %s has the sha256 %s, and the index states %s", f.Name, got, f.SHA256)
	}
	return nil
}

func (s simpleIndex) get(ctx context.Context, address, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("index: its address is not understood")
	}
	req.Header.Set("Accept", accept)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err) // a url.Error hides credentials
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("index: %s answered %s", redacted(address), resp.Status)
	}
	return resp, nil
}

func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "its address"
	}
	return u.Redacted()
}

func parseSimpleJSON(body []byte) ([]indexFile, error) {
	var page struct {
		Files []struct {
			Filename string            `json:"filename"`
			URL      string            `json:"url"`
			Hashes   map[string]string `json:"hashes"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("the answer is not JSON of an index: %w", err)
	}
	var files []indexFile
	for _, f := range page.Files {
		if u, err := url.Parse(f.URL); err == nil {
			files = append(files, indexFile{Name: f.Filename, URL: u, SHA256: f.Hashes["sha256"]})
		}
	}
	return files, nil
}

var anchor = regexp.MustCompile(`(?is)<a\s[^>]*?href\s*=\s*["']([^"']+)["'][^>]*>([^<]*)</a>`)

func parseSimpleHTML(body []byte) ([]indexFile, error) {
	var files []indexFile
	for _, m := range anchor.FindAllSubmatch(body, -1) {
		u, err := url.Parse(html.UnescapeString(string(bytes.TrimSpace(m[1]))))
		if err != nil {
			continue
		}
		sum, _ := strings.CutPrefix(u.Fragment, "sha256=")
		u.Fragment = ""
		files = append(files, indexFile{Name: html.UnescapeString(string(bytes.TrimSpace(m[2]))), URL: u, SHA256: sum})
	}
	if len(files) == 0 {
		return nil, errors.New("the answer is not the page of a package")
	}
	return files, nil
}

// indexClient trusts the machine's roots, those of PIP_CERT, and ca.
func indexClient(ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	extra := ca
	if file := os.Getenv("PIP_CERT"); file != "" {
		if b, err := os.ReadFile(file); err == nil {
			extra += "\n" + string(b)
		}
	}
	if strings.TrimSpace(extra) != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(extra)) {
			return nil, &workspace.Problem{
				Class: workspace.Invalid, Code: "InvalidPackageIndex", Target: "index",
				Message: "the certificates for the package index cannot be read", Mend: "give a PEM file with at least one certificate",
			}
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Minute}, nil
}

// configuredIndex is the index that uv or pip are told to use on this machine; "" if none is.
func configuredIndex(getenv func(string) string, readFile func(string) ([]byte, error)) string {
	for _, name := range []string{"UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	files := []string{getenv("PIP_CONFIG_FILE")}
	if home := getenv("HOME"); home != "" {
		files = append(files, home+"/.config/pip/pip.conf", home+"/.pip/pip.conf")
	}
	for _, file := range append(files, "/etc/pip.conf") {
		if file == "" {
			continue
		}
		if b, err := readFile(file); err == nil {
			if v := pipSetting(string(b), "index-url"); v != "" {
				return v
			}
		}
	}
	return ""
}

// pipSetting is the value of a key in the sections global and install of a pip.conf.
func pipSetting(conf, key string) string {
	inside := false
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[global]" || line == "[install]"
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if inside && ok && strings.ReplaceAll(strings.TrimSpace(name), "_", "-") == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
