//go:build !linux

package snapshot

import "io/fs"

// statOf has only what every platform tells.
func statOf(info fs.FileInfo) stat {
	return stat{size: info.Size(), modified: info.ModTime().UnixNano()}
}
