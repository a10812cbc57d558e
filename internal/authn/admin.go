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
// that others can read is refused. Where the operator gives the secret as text, the file is made to hold that, because
// commands on this machine read it there.
func AdminSecret(text, path string, random io.Reader) (workspace.Secret, error) {
	if text != "" {
		return givenAdmin(text, path)
	}
	secret, err := readAdmin(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	b := make([]byte, 32)
	if _, err := io.ReadFull(random, b); err != nil {
		return workspace.Secret{}, fmt.Errorf("authn: administrator's secret: %w", err)
	}
	err = writeAdmin("mo_"+base64.RawURLEncoding.EncodeToString(b), path, func(tmp string) error {
		// Link, unlike rename, leaves the file of another process that was faster.
		if err := os.Link(tmp, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return workspace.Secret{}, err
	}
	return readAdmin(path)
}

func givenAdmin(text, path string) (workspace.Secret, error) {
	given, err := parseAdmin(text, "the variable MOORAGE_ADMIN_SECRET")
	if err != nil {
		return given, err
	}
	if kept, err := readAdmin(path); err == nil && kept.Reveal() == given.Reveal() {
		return given, nil
	}
	return given, writeAdmin(given.Reveal(), path, func(tmp string) error { return os.Rename(tmp, path) })
}

// writeAdmin writes the secret to a file beside path, which place then puts there.
func writeAdmin(secret, path string, place func(tmp string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("authn: administrator's secret: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".admin-*") // mode 0600
	if err != nil {
		return fmt.Errorf("authn: administrator's secret: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = io.WriteString(tmp, secret+"\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("authn: administrator's secret: %w", err)
	}
	if err := place(tmp.Name()); err != nil {
		return fmt.Errorf("authn: administrator's secret: %w", err)
	}
	return nil
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
	return parseAdmin(string(b), path)
}

// parseAdmin takes the text of a file or a variable, which source names.
func parseAdmin(text, source string) (workspace.Secret, error) {
	text = strings.TrimSpace(text)
	if len(text) < 20 {
		return workspace.Secret{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "SecretTooShort", Target: source,
			Message: fmt.Sprintf("the administrator's secret in %s is too short", source),
			Mend:    "give it at least 20 characters, or remove it and start the server again, which makes one",
		}
	}
	return workspace.NewSecret(text), nil
}
