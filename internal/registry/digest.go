package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Digest names bytes by their hash: sha256:HEX, or sha512:HEX.
type Digest string

// ParseDigest checks the form of a digest. Algorithms that are not served are refused.
func ParseDigest(text string) (Digest, error) {
	algorithm, digits, _ := strings.Cut(text, ":")
	size := map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}[algorithm]
	if b, err := hex.DecodeString(digits); err != nil || len(b) != size || size == 0 || digits != strings.ToLower(digits) {
		return "", &workspace.Problem{
			Class: workspace.Invalid, Code: "DigestInvalid", Target: "digest", Message: fmt.Sprintf("%.100q is not a digest that is served here", text),
			Mend: "use sha256: or sha512: with lower-case hexadecimal digits",
		}
	}
	return Digest(text), nil
}

// sum starts the hash that the digest is of.
func (d Digest) sum() hash.Hash {
	if strings.HasPrefix(string(d), "sha512:") {
		return sha512.New()
	}
	return sha256.New()
}

// of tells whether a hash that was started by sum came to this digest.
func (d Digest) of(h hash.Hash) bool {
	_, digits, _ := strings.Cut(string(d), ":")
	return hex.EncodeToString(h.Sum(nil)) == digits
}

// DigestOf is the digest of bytes in memory, by SHA-256.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// wrong says that bytes do not have the digest that they should.
func (d Digest) wrong() error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "DigestInvalid", Target: string(d), Message: "the bytes that came do not have the digest " + string(d),
		Cause: "the transfer was damaged, or another digest was meant", Mend: "send them again",
	}
}
