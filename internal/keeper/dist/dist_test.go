package dist

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
)

func TestThisPlatformAlwaysHasAKeeper(t *testing.T) {
	var p Programs
	k, err := p.Program(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil || n != k.Size || hex.EncodeToString(sum.Sum(nil)) != string(k.Hash) {
		t.Errorf("got %d bytes of %d, hash %x of %s: %v", n, k.Size, sum.Sum(nil), k.Hash, err)
	}
}

func TestUnknownPlatformIsNamed(t *testing.T) {
	var p Programs
	if _, err := p.Program("plan9", "mips"); !errors.Is(err, compute.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
