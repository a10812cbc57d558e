package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Python is what an image has of Python, as its layers tell.
type Python struct {
	Path    string `json:"path"`    // the program itself, without links: "/usr/local/bin/python3.12"
	Version string `json:"version"` // "3.12.4"; the last number is 0 where it cannot be told
	Arch    string `json:"arch"`    // "x86_64", "aarch64"
	// System and the two numbers say for which C library wheels must be: manylinux 2.36, musllinux 1.2.
	System string `json:"system"`
	Major  int    `json:"major"`
	Minor  int    `json:"minor"`
}

// minor is the version's first two numbers: "3.12".
func (p Python) minor() string {
	parts := strings.SplitN(p.Version, ".", 3)
	return strings.Join(parts[:2], ".")
}

// maxProgram bounds what is read of one program or library of an image, in bytes; the largest Python has 40 MB.
const maxProgram = 128 << 20

var (
	pythonProgram = regexp.MustCompile(`^python(?:(3)(?:\.(\d+))?)?$`)
	pythonLibrary = regexp.MustCompile(`^libpython3\.(\d+)\.so(?:\.1\.0)?$`)
	cLibrary      = regexp.MustCompile(`^(?:libc\.so\.6|libc-2\.\d+\.so)$`)
	glibcVersion  = regexp.MustCompile(`release version 2\.(\d+)`)
)

// node is a file or link of an image that matters to finding its Python.
type node struct {
	link    string // of a symbolic link
	patch   string // "3.12.4", found in the program or library
	machine elf.Machine
	loader  string // the path of the program's loader
	glibc   int    // the second number of its version
}

// view is an image's file system, as far as it matters here: programs named python, C libraries, and all symbolic links.
type view map[string]node

// findPython looks through the layers of an image for the Python that its PATH finds first. A Problem NoPython if there is none.
func findPython(img Image, of string) (Python, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return Python{}, err
	}
	all, err := img.Layers()
	if err != nil {
		return Python{}, err
	}
	files := view{}
	for _, l := range all {
		if err := files.lay(l); err != nil {
			return Python{}, err
		}
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, v := range config.Config.Env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			search = value
		}
	}
	p, err := files.python(strings.Split(search, ":"))
	if err != nil {
		return Python{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "NoPython", Target: of, Message: "packages cannot be laid on image " + of, Cause: err.Error(),
			Mend: "choose an image with Python 3 in its PATH, or build one from a Dockerfile",
		}
	}
	return p, nil
}

// lay lays one layer over what is below it.
func (v view) lay(l v1.Layer) error {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // to the end, where its digest is checked
			return err
		}
		if err != nil {
			return err
		}
		if err := v.entry(h, t); err != nil {
			return err
		}
	}
}

// entry takes up one entry of a layer, by the rules of OCI's layers: whiteouts remove, others replace.
func (v view) entry(h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		v.remove(strings.TrimSuffix(dir, "/"), false)
		return nil
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		v.remove(dir+gone, true)
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		delete(v, name) // over a link, or nothing
	case tar.TypeSymlink:
		v[name] = node{link: h.Linkname}
	case tar.TypeLink:
		delete(v, name)
		if n, ok := v[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]; ok {
			v[name] = n
		}
	case tar.TypeReg:
		delete(v, name)
		n, ok, err := look(base, r)
		if err != nil || !ok {
			return err
		}
		v[name] = n
	}
	return nil
}

// remove takes away what is below a folder, and the thing itself if it is meant too.
func (v view) remove(name string, itself bool) {
	if itself {
		delete(v, name)
	}
	for each := range v {
		if name == "" || strings.HasPrefix(each, name+"/") {
			delete(v, each)
		}
	}
}

// look reads what matters of a file, by its name.
func look(base string, r io.Reader) (n node, ok bool, err error) {
	program, library := pythonProgram.FindStringSubmatch(base), pythonLibrary.FindStringSubmatch(base)
	if program == nil && library == nil && !cLibrary.MatchString(base) {
		return node{}, false, nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxProgram))
	if err != nil {
		return node{}, false, err
	}
	switch {
	case library != nil:
		n.patch = patchVersion(b, library[1])
	case program != nil && program[2] != "":
		n.patch = patchVersion(b, program[2])
	case program == nil:
		if m := glibcVersion.FindSubmatch(b); m != nil {
			n.glibc, _ = strconv.Atoi(string(m[1])) // digits
		}
	}
	if f, err := elf.NewFile(bytes.NewReader(b)); err == nil { // a script is none
		n.machine = f.Machine
		if s := f.Section(".interp"); s != nil {
			if text, err := s.Data(); err == nil {
				n.loader = strings.TrimRight(string(text), "\x00")
			}
		}
	}
	return n, true, nil
}

