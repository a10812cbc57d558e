// Command release packs what the Makefile builds, the same bytes for the same input on every machine. It is run by make
// alone.
//
//	release compress SOURCE DEST          zstd
//	release archive DEST FOLDER FILE…     tar.gz of files, below one folder
//	release image DEST NAME ARCH PROGRAM  a container image that holds one static program
//	release sums FILE…                    sha256sum's lines
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "compress":
		return write(args[2], func(w io.Writer) error { return compress(w, args[1]) })
	case len(args) >= 4 && args[0] == "archive":
		return write(args[1], func(w io.Writer) error { return archive(w, args[2], args[3:]) })
	case len(args) == 5 && args[0] == "image":
		return write(args[1], func(w io.Writer) error { return image(w, args[2], args[3], args[4]) })
	case len(args) >= 2 && args[0] == "sums":
		return sums(os.Stdout, args[1:])
	}
	return errors.New("usage: release compress SOURCE DEST | archive DEST FOLDER FILE… | image DEST NAME ARCH PROGRAM | sums FILE…")
}

// write makes the file whole or not at all.
func write(dest string, fill func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(dest), ".release-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(fill(f), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), dest)
}

func compress(w io.Writer, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	_, err = io.Copy(z, f)
	return errors.Join(err, z.Close())
}

func archive(w io.Writer, folder string, files []string) error {
	gz, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(gz)
	for _, file := range files {
		if err := add(t, path.Join(folder, filepath.Base(file)), file); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), gz.Close())
}

func add(t *tar.Writer, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	// No owner and no time: they differ between machines.
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: mode, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

func sums(w io.Writer, files []string) error {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%x  %s\n", h.Sum(nil), file); err != nil {
			return err
		}
	}
	return nil
}
