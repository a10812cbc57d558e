package keeper

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/yamux"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// collect lists a job's files batch by batch and sends what the client chooses, see files.go.
func (a *agent) collect(st *yamux.Stream, r request) {
	c := &collecting{st: st, out: bufio.NewWriterSize(st, 64<<10), buf: make([]byte, dataFrame), roots: map[string]*os.Root{}}
	defer c.close()
	if err := c.run(a.root, r.Key); err != nil && c.broken == nil {
		_ = c.frame(listing{Fault: asFault(err)})
		_ = c.out.Flush()
	}
}

type collecting struct {
	st     *yamux.Stream
	out    *bufio.Writer
	buf    []byte
	roots  map[string]*os.Root // of each output that is a folder
	batch  []File
	broken error // the stream's; nothing more can be said
}

func (c *collecting) close() {
	for _, r := range c.roots {
		_ = r.Close()
	}
}

func (c *collecting) run(r root, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	dir := r.job(key)
	var spec specRecord
	if err := readRecord(dir, fileSpec, &spec); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !exists(filepath.Join(dir, fileCanceled)) {
			return fault(NotFound, workspace.Problem{
				Class: workspace.NotFound, Code: "JobNotFound", Message: "the target does not know the job, so it has no files of it", Target: key,
			})
		}
	}
	for _, o := range spec.Job.Outputs {
		if !plainOutput(o.Name) {
			continue // Submit refused it; it can only be an old record
		}
		if err := c.folder(o.Name, filepath.Join(dir, dirOutputs, o.Name), o.Folder); err != nil {
			return err
		}
	}
	for _, name := range []string{"outputs", "logs"} {
		if err := c.folder(name, filepath.Join(dir, dirCode, name), true); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	return errors.Join(c.frame(listing{End: true}), c.out.Flush())
}

// folder lists what is in an output. Links are followed only to regular files inside the same output.
func (c *collecting) folder(output, at string, folder bool) error {
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if !folder && info.Mode().IsRegular() {
			root, err := os.OpenRoot(filepath.Dir(at))
			if err != nil {
				return err
			}
			c.roots[output] = root
			return c.add(toListed(output, "", info))
		}
		return nil
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	c.roots[output] = root
	return c.walk(root, output, ".")
}

func (c *collecting) walk(root *os.Root, output, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return nil // gone meanwhile, or not readable even for its owner
	}
	entries, err := d.ReadDir(-1)
	_ = d.Close()
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			if err := c.walk(root, output, name); err != nil {
				return err
			}
			continue
		}
		info, err := root.Stat(name) // refuses a link that leads out
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := c.add(toListed(output, name, info)); err != nil {
			return err
		}
	}
	return nil
}

func toListed(output, name string, info fs.FileInfo) File {
	return File{Output: output, Path: name, Size: info.Size(), Mode: uint32(info.Mode().Perm()), Modified: info.ModTime().UnixNano()}
}

func (c *collecting) add(f File) error {
	c.batch = append(c.batch, f)
	if len(c.batch) < listingSize {
		return nil
	}
	return c.flush()
}

// flush offers the batch and sends what is chosen of it.
func (c *collecting) flush() error {
	if len(c.batch) == 0 {
		return nil
	}
	batch := c.batch
	c.batch = nil
	if err := c.frame(listing{Files: batch}); err != nil {
		return err
	}
	if c.broken = c.out.Flush(); c.broken != nil {
		return c.broken
	}
	var ch choice
	if c.broken = readFrame(c.st, &ch); c.broken != nil {
		return c.broken
	}
	for _, i := range ch.Want {
		if i < 0 || i >= len(batch) {
			return errors.New("keeper: a choice of a file that was not offered")
		}
		if err := c.send(batch[i]); err != nil {
			return err
		}
	}
	if c.broken = c.out.Flush(); c.broken != nil {
		return c.broken
	}
	return nil
}

// send streams a file as it is now, up to the size that it has when it is opened.
func (c *collecting) send(f File) error {
	root, name := c.roots[f.Output], f.Path
	if name == "" {
		name = f.Output
	}
	file, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return c.frame(fileHead{})
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return c.frame(fileHead{})
	}
	now := toListed(f.Output, f.Path, info)
	if err := c.frame(fileHead{File: &now}); err != nil {
		return err
	}
	tail := fileTail{Whole: true}
	for left := now.Size; left > 0; {
		n, err := file.Read(c.buf[:min(int64(len(c.buf)), left)])
		if n > 0 {
			if c.broken = writeData(c.out, c.buf[:n]); c.broken != nil {
				return c.broken
			}
			left -= int64(n)
		}
		if err != nil && left > 0 {
			tail = fileTail{Why: err.Error()}
			if err == io.EOF {
				tail.Why = "the file became shorter while it was read"
			}
			break
		}
	}
	if c.broken = writeData(c.out, nil); c.broken != nil {
		return c.broken
	}
	return c.frame(tail)
}

func (c *collecting) frame(v any) error {
	c.broken = writeFrame(c.out, v)
	return c.broken
}
