package registry

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The parts in which an upload's bytes are kept. A part is on disk before the next begins, so a crash of the server
// loses less than one; what a broken connection brought is kept whole.
const (
	partSize = 64 << 20
	maxParts = 10_000
)

// Begin starts an upload.
func (g *Registry) Begin(ctx context.Context, in store.Repository) (store.RegistryUpload, error) {
	state, err := saved(sha256.New())
	if err != nil {
		return store.RegistryUpload{}, err
	}
	u := store.RegistryUpload{Repository: in, Hash: state}
	err = g.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		u.ID, err = tx.InsertRegistryUpload(ctx, u)
		return err
	})
	return u, err
}

// Upload tells how far an upload is. Not there: a Problem UploadUnknown.
func (g *Registry) Upload(ctx context.Context, in store.Repository, id string) (store.RegistryUpload, error) {
	u, err := g.cfg.Store.RegistryUpload(ctx, in, id)
	return u, unknownUpload(err, id)
}

func unknownUpload(err error, id string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "UploadUnknown", Target: "upload", Message: fmt.Sprintf("there is no upload %.60q", id),
		Cause: "it was finished, cancelled, or left for more than a day", Mend: "begin another",
	}
}

// Append adds what r gives to an upload. When r fails, what came before is kept, and the client may go on from there.
func (g *Registry) Append(ctx context.Context, u store.RegistryUpload, r io.Reader) (store.RegistryUpload, error) {
	sum, err := restored(u.Hash)
	if err != nil {
		return u, err
	}
	for in := bufio.NewReaderSize(&source{r: r}, 64<<10); ; {
		switch _, err := in.Peek(1); {
		case errors.Is(err, io.EOF):
			return u, nil
		case err != nil:
			return u, brokeOff(err)
		case u.Parts == maxParts:
			return u, &workspace.Problem{
				Class: workspace.TooLarge, Code: "TooManyParts", Message: fmt.Sprintf("the upload came in more than %d parts", maxParts), Mend: "send larger ones, or the whole in one",
			}
		}
		if u, err = g.store(ctx, u, in, sum); err != nil {
			return u, err
		}
	}
}

// brokeOff is a body that ended too early.
func brokeOff(err error) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "UploadBrokeOff", Message: "the upload broke off; what came is kept for a day", Cause: err.Error(), Mend: "ask how far it is and go on from there",
	}
}

// store keeps the next part and writes down that it is there.
func (g *Registry) store(ctx context.Context, u store.RegistryUpload, in io.Reader, sum hash.Hash) (store.RegistryUpload, error) {
	place := g.place()
	bytes := &run{r: in, left: g.part, sum: sum}
	// What came is kept although the request is over.
	ctx = context.WithoutCancel(ctx)
	if _, err := g.cfg.Blob.Put(ctx, place, bytes, -1, blob.Meta{}); err != nil {
		return u, err
	}
	state, err := saved(sum)
	if err == nil {
		err = g.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			return tx.AddRegistryPart(ctx, u, store.RegistryPart{Place: place, Size: g.part - bytes.left}, state)
		})
	}
	if err != nil {
		if errors.Is(err, store.ErrNotFound) { // else the row may be there after all, and the sweep looks
			g.drop(ctx, []string{place})
		}
		return u, unknownUpload(err, u.ID)
	}
	u.Size, u.Parts, u.Hash = u.Size+g.part-bytes.left, u.Parts+1, state
	return u, nil
}

// source fails always once it failed: net/http says "unexpected EOF" once, and then EOF.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (n int, err error) {
	if s.err == nil {
		n, s.err = s.r.Read(p)
	}
	return n, s.err
}

// run gives up to left bytes and hashes them. It ends, rather than fail, where its source fails, so that what came is
// stored; the source fails again when it is asked for more.
type run struct {
	r    io.Reader
	left int64
	sum  hash.Hash
}

func (r *run) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.sum.Write(p[:n])
	r.left -= int64(n)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// Finish makes an upload the blob of a digest. Bytes that do not have it end the upload with a Problem DigestInvalid.
func (g *Registry) Finish(ctx context.Context, u store.RegistryUpload, digest Digest) (store.RegistryBlob, error) {
	ok, err := g.has(ctx, u, digest)
	if err != nil {
		return store.RegistryBlob{}, err
	}
	if !ok {
		return store.RegistryBlob{}, errors.Join(digest.wrong(), g.Cancel(ctx, u.Repository, u.ID))
	}
	var needless []string
	err = g.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		needless, err = tx.FinishRegistryUpload(ctx, u, string(digest), g.keep)
		return err
	})
	if err != nil {
		return store.RegistryBlob{}, unknownUpload(err, u.ID)
	}
	g.drop(ctx, needless)
	return store.RegistryBlob{Digest: string(digest), Size: u.Size}, nil
}

// has tells whether the bytes of an upload have a digest. SHA-256 was taken as they came; another has to read them again.
func (g *Registry) has(ctx context.Context, u store.RegistryUpload, digest Digest) (bool, error) {
	sum := digest.sum()
	if sum.Size() == sha256.Size {
		sum, err := restored(u.Hash)
		return err == nil && digest.of(sum), err
	}
	r, err := g.Open(ctx, store.RegistryBlob{Owner: u.ID, Size: u.Size}, 0, -1)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(sum, r)
	return digest.of(sum), errors.Join(err, r.Close())
}

// Cancel ends an upload and removes its bytes.
func (g *Registry) Cancel(ctx context.Context, in store.Repository, id string) error {
	var places []string
	err := g.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		places, err = tx.DeleteRegistryUpload(ctx, in, id)
		return err
	})
	if err != nil {
		return unknownUpload(err, id)
	}
	g.drop(ctx, places)
	return nil
}

// saved is the state of a hash, by which another server may go on with it.
func saved(h hash.Hash) ([]byte, error) {
	m, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("registry: the hash has no state to save")
	}
	return m.MarshalBinary()
}

func restored(state []byte) (hash.Hash, error) {
	h := sha256.New()
	m, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.New("registry: the hash has no state to restore")
	}
	if err := m.UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("registry: state of an upload: %w", err)
	}
	return h, nil
}
