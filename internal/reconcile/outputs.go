package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// outputs brings a job's files home: bytes to the blob store, then a row that says which version is there.
type outputs struct {
	store    *store.Store
	blob     blob.Store
	job      string
	prefixes map[string]string // by output
	home     map[string]store.JobFile
}

var _ compute.Outputs = (*outputs)(nil)

func (s step) collect(ctx context.Context, target compute.Target, row *store.Job) error {
	var spec workspace.JobSpec
	if err := json.Unmarshal(row.Spec, &spec); err != nil {
		return fmt.Errorf("reconcile: job %s: spec: %w", row.ID, err)
	}
	base := tracking.ArtifactPrefix(row.WorkspaceID, row.Name)
	out := &outputs{
		store: s.hold.cfg.Store, blob: s.hold.cfg.Blob, job: row.ID,
		prefixes: map[string]string{
			compute.OutputsFolder: base + "outputs/",
			compute.LogsFolder:    base + "logs/",
		},
		home: map[string]store.JobFile{},
	}
	for _, o := range spec.Outputs {
		out.prefixes[o.Name] = o.Prefix
	}
	files, err := s.hold.cfg.Store.JobFiles(ctx, row.ID)
	if err != nil {
		return err
	}
	for _, f := range files {
		out.home[f.Output+"\x00"+f.Path] = f
	}
	return target.Collect(ctx, s.handle(), out)
}

// Want tells whether this version of a file is not home yet: size or time differ from the row.
func (o *outputs) Want(output string, f compute.File) bool {
	h, known := o.home[output+"\x00"+f.Path]
	return !known || h.Size != f.Size || h.Modified != f.Modified
}

// Put stores one file and its row.
func (o *outputs) Put(ctx context.Context, output string, f compute.File, r io.Reader) error {
	prefix, known := o.prefixes[output]
	if !known {
		return fmt.Errorf("reconcile: the target sent a file of output %q, which the job does not have: %w", output, compute.ErrInvalid)
	}
	if f.Path != "" && (path.Clean("/"+f.Path) != "/"+f.Path || f.Path == ".") {
		return fmt.Errorf("reconcile: the target sent a file %.200q, which leaves its folder: %w", f.Path, compute.ErrInvalid)
	}
	name := storable(prefix, f.Path)
	if f.Path == "" { // an output that is one file
		name = path.Join(prefix, output)
	}
	if _, err := o.blob.Put(ctx, name, r, f.Size, blob.Meta{}); err != nil {
		return err
	}
	row := store.JobFile{JobID: o.job, Output: output, Path: f.Path, Size: f.Size, Mode: f.Mode, Modified: f.Modified, Place: name}
	return o.store.Write(ctx, func(tx *store.Tx) error { return tx.PutJobFile(ctx, row) })
}

// storable is the name under which a file is kept. Jobs may write names that no blob can have; their bytes are escaped as
// in URLs, and names that are too long end in a hash. The row keeps the true path.
func storable(prefix, file string) string {
	name := path.Join(prefix, file)
	if blob.CheckName(name) == nil {
		return name
	}
	var b strings.Builder
	for _, c := range []byte(file) {
		if c < ' ' || c >= 0x7f || c == '\\' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	name = path.Join(prefix, b.String())
	if len(name) > blob.MaxName {
		sum := sha256.Sum256([]byte(file))
		name = path.Join(prefix, "long-names", hex.EncodeToString(sum[:]))
	}
	return name
}
