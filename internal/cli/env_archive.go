package cli

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// writeArchive writes, as a tar, the part of a server's data folder by which clients reach it: unpacked elsewhere, it serves
// as --data there, with the server's address from there as --url. It holds the administrator's secret.
func writeArchive(w io.Writer, data string) error {
	data, _, err := dataFolder(data)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, path := range []string{serverFile(data), caFile(data), secretFile(data)} {
		b, err := os.ReadFile(path)
		if err != nil {
			return &workspace.Problem{
				Class: workspace.Denied, Code: "DataNotReadable", Target: path, Message: path + " cannot be read", Cause: short(err), Mend: "run this as the user who runs the server",
			}
		}
		name, err := filepath.Rel(data, path)
		if err != nil {
			return fmt.Errorf("cli: archive: %w", err)
		}
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(b))})
		if err == nil {
			_, err = t.Write(b)
		}
		if err != nil {
			return fmt.Errorf("cli: archive: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("cli: archive: %w", err)
	}
	return nil
}
