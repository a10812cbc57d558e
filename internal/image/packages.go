package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Packages are Python packages for an image, resolved for its own Python and C library. Only wheels are taken: nothing is
// compiled, and no code of a package runs on the server.
type Packages struct {
	// Requirements are lines of a requirements file as uv takes it.
	Requirements []string
	// Flags are further arguments of `uv pip install`, e.g. "--prerelease", "allow".
	Flags []string
	// Python is the version that is asked for, "3.11", or clauses, ">=3.10,<3.13"; "" is any. An image has the Python that it
	// has: with Exact another one is a Problem, else the log says so.
	Python string
	Exact  bool
}

func (p Packages) key() string {
	return hash(hash(p.Requirements...), hash(p.Flags...), p.Python, strconv.FormatBool(p.Exact))
}

// home is the folder in an image for the packages of a layer. Each layer has its own: one laid on an image that has such a
// folder already takes nothing from it.
func home(key string) string { return "/opt/moorage/" + key[:16] }

// maxWords bounds what is kept of a program's words for a problem, in bytes.
const maxWords = 4 << 10

// install has uv resolve and unpack the packages below folder, as they will lie in home in the image.
func (m *Maker) install(ctx context.Context, p Packages, python Python, home, folder, scratch string, log io.Writer) error {
	if m.Uv == nil {
		return noUv(errors.New("none was given to it"))
	}
	uv, err := m.Uv(ctx)
	if err != nil {
		return noUv(err)
	}
	standIn, err := writeStandIn(python, home, scratch)
	if err != nil {
		return fmt.Errorf("image: packages: %w", err)
	}
	requirements := filepath.Join(scratch, "requirements.txt")
	if err := os.WriteFile(requirements, []byte(strings.Join(p.Requirements, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("image: packages: %w", err)
	}
	vars, err := m.Network.variables(scratch)
	if err != nil {
		return fmt.Errorf("image: packages: %w", err)
	}
	args := slices.Concat(uv[1:], []string{
		"pip", "install", "--python", standIn, "--prefix", folder, "--only-binary", ":all:", "--no-python-downloads", "--no-progress", "--color", "never", "-r", requirements,
	}, p.Flags)
	cmd := command(ctx, uv[0], args...)
	cmd.Dir = scratch
	cmd.Env = append(append(ownVariables(), "UV_PYTHON_DOWNLOADS=never"), vars...)
	words := &tail{limit: maxWords}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(log, words), io.MultiWriter(log, words)
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return packagesProblem(words.String(), err)
	}
	return nil
}

// command is a program whose whole process group ends with ctx.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// ownVariables is the server's environment without what is Moorage's own, which may be secret, and without what would name a
// Python of the server.
func ownVariables() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "MOORAGE_") || strings.HasPrefix(name, "PYTHON") || name == "VIRTUAL_ENV" || name == "CONDA_PREFIX" || strings.HasPrefix(name, "UV_PYTHON")
	})
}

func noUv(err error) error {
	return fmt.Errorf("image: %w", errors.Join(&workspace.Problem{
		Class: workspace.Unavailable, Code: "UvUnavailable", Target: "environment", Message: "packages cannot be laid on an image, because the server has no uv",
		Cause: err.Error(), Mend: "set the server's package index to one that it can reach",
	}, err))
}

// packagesProblem is a failure of uv in its own words.
func packagesProblem(words string, err error) error {
	if i := strings.Index(words, "error:"); i >= 0 {
		words = words[i:]
	}
	words = strings.TrimSpace(words)
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "PackagesUnavailable", Target: "environment", Message: "the packages for the image cannot be had",
		Cause: cmp.Or(words, err.Error()), Mend: "correct the requirements; a package that exists only as source needs an image built from a Dockerfile",
	}
	for _, sign := range []string{"error sending request", "dns error", "Connection refused", "timed out", "status code 5", "No space left"} {
		if strings.Contains(words, sign) {
			p.Class, p.Mend = workspace.Unavailable, "see that the package index can be reached from the server, then try again"
		}
	}
	return fmt.Errorf("image: %w", errors.Join(p, err))
}

// tail keeps the last bytes that were written.
type tail struct {
	limit int
	b     []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.ToValidUTF8(t.b, nil)) }

// writeStandIn writes a program that answers uv's question about a Python as that of the image would: the server need have
// none itself, and uv chooses wheels for the image. uv asks by running the program once and reads JSON from it.
func writeStandIn(p Python, home, scratch string) (string, error) {
	answer, err := json.Marshal(p.answer(home))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, "python")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "python"+p.minor())
	script := "#!/bin/sh\ncat <<'END'\n" + string(answer) + "\nEND\n"
	return program, os.WriteFile(program, []byte(script), 0o700)
}

// answer is what uv's own script would tell of the Python.
func (p Python) answer(home string) map[string]any {
	minor := p.minor()
	site, prefix := home+"/lib/python"+minor+"/site-packages", path.Dir(path.Dir(p.Path))
	return map[string]any{
		"result": "success",
		"markers": map[string]string{
			"implementation_name": "cpython", "implementation_version": p.Version, "os_name": "posix", "platform_machine": p.Arch,
			"platform_python_implementation": "CPython", "platform_release": "", "platform_system": "Linux", "platform_version": "",
			"python_full_version": p.Version, "python_version": minor, "sys_platform": "linux",
		},
		"sys_base_prefix": prefix, "sys_base_exec_prefix": prefix, "sys_base_executable": p.Path,
		"sys_prefix": home, "sys_executable": home + "/bin/python", "sys_path": []string{}, "site_packages": []string{site},
		"stdlib": prefix + "/lib/python" + minor, "extension_suffixes": []string{".so"}, "standalone": false,
		"scheme":     map[string]string{"platlib": site, "purelib": site, "include": home + "/include/python" + minor, "scripts": home + "/bin", "data": home},
		"virtualenv": map[string]string{"purelib": "lib/python" + minor + "/site-packages", "platlib": "lib/python" + minor + "/site-packages", "include": "include/site/python" + minor, "scripts": "bin", "data": ""},
		"os":         map[string]any{"name": p.System, "major": p.Major, "minor": p.Minor}, "arch": p.Arch,
		"cpu_info":             map[string]any{"detected": map[string]string{"kind": "flags", "flags": ""}},
		"manylinux_compatible": true, "gil_disabled": false, "debug_enabled": false, "pointer_size": "64",
	}
}

// writeHome writes the installed folder as a virtual environment of the image's Python, which sees that Python's own packages
// behind its own.
func writeHome(ctx context.Context, t *tar.Writer, folder, home string, python Python) error {
	if err := folders(t, home); err != nil {
		return err
	}
	below := strings.TrimPrefix(home, "/")
	config := fmt.Sprintf("home = %s\ninclude-system-site-packages = true\nversion = %s\n", path.Dir(python.Path), python.Version)
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: below + "/pyvenv.cfg", Size: int64(len(config)), Mode: 0o644, ModTime: epoch})
	if err == nil {
		_, err = io.WriteString(t, config)
	}
	if err == nil {
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: below + "/bin/", Mode: 0o755, ModTime: epoch})
	}
	for _, name := range []string{"python", "python3", "python" + python.minor()} {
		if err == nil {
			err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: below + "/bin/" + name, Linkname: python.Path, Mode: 0o777, ModTime: epoch})
		}
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." || name == "bin" || name == ".lock" {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return add(t, root, name, below+"/"+name, d)
	})
}
