package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The CA bundle of a job, the machine's roots and the server's CA, is made once per root and linked into the job's folder.
// Its name, in ca/ below the root, comes from the server's CA, from which file the roots are and when it was written, and
// from the boot, because a bundle is not flushed. So other roots make another bundle; a job keeps the one it began with.

// caAge is how long a bundle stays. A job that comes later makes it again.
const caAge = 7 * 24 * time.Hour

func (r root) bundles() string { return r.file("ca") }

// rootFiles are where systems keep the bundle of their roots.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// placeCA makes the file to, the bundle for a job of a login.
func placeCA(r root, boot string, login []string, ca, to string) error {
	source, info := systemRoots(login)
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%s\n", boot, ca)
	if info != nil {
		_, _ = fmt.Fprintf(sum, "%s %d %d", source, info.Size(), info.ModTime().UnixNano())
	}
	made := filepath.Join(r.bundles(), hex.EncodeToString(sum.Sum(nil)))
	_ = os.Remove(to) // of an attempt that was killed
	if os.Link(made, to) == nil {
		return nil
	}
	var bundle []byte
	if info != nil {
		b, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		bundle = append(b, '\n')
	}
	bundle = append(bundle, ca...)
	if err := os.WriteFile(to, bundle, 0o400); err != nil {
		return err
	}
	// For the jobs to come. Without hard links each has its own.
	if os.MkdirAll(r.bundles(), 0o700) == nil {
		_ = os.Link(to, made)
	}
	return nil
}

// systemRoots finds the machine's roots: those that the login names, or the system's. A nil info: there are none.
func systemRoots(login []string) (string, fs.FileInfo) {
	for _, path := range append([]string{lookup(login, "SSL_CERT_FILE")}, rootFiles...) {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return path, info
		}
	}
	return "", nil
}

// tidyCA removes bundles of long ago. Jobs that have one keep it.
func tidyCA(r root) {
	entries, _ := os.ReadDir(r.bundles())
	for _, e := range entries {
		if path := filepath.Join(r.bundles(), e.Name()); time.Since(modified(path)) > caAge {
			_ = os.Remove(path)
		}
	}
}
