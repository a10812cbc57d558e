// Package secret keeps what must not be read: values sealed under the master key, the master key itself, and the
// certificates of the server. A sealed value is opened only on its way into a driver. The package stores nothing; who
// keeps sealed bytes hands in functions. It is used by control (computes' secrets) and server (keys, certificates).
package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Box seals and opens values with XChaCha20-Poly1305 under a key derived from the master key. It is safe for
// concurrent use.
type Box struct {
	key [32]byte
	id  [4]byte // tells which master key a value was sealed with
}

// format is the first byte of a sealed value.
const format = 1

// NewBox makes a box from a master key of 32 random bytes.
func NewBox(master [32]byte) (*Box, error) {
	key, err := hkdf.Key(sha256.New, master[:], nil, "moorage sealed values", 32)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	id, err := hkdf.Key(sha256.New, master[:], nil, "moorage master key id", 4)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	b := &Box{}
	copy(b.key[:], key)
	copy(b.id[:], id)
	return b, nil
}

// Seal encrypts plain. The context says what the value is for ("compute/ID"); it opens only under the same one, so
// that a value cannot be moved to another place.
func (b *Box) Seal(plain []byte, context string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(b.key[:])
	if err != nil {
		return nil, fmt.Errorf("secret: seal: %w", err)
	}
	out := make([]byte, 0, 1+len(b.id)+aead.NonceSize()+len(plain)+aead.Overhead())
	out = append(out, format)
	out = append(out, b.id[:]...)
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("secret: seal: %w", err)
	}
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plain, []byte(context)), nil
}

// Open decrypts what Seal made. A Problem WrongMasterKey says that the value belongs to another master key; other bytes
// are ErrDamaged.
func (b *Box) Open(sealed []byte, context string) ([]byte, error) {
	const head = 1 + 4
	if len(sealed) < head+chacha20poly1305.NonceSizeX || sealed[0] != format {
		return nil, ErrDamaged
	}
	if [4]byte(sealed[1:head]) != b.id {
		return nil, &workspace.Problem{
			Code: "WrongMasterKey", Message: "a stored secret was sealed with another master key",
			Mend: "start the server with the master key that belongs to this data; without it, detach and attach the computes again",
		}
	}
	aead, err := chacha20poly1305.NewX(b.key[:])
	if err != nil {
		return nil, fmt.Errorf("secret: open: %w", err)
	}
	nonce := sealed[head : head+chacha20poly1305.NonceSizeX]
	plain, err := aead.Open(nil, nonce, sealed[head+chacha20poly1305.NonceSizeX:], []byte(context))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// ErrDamaged is a sealed value that was changed, cut short, or sealed for another context.
var ErrDamaged = errors.New("secret: the sealed value is damaged or meant for another place")
