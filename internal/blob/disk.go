package blob

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Disk keeps blobs in a folder. The segments of a name are folders, the last one a file; endings that no segment can
// have tell the three sorts of entry apart, so a name may be another's prefix:
//
//	NAME      a folder      NAME$     the bytes      NAME$m    the meta, if there is any
//
// Characters that file systems treat specially are escaped; a segment that is too long for a file name is cut into
// pieces "PIECE+", each a folder.
type Disk struct {
	root    *os.Root
	scratch string   // folder of files being written
	lock    *os.File // of that folder
	counter atomic.Int64
	stamp   atomic.Int64 // the newest time given to a blob, in nanoseconds
}

var _ Store = (*Disk)(nil)

const (
	places   = "names" // the blobs
	bytesEnd = "$"
	metaEnd  = "$m"
	pieceEnd = "+"
	maxPiece = 200
)

// NewDisk opens a folder, making it if need be, and removes what ended processes left half written. Several processes
// may have it open.
func NewDisk(dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: disk: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blob: disk: %w", err)
	}
	d := &Disk{root: root}
	if err = root.MkdirAll(places, 0o700); err == nil {
		d.scratch, d.lock, err = openScratch(root)
	}
	if err != nil {
		return nil, fmt.Errorf("blob: disk: %w", errors.Join(err, root.Close()))
	}
	return d, nil
}

// Close gives the folder back.
func (d *Disk) Close() error {
	return errors.Join(d.root.RemoveAll(d.scratch), d.lock.Close(), d.root.Close())
}

// file is where the bytes of a blob lie.
func file(name string) string { return places + "/" + escape(name) + bytesEnd }

func escape(name string) string {
	var b strings.Builder
	for i, segment := range strings.Split(name, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		piece := 0
		for _, c := range []byte(segment) {
			if piece >= maxPiece {
				b.WriteString(pieceEnd + "/")
				piece = 0
			}
			switch c {
			case '$', '+', '%', '<', '>', ':', '"', '|', '?', '*':
				fmt.Fprintf(&b, "%%%02x", c)
				piece += 3
			default:
				b.WriteByte(c)
				piece++
			}
		}
	}
	return b.String()
}

func unescape(segment string) (string, bool) {
	if !strings.Contains(segment, "%") {
		return segment, true
	}
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		if segment[i] != '%' {
			b.WriteByte(segment[i])
			continue
		}
		if i+2 >= len(segment) {
			return "", false
		}
		c, err := hex.DecodeString(segment[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(c[0])
		i += 2
	}
	return b.String(), true
}

// Put writes a file apart, flushes it and renames it into place.
func (d *Disk) Put(ctx context.Context, name string, r io.Reader, size int64, meta Meta) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	tmp := d.scratch + "/" + strconv.FormatInt(d.counter.Add(1), 36)
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, full(name, err)
	}
	n, err := io.Copy(f, within(ctx, r))
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("blob: %s: got %d bytes of %d: %w", name, n, size, io.ErrUnexpectedEOF)
	}
	var info Info
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		info, err = d.place(name, tmp, meta)
	}
	if err != nil {
		_ = d.root.Remove(tmp) // what stays is removed at the next start
		return Info{}, full(name, err)
	}
	return info, nil
}

// full makes a full disk a Problem and leaves other errors as they are.
func full(name string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "DiskFull", Target: name, Message: "the server has no room to store " + name,
			Cause: err.Error(), Mend: "make room in its data folder; what waits is tried again",
		}
	}
	return err
}

// within is a reader that ends a long copy when the request that it is for has ended.
func within(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// Get opens the file; it stays whole for this reader when it is replaced or deleted meanwhile.
func (d *Disk) Get(_ context.Context, name string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := CheckName(name); err != nil {
		return nil, Info{}, err
	}
	f, err := d.root.Open(file(name))
	if err != nil {
		return nil, Info{}, absent(name, err)
	}
	s, err := f.Stat()
	if err != nil {
		return nil, Info{}, errors.Join(err, f.Close())
	}
	info := d.info(name, s)
	if length < 0 || offset+length > info.Size {
		length = max(info.Size-offset, 0)
	}
	return &section{Reader: io.NewSectionReader(f, offset, length), f: f}, info, nil
}

type section struct {
	io.Reader
	f *os.File
}

func (s *section) Close() error { return s.f.Close() }

func absent(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("blob: %s: %w", name, fs.ErrNotExist)
	}
	return err
}

// Stat looks at the file.
func (d *Disk) Stat(_ context.Context, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	s, err := d.root.Stat(file(name))
	if err != nil {
		return Info{}, absent(name, err)
	}
	return d.info(name, s), nil
}

