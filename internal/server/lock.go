package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// lockData makes the data folder, private to this login, and locks it against a second server. The lock ends with the
// process, however it ends.
func lockData(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "DataFolder", Message: "the data folder " + dir + " cannot be made", Cause: err.Error(), Mend: "name one that this login may write: --data DIR"}
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "DataFolder", Message: "the data folder " + dir + " cannot be used", Cause: err.Error(), Mend: "give this login the right to write there"}
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		b, _ := os.ReadFile(f.Name()) // only for the message
		holder := strings.TrimSpace(string(b))
		return nil, errors.Join(f.Close(), &workspace.Problem{
			Class: workspace.Conflict, Code: "DataFolderInUse", Message: "another server holds the data folder " + dir,
			Cause: "its process id is " + holder, Mend: "stop it, or name another folder: --data DIR",
		})
	}
	if err != nil {
		return nil, errors.Join(f.Close(), fmt.Errorf("server: lock %s: %w", f.Name(), err))
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(f.Close(), err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(f.Close(), err)
	}
	return f, nil
}
