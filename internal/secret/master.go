package secret

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

// Master reads the master key: from text, if it is not empty (the variable MOORAGE_MASTER_KEY), else from a file, which
// it makes at the first start with mode 0600. A file that others can read is refused.
func Master(text, file string, random io.Reader) (key [32]byte, err error) {
	if text != "" {
		return parseMaster(text, "the variable MOORAGE_MASTER_KEY")
	}
	key, err = readMaster(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := io.ReadFull(random, key[:]); err != nil {
		return key, fmt.Errorf("secret: master key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return key, fmt.Errorf("secret: master key: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readMaster(file) // another process was faster
	}
	if err != nil {
		return key, fmt.Errorf("secret: master key: %w", err)
	}
	_, err = io.WriteString(f, base64.StdEncoding.EncodeToString(key[:])+"\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return key, fmt.Errorf("secret: master key: %w", errors.Join(err, os.Remove(file)))
	}
	return key, nil
}

func readMaster(file string) (key [32]byte, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return key, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key, &workspace.Problem{
			Class: workspace.Invalid, Code: "MasterKeyReadable", Message: "the master key file " + file + " can be read by others",
			Cause: "its mode is " + info.Mode().Perm().String(), Mend: "chmod 600 " + file,
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return key, err
	}
	return parseMaster(string(b), file)
}

func parseMaster(text, source string) (key [32]byte, err error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(key) {
		return key, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidMasterKey", Message: source + " holds no master key",
			Cause: "it must be 32 bytes in base64", Mend: "restore it from where you keep it; a new one is made by: openssl rand -base64 32",
		}
	}
	copy(key[:], b)
	return key, nil
}
