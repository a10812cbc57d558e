package blob

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func FuzzReadBlockList(f *testing.F) {
	f.Add(`<?xml version="1.0"?><BlockList><Latest>YQ==</Latest><Uncommitted>Yg==</Uncommitted></BlockList>`)
	f.Add(`<BlockList><Committed>YQ==</Committed></BlockList>`)
	f.Add(`<!DOCTYPE x [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readBlockList(strings.NewReader(text))
		if err != nil {
			if _, ok := errors.AsType[*workspace.Problem](err); !ok {
				t.Fatalf("not a problem: %v", err)
			}
			return
		}
		for _, b := range list {
			if at, err := staged("c/x/y", b.ID); err == nil && !strings.HasPrefix(at, "staged/") {
				t.Fatalf("block %q would lie at %q", b.ID, at)
			}
		}
	})
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-4", int64(11))
	f.Add("bytes=-0", int64(0))
	f.Add("bytes=999999999999999999-", int64(5))
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Range", text)
		p, err := rangeOf(r, size)
		if err == nil && (p.from < 0 || p.length < 0 || p.from+p.length > size) {
			t.Fatalf("%q of %d gives %+v", text, size, p)
		}
	})
}
