package computetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
)

// Objects is a compute.Objects in memory. The zero value is empty and ready; it is safe for concurrent use.
type Objects struct {
	mu      sync.Mutex
	objects map[snapshot.Hash][]byte
	reads   int
}

var _ compute.Objects = (*Objects)(nil)

// Node is a file, a folder or a link of a tree to be added.
type Node struct {
	Text   string // of a file
	Exec   bool
	Folder bool   // an empty folder
	Link   string // target of a symbolic link
}

// AddFile keeps the content of a file.
func (o *Objects) AddFile(content []byte) snapshot.Hash {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.objects == nil {
		o.objects = map[snapshot.Hash][]byte{}
	}
	h := snapshot.Sum(content)
	o.objects[h] = bytes.Clone(content)
	return h
}

// AddTree keeps a folder, given by slash-separated paths, and gives the hash of its root. Folders on the way are made.
func (o *Objects) AddTree(nodes map[string]Node) snapshot.Hash {
	var t snapshot.Tree
	below := map[string]map[string]Node{}
	for name, n := range nodes {
		head, rest, deep := strings.Cut(path.Clean(name), "/")
		if deep || n.Folder {
			if below[head] == nil {
				below[head] = map[string]Node{}
			}
			if deep {
				below[head][rest] = n
			}
			continue
		}
		e := snapshot.Entry{Name: head, Kind: snapshot.File, Exec: n.Exec, Size: int64(len(n.Text))}
		if n.Link != "" {
			e = snapshot.Entry{Name: head, Kind: snapshot.Link, Target: n.Link}
		} else {
			e.Hash = o.AddFile([]byte(n.Text))
		}
		t = append(t, e)
	}
	for name, in := range below {
		t = append(t, snapshot.Entry{Name: name, Kind: snapshot.Folder, Hash: o.AddTree(in)})
	}
	slices.SortFunc(t, func(a, b snapshot.Entry) int { return strings.Compare(a.Name, b.Name) })
	return o.AddFile(t.Encode())
}

// Open reads an object.
func (o *Objects) Open(_ context.Context, hash snapshot.Hash) (io.ReadCloser, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.objects[hash]
	if !ok {
		return nil, 0, fmt.Errorf("computetest: object %.12s: %w", hash, fs.ErrNotExist)
	}
	o.reads++
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// Reads tells how often an object was opened.
func (o *Objects) Reads() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reads
}

// Home is a compute.Outputs in memory. It is safe for concurrent use.
type Home struct {
	mu    sync.Mutex
	files map[string]homeFile
	puts  int
}

type homeFile struct {
	compute.File
	content []byte
}

var _ compute.Outputs = (*Home)(nil)

// Want asks for what is not here yet, or is here in another version.
func (h *Home) Want(output string, f compute.File) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	have, ok := h.files[output+":"+f.Path]
	return !ok || have.Size != f.Size || have.Modified != f.Modified
}

// Put keeps a file.
func (h *Home) Put(_ context.Context, output string, f compute.File, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(b)) != f.Size {
		return fmt.Errorf("computetest: %s:%s: %d bytes came and %d were told", output, f.Path, len(b), f.Size)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files == nil {
		h.files = map[string]homeFile{}
	}
	h.files[output+":"+f.Path] = homeFile{f, b}
	h.puts++
	return nil
}

// Text gives the content of a file that came home.
func (h *Home) Text(output, path string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.files[output+":"+path]
	return string(f.content), ok
}

// Names lists what came home, as "output:path", in order.
func (h *Home) Names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for name := range h.files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Puts tells how many files came so far, counting each version.
func (h *Home) Puts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.puts
}

func (h *Home) file(output, path string) (compute.File, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.files[output+":"+path]
	return f.File, ok
}