func infoOf(name string, s fs.FileInfo) Info {
	return Info{
		Name: name, Size: s.Size(), Modified: s.ModTime().UTC().Truncate(time.Microsecond),
		ETag: strconv.FormatInt(s.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(s.Size(), 36),
	}
}

func (d *Disk) info(name string, s fs.FileInfo) Info {
	i := infoOf(name, s)
	b, err := d.root.ReadFile(strings.TrimSuffix(file(name), bytesEnd) + metaEnd)
	if err == nil {
		_ = json.Unmarshal(b, &i.Meta) // our own writing; a torn one is no meta
	}
	return i
}

// Delete removes file and meta, and the folders that are empty now.
func (d *Disk) Delete(_ context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	at := file(name)
	if err := d.root.Remove(at); err != nil {
		return absent(name, err)
	}
	if err := d.root.Remove(strings.TrimSuffix(at, bytesEnd) + metaEnd); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := path.Dir(at); dir != places; dir = path.Dir(dir) {
		if d.root.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}

// List walks only the folders that can hold names of the page.
func (d *Disk) List(ctx context.Context, prefix, delimiter, after string, limit int) (Page, error) {
	if limit <= 0 {
		limit = 1000
	}
	l := lister{d: d, prefix: prefix, fold: delimiter == "/", after: after, limit: limit}
	folder := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder = prefix[:i]
		if CheckName(folder) != nil {
			return Page{}, nil // nothing can have such a name
		}
	}
	if err := l.walk(ctx, folder); err != nil && !errors.Is(err, errPageFull) {
		return Page{}, err
	}
	return l.page, nil
}

var errPageFull = errors.New("blob: the page is full")

type lister struct {
	d      *Disk
	prefix string
	fold   bool
	after  string
	limit  int
	page   Page
	last   string
}

// child is an entry of a folder: the name it leads to, and whether it is a blob.
type child struct {
	name string // whole; with a slash at the end for a folder
	blob bool
}

func (l *lister) walk(ctx context.Context, folder string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	children, err := l.children(folder)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := l.visit(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// children lists a folder in byte order of the names that its entries lead to.
func (l *lister) children(folder string) ([]child, error) {
	at := places
	base := ""
	if folder != "" {
		at, base = places+"/"+escape(folder), folder+"/"
	}
	var children []child
	err := l.read(at, base, &children)
	slices.SortFunc(children, func(a, b child) int { return strings.Compare(a.name, b.name) })
	return children, err
}

// read adds the entries of one folder on disk, going into pieces of long segments.
func (l *lister) read(at, base string, children *[]child) error {
	f, err := l.d.root.Open(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.IsDir() && strings.HasSuffix(name, pieceEnd):
			part, ok := unescape(strings.TrimSuffix(name, pieceEnd))
			if ok {
				if err := l.read(at+"/"+name, base+part, children); err != nil {
					return err
				}
			}
		case e.IsDir():
			if part, ok := unescape(name); ok {
				*children = append(*children, child{name: base + part + "/"})
			}
		case strings.HasSuffix(name, bytesEnd):
			if part, ok := unescape(strings.TrimSuffix(name, bytesEnd)); ok {
				*children = append(*children, child{name: base + part, blob: true})
			}
		}
	}
	return nil
}

func (l *lister) visit(ctx context.Context, c child) error {
	inside := strings.HasPrefix(c.name, l.prefix)
	if !inside && (c.blob || !strings.HasPrefix(l.prefix, c.name)) {
		return nil
	}
	if !c.blob {
		folded := l.fold && inside && len(c.name) > len(l.prefix)
		switch {
		case folded && c.name > l.after && !strings.HasPrefix(l.after, c.name):
			if there, err := l.holds(strings.TrimSuffix(c.name, "/")); err != nil || !there {
				return err
			}
			return l.add(c.name, func() { l.page.Prefixes = append(l.page.Prefixes, c.name) })
		case folded, c.name <= l.after && !strings.HasPrefix(l.after, c.name):
			return nil
		}
		return l.walk(ctx, strings.TrimSuffix(c.name, "/"))
	}
	if c.name <= l.after {
		return nil
	}
	info, err := l.d.Stat(ctx, c.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted since
	}
	if err != nil {
		return err
	}
	return l.add(c.name, func() { l.page.Blobs = append(l.page.Blobs, info) })
}

// holds tells whether there is a blob below a folder: one that was just made, or left by a crash, has none.
func (l *lister) holds(folder string) (bool, error) {
	children, err := l.children(folder)
	if err != nil {
		return false, err
	}
	for _, c := range children {
		if c.blob {
			return true, nil
		}
	}
	for _, c := range children {
		if there, err := l.holds(strings.TrimSuffix(c.name, "/")); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// add takes one more into the page, or finds that there is more than fits.
func (l *lister) add(name string, take func()) error {
	if len(l.page.Blobs)+len(l.page.Prefixes) == l.limit {
		l.page.Next = l.last
		return errPageFull
	}
	take()
	l.last = name
	return nil
}
