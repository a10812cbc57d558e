package environment

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// wheelPlatform is a platform in the words of Python's wheels.
type wheelPlatform struct {
	name   string // ours, for file names and messages
	pip    string // for pip's --platform
	prefix string // of the tag; on Linux the static program, which needs no C library
	suffix string
}

var wheelPlatforms = map[string]wheelPlatform{
	"linux/amd64":  {name: "linux-amd64", pip: "musllinux_1_1_x86_64", prefix: "musllinux_", suffix: "_x86_64"},
	"linux/arm64":  {name: "linux-arm64", pip: "musllinux_1_1_aarch64", prefix: "musllinux_", suffix: "_aarch64"},
	"darwin/amd64": {name: "darwin-amd64", pip: "macosx_10_12_x86_64", prefix: "macosx_", suffix: "_x86_64"},
	"darwin/arm64": {name: "darwin-arm64", pip: "macosx_11_0_arm64", prefix: "macosx_", suffix: "_arm64"},
}

// matches tells whether a file of an index is the wheel of a release for this platform.
func (w wheelPlatform) matches(file, version string) bool {
	tags, ok := strings.CutPrefix(file, "uv-"+version+"-py3-none-")
	if !ok {
		return false
	}
	tags, ok = strings.CutSuffix(tags, ".whl")
	return ok && slices.ContainsFunc(strings.Split(tags, "."), func(tag string) bool {
		return strings.HasPrefix(tag, w.prefix) && strings.HasSuffix(tag, w.suffix)
	})
}

// The largest program unpacked, in bytes; uv has 45 MB.
const maxProgram = 256 << 20

// unpackUv writes the program in a wheel to path.
func unpackUv(wheel, dest string) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("wheel: %w", err)
	}
	defer z.Close()
	for _, f := range z.File {
		if ok, _ := path.Match("uv-*.data/scripts/uv", f.Name); !ok {
			continue
		}
		if f.UncompressedSize64 > maxProgram {
			return fmt.Errorf("wheel: its program has %d bytes, which is too large", f.UncompressedSize64)
		}
		return unpackFile(f, dest)
	}
	return errors.New("wheel: it holds no program uv")
}

func unpackFile(f *zip.File, dest string) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("wheel: %w", err)
	}
	defer r.Close()
	w, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return fmt.Errorf("wheel: %w", err)
	}
	_, err = io.Copy(w, io.LimitReader(r, maxProgram))
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("wheel: %w", err)
	}
	return nil
}

// pipDownload lets the server's own pip fetch the wheel: with its index, credentials, certificates and proxies. pip
// compares the file with the hash that the index states.
func pipDownload(ctx context.Context, platform wheelPlatform, version, dir string) (string, error) {
	args := []string{
		"-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check",
		"--platform", platform.pip, "--dest", dir, "uv==" + version,
	}
	if out, err := exec.CommandContext(ctx, "python3", args...).CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("no package index is set on the server, and it has no python3 whose pip would know one")
		}
		return "", fmt.Errorf("pip: %w: %s", err, lastLine(string(out)))
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "uv-*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", errors.New("pip: it brought no wheel")
	}
	return wheels[0], nil
}

// lastLine is the last line of a program's output that says something, preferring one that begins with ERROR.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, l := range slices.Backward(lines) {
		if strings.HasPrefix(l, "ERROR") {
			return strings.TrimSpace(l)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
