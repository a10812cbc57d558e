package environment

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
)

// Command gives the words by which the server itself runs uv, with the settings that pip has on this machine: what uv is
// to do follows them. home is a folder for uv's cache, which begins anew every month. A Problem UvUnavailable says why uv cannot
// be had.
func (u *UvTool) Command(ctx context.Context, home string) ([]string, error) {
	if _, err := u.Get(ctx, runtime.GOOS, runtime.GOARCH); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	script := filepath.Join(home, "uv.sh")
	if err := os.WriteFile(script+".new", []byte(uvScript), 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(script+".new", script); err != nil { // another build may be reading it
		return nil, err
	}
	platform := wheelPlatforms[runtime.GOOS+"/"+runtime.GOARCH] // Get knew it
	program := filepath.Join(u.cfg.Dir, "uv-"+u.cfg.Version+"-"+platform.name)
	if _, err := os.Stat(program); err != nil { // the object is there, and the folder was emptied
		if err := u.fetch(ctx, platform, program); err != nil {
			return nil, u.unavailable(platform, err)
		}
	}
	// The script keeps the cache beside the folder that it is given.
	return []string{"sh", script, filepath.Join(home, "build"), program}, nil
}
