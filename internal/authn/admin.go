package authn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// AdminSecret reads the administrator's secret from a file, which it makes at the first start with mode 0600. A file
// that others can read is refused.
func AdminSecret(path string, random io.Reader) (workspace.Secret, error) {
	secret, err := readAdmin(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	b := make([]byte, 32)
	if _, err := io.ReadFull(random, b); err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".admin-*") // mode 0600
	if err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = io.WriteString(tmp, "mo_"+base64.RawURLEncoding.EncodeToString(b)+"\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	// Link, unlike rename, leaves the file of another process that was faster.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	return readAdmin(path)
}

func readAdmin(path string) (workspace.Secret, error) {
	info, err := os.Stat(path)
	if err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return workspace.Secret{}, &workspace.Problem{
			Class: workspace.Denied, Code: "SecretReadableByOthers", Target: path,
			Message: fmt.Sprintf("the administrator's secret %s can be read by others", path),
			Cause:   "its mode is " + info.Mode().Perm().String(),
			Mend:    "chmod 600 " + path,
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if len(text) < 20 {
		return workspace.Secret{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "SecretTooShort", Target: path,
			Message: fmt.Sprintf("the administrator's secret in %s is too short", path),
			Mend:    "remove the file and start the server again, or write at least 20 characters",
		}
	}
	return workspace.NewSecret(text), nil
}
