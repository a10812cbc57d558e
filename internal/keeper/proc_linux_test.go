package keeper

import "testing"

func FuzzStat(f *testing.F) {
	f.Add([]byte("12 (a) b) c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0"))
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = parseStat(1, in) })
}
