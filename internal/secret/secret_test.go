package secret

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func box(t *testing.T, fill byte) *Box {
	t.Helper()
	b, err := NewBox([32]byte(bytes.Repeat([]byte{fill}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealedValueOpensOnlyInItsPlace(t *testing.T) {
	b := box(t, 1)
	sealed, err := b.Seal([]byte("hunter2"), "compute/a")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("hunter2")) {
		t.Error("the value can be read")
	}
	if plain, err := b.Open(sealed, "compute/a"); err != nil || string(plain) != "hunter2" {
		t.Errorf("got %q, %v", plain, err)
	}
	if _, err := b.Open(sealed, "compute/b"); !errors.Is(err, ErrDamaged) {
		t.Errorf("another place: %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := b.Open(sealed, "compute/a"); !errors.Is(err, ErrDamaged) {
		t.Errorf("changed: %v", err)
	}
}

func TestAnotherMasterKeyIsSaid(t *testing.T) {
	sealed, err := box(t, 1).Seal([]byte("x"), "c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box(t, 2).Open(sealed, "c"); !errors.Is(err, &workspace.Problem{Code: "WrongMasterKey"}) {
		t.Errorf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	b, err := NewBox([32]byte{})
	if err != nil {
		f.Fatal(err)
	}
	// The same in every process that fuzzes.
	good, err := hex.DecodeString("01fcac34f6c85c3617e001ff1cd6b97457bbe542904ee901c5f9562262b8e9d34d98a7a2c23342a3caccaab3545e")
	if err != nil {
		f.Fatal(err)
	}
	if plain, err := b.Open(good, "c"); err != nil || string(plain) != "x" {
		f.Fatalf("a value sealed by an earlier release: %q, %v", plain, err)
	}
	f.Add([]byte(nil))
	f.Add([]byte{1, 2, 3})
	f.Add(good)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := b.Open(sealed, "c"); err == nil && !bytes.Equal(sealed, good) {
			t.Errorf("opened %q from bytes that nobody sealed", plain)
		}
	})
}

func TestMasterKeyIsMadeOnceAndPrivate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys", "master.key")
	first, err := Master("", file, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, err := Master("", file, rand.Reader); err != nil || again != first {
		t.Errorf("another key at the second start: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Master("", file, rand.Reader); !errors.Is(err, &workspace.Problem{Code: "MasterKeyReadable"}) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := Master("short", file, rand.Reader); !errors.Is(err, &workspace.Problem{Code: "InvalidMasterKey"}) {
		t.Errorf("short: %v", err)
	}
}

func TestCertificateIsTrustedThroughTheAuthorityAlone(t *testing.T) {
	now := time.Now()
	made, err := NewAuthority("test", now)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := made.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	a, err := ReadAuthority(kept)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.Issue([]string{"moorage.example", "192.0.2.7"}, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Certificate())
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "moorage.example", "192.0.2.7"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "other.example"}); err == nil {
		t.Error("other.example is trusted")
	}
}
