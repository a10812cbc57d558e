package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
)

// cached is what is remembered of one file.
type cached struct {
	stat stat
	hash Hash
}

// cacheHead begins a cache file; another format has another head, and is then forgotten.
const cacheHead = "moorage hashes 1\n"

// maxCache bounds what is read of a cache file, in bytes; a million files take about 200 MB.
const maxCache = 512 << 20

// readCache reads what remember wrote. What cannot be read or is damaged is no cache at all, and costs only time.
func readCache(at string) map[string]cached {
	if at == "" {
		return nil
	}
	if info, err := os.Stat(at); err != nil || info.Size() > maxCache {
		return nil
	}
	text, err := os.ReadFile(at)
	if err != nil {
		return nil
	}
	return decodeCache(text)
}

func decodeCache(text []byte) map[string]cached {
	body, ok := bytes.CutPrefix(text, []byte(cacheHead))
	if !ok || len(body) < sha256.Size {
		return nil
	}
	body, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil
	}
	known := make(map[string]cached, len(body)/128)
	for len(body) > 0 {
		var numbers [6]uint64 // length of the name, size, times, device, inode
		for i := range numbers {
			v, n := binary.Uvarint(body)
			if n <= 0 {
				return nil
			}
			numbers[i], body = v, body[n:]
		}
		if numbers[0] > uint64(len(body)) || uint64(len(body))-numbers[0] < sha256.Size {
			return nil
		}
		name := string(body[:numbers[0]])
		body = body[numbers[0]:]
		known[name] = cached{
			stat: stat{size: int64(numbers[1]), modified: int64(numbers[2]), changed: int64(numbers[3]), device: numbers[4], inode: numbers[5]},
			hash: Hash(hex.EncodeToString(body[:sha256.Size])),
		}
		body = body[sha256.Size:]
	}
	return known
}

func encodeCache(files []*file) []byte {
	b := []byte(cacheHead)
	for _, f := range files {
		for _, n := range []uint64{uint64(len(f.name)), uint64(f.stat.size), uint64(f.stat.modified), uint64(f.stat.changed), f.stat.device, f.stat.inode} {
			b = binary.AppendUvarint(b, n)
		}
		b = append(b, f.name...)
		sum, err := hex.DecodeString(string(f.hash))
		if err != nil {
			panic("snapshot: a hash of our own making is not hexadecimal: " + err.Error())
		}
		b = append(b, sum...)
	}
	sum := sha256.Sum256(b[len(cacheHead):])
	return append(b, sum[:]...)
}

// remember writes the cache if it would say anything new. It is a help, so that it cannot be written is no error.
func (w *walk) remember(at string) {
	if at == "" {
		return
	}
	var old []*file
	for _, f := range w.files {
		if max(f.stat.modified, f.stat.changed) < w.fresh {
			old = append(old, f)
		}
	}
	same := len(old) == len(w.known)
	for _, f := range old {
		same = same && w.known[f.name] == (cached{f.stat, f.hash})
	}
	if same {
		return
	}
	if os.MkdirAll(filepath.Dir(at), 0o700) != nil {
		return
	}
	temp, err := os.CreateTemp(filepath.Dir(at), ".hashes.*")
	if err != nil {
		return
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(encodeCache(old))
	if e := temp.Close(); err == nil && e == nil {
		_ = os.Rename(temp.Name(), at)
	}
}
