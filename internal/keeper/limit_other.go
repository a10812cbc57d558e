//go:build !linux

package keeper

import "os"

// drop cannot be done here; the file is cut instead.
func drop(*os.File, int64, int64) bool { return false }