// patchVersion finds "3.12.4" in the bytes of a Python 3.12.
func patchVersion(b []byte, minor string) string {
	prefix := []byte("3." + minor + ".")
	for {
		i := bytes.Index(b, prefix)
		if i < 0 {
			return ""
		}
		before := byte(0)
		if i > 0 {
			before = b[i-1]
		}
		b = b[i+len(prefix):]
		digits := 0
		for digits < len(b) && digits < 3 && b[digits] >= '0' && b[digits] <= '9' {
			digits++
		}
		alone := before != '.' && (before < '0' || before > '9')
		if alone && digits > 0 && digits < 3 && (digits == len(b) || b[digits] == 0 || b[digits] == ' ' || b[digits] == '+') {
			return string(prefix) + string(b[:digits])
		}
	}
}

// resolve follows symbolic links, as if the image's root were the machine's. It is false for a loop.
func (v view) resolve(name string) (string, bool) {
	left := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	at, hops := "", 0
	for len(left) > 0 {
		next := path.Join(at, left[0])
		left = left[1:]
		n, known := v[next]
		if !known || n.link == "" {
			at = next
			continue
		}
		if hops++; hops > 40 {
			return "", false
		}
		target := n.link
		if !path.IsAbs(target) {
			target = path.Join("/", at, target)
		}
		left = append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), left...)
		at = ""
	}
	return at, true
}

func (v view) python(search []string) (Python, error) {
	for _, dir := range search {
		for _, name := range []string{"python3", "python"} {
			at, ok := v.resolve(path.Join(dir, name))
			if n, known := v[at]; ok && known && n.link == "" {
				if p, err := v.describe(at, n); err == nil {
					return p, nil
				}
			}
		}
	}
	// Some have no name without a number.
	for _, dir := range search {
		for minor := 30; minor >= 6; minor-- {
			at, ok := v.resolve(path.Join(dir, fmt.Sprintf("python3.%d", minor)))
			if n, known := v[at]; ok && known && n.link == "" {
				return v.describe(at, n)
			}
		}
	}
	return Python{}, errors.New("no Python 3 is found in its PATH " + strings.Join(search, ":"))
}

// describe tells what a program is. Its version is in its name.
func (v view) describe(at string, n node) (Python, error) {
	m := pythonProgram.FindStringSubmatch(path.Base(at))
	if m == nil || m[2] == "" {
		return Python{}, errors.New("the version of /" + at + " cannot be told")
	}
	p := Python{Path: "/" + at, Version: "3." + m[2] + ".0"}
	patch := n.patch
	for _, lib := range []string{"libpython3." + m[2] + ".so.1.0", "libpython3." + m[2] + ".so"} {
		if patch != "" {
			break
		}
		if where, ok := v.resolve(path.Join("/", path.Dir(path.Dir(at)), "lib", lib)); ok {
			patch = v[where].patch
		}
	}
	if patch != "" {
		p.Version = patch
	}
	switch n.machine {
	case elf.EM_X86_64:
		p.Arch = "x86_64"
	case elf.EM_AARCH64:
		p.Arch = "aarch64"
	default:
		return Python{}, fmt.Errorf("/%s is a program for %v", at, n.machine)
	}
	return v.library(p, n)
}

// library tells the C library by the loader that the program names.
func (v view) library(p Python, n node) (Python, error) {
	if strings.HasPrefix(path.Base(n.loader), "ld-musl-") {
		p.System, p.Major, p.Minor = "musllinux", 1, 2
		return p, nil
	}
	p.System, p.Major = "manylinux", 2
	for name, each := range v {
		if cLibrary.MatchString(path.Base(name)) && each.glibc > p.Minor {
			p.Minor = each.glibc
		}
	}
	if p.Minor == 0 {
		return Python{}, errors.New("the version of its C library cannot be told")
	}
	return p, nil
}
