// Package blobtest is the exam of package blob: what every place that keeps blobs must do. A place's own test is a few
// lines.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Run takes the exam. open gives an empty place that is closed with the test.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range []struct {
		promise string
		test    func(t *testing.T, s blob.Store)
	}{
		{"GetGivesWhatPutKept", getGivesWhatPutKept},
		{"RangesReadWhatTheyName", ranges},
		{"MissingBlobIsErrNotExist", missing},
		{"PutReplacesBytesAndMeta", replaces},
		{"ReaderKeepsTheVersionItOpened", readerKeepsVersion},
		{"FailedPutKeepsNothing", failedPut},
		{"UncleanNamesAreRefusedByEveryVerb", uncleanNames},
		{"EveryCleanNameIsKept", cleanNames},
		{"ListFoldsAndPagesInByteOrder", listModel},
		{"DeletedBlobLeavesNoPrefix", deletedPrefix},
		{"ReadersNeverSeeAPart", neverAPart},
		{"PutsAndDeletesSideBySideLoseNothing", sideBySide},
	} {
		t.Run(c.promise, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(t testing.TB, s blob.Store, name, text string) blob.Info {
	t.Helper()
	info, err := s.Put(t.Context(), name, strings.NewReader(text), int64(len(text)), blob.Meta{})
	if err != nil {
		t.Fatalf("put %q: %v", name, err)
	}
	return info
}

func get(ctx context.Context, s blob.Store, name string) (string, blob.Info, error) {
	r, info, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return "", info, err
	}
	b, err := io.ReadAll(r)
	return string(b), info, errors.Join(err, r.Close())
}

func getGivesWhatPutKept(t *testing.T, s blob.Store) {
	ctx := t.Context()
	meta := blob.Meta{ContentType: "text/plain; charset=utf-8", User: map[string]string{"a": "b", "ü": "ä"}, Blocks: []blob.Block{{ID: "YQ==", Size: 3}}, Append: true, Appended: 2}
	for _, size := range []int64{int64(len("hello")), -1} {
		put, err := s.Put(ctx, "dir/a.txt", strings.NewReader("hello"), size, meta)
		if err != nil {
			t.Fatal(err)
		}
		text, got, err := get(ctx, s, "dir/a.txt")
		if err != nil || text != "hello" {
			t.Fatalf("%q, %v", text, err)
		}
		stat, err := s.Stat(ctx, "dir/a.txt")
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.List(ctx, "", "", "", 0)
		if err != nil || len(page.Blobs) != 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		for what, info := range map[string]blob.Info{"put": put, "get": got, "stat": stat, "list": page.Blobs[0]} {
			if info.Name != "dir/a.txt" || info.Size != 5 || info.ETag == "" || info.ETag != put.ETag || info.Modified.IsZero() || !info.Modified.Equal(put.Modified) {
				t.Errorf("%s tells %+v", what, info)
			}
			if d := cmp.Diff(meta, info.Meta); d != "" && what != "list" {
				t.Errorf("%s: %s", what, d)
			}
		}
	}
	put(t, s, "empty", "")
	if text, info, err := get(ctx, s, "empty"); err != nil || text != "" || info.Size != 0 {
		t.Errorf("an empty blob: %q, %+v, %v", text, info, err)
	}
}

func ranges(t *testing.T, s blob.Store) {
	put(t, s, "a", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"},
		{0, 0, ""},
		{0, 4, "0123"},
		{3, 4, "3456"},
		{8, 100, "89"},
		{9, -1, "9"},
		{10, -1, ""},
		{10, 5, ""},
		{99, -1, ""},
		{5, 1 << 62, "56789"},
		{0, 1<<63 - 1, "0123456789"},
		{5, 1<<63 - 1, "56789"},
	} {
		r, info, err := s.Get(t.Context(), "a", c.offset, c.length)
		if err != nil {
			t.Errorf("%d+%d: %v", c.offset, c.length, err)
			continue
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(b) != c.want || info.Size != 10 {
			t.Errorf("%d+%d: %q of %d bytes, %v; want %q", c.offset, c.length, b, info.Size, err, c.want)
		}
	}
}

func missing(t *testing.T, s blob.Store) {
	put(t, s, "a/b/c", "x")
	for _, name := range []string{"no", "a", "a/b", "a/b/c/d", "a/b/c$", "A/b/c2"} {
		ctx := t.Context()
		if _, _, err := s.Get(ctx, name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("get %s: %v", name, err)
		}
		if _, err := s.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", name, err)
		}
		if err := s.Delete(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if _, err := s.Stat(t.Context(), "a/b/c"); err != nil {
		t.Error(err)
	}
}

func replaces(t *testing.T, s blob.Store) {
	ctx := t.Context()
	tags := map[string]bool{}
	for _, v := range []struct {
		text string
		meta blob.Meta
	}{
		{"long text", blob.Meta{ContentType: "a/b", User: map[string]string{"k": "v"}}},
		{"blocks", blob.Meta{Blocks: []blob.Block{{ID: "YQ==", Size: 6}}}},
		{"append", blob.Meta{Append: true}},
		{"short", blob.Meta{}},
		{"same!", blob.Meta{ContentType: "c/d"}},
	} {
		info, err := s.Put(ctx, "a", strings.NewReader(v.text), -1, v.meta)
		if err != nil {
			t.Fatal(err)
		}
		tags[info.ETag] = true
		text, info, err := get(ctx, s, "a")
		if err != nil || text != v.text {
			t.Errorf("%q, %v", text, err)
		}
		if d := cmp.Diff(v.meta, info.Meta); d != "" {
			t.Error(d)
		}
	}
	if len(tags) != 5 {
		t.Errorf("five versions have the tags %v", tags)
	}
}

func readerKeepsVersion(t *testing.T, s blob.Store) {
	ctx := t.Context()
	old := strings.Repeat("old ", 1<<18)
	put(t, s, "a", old)
	r, _, err := s.Get(ctx, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "new")
	if err := s.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || string(head)+string(rest) != old {
		t.Errorf("%d bytes of the old version, %v", len(head)+len(rest), err)
	}
}

func failedPut(t *testing.T, s blob.Store) {
	boom := errors.New("boom")
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // a case of a table
		r    io.Reader
		size int64
		want error
	}{
		{"short", t.Context(), strings.NewReader("abc"), 4, io.ErrUnexpectedEOF},
		{"long", t.Context(), strings.NewReader("abcdef"), 4, nil},
		{"broken", t.Context(), io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(boom)), -1, boom},
		{"cancelled", dead, strings.NewReader("abc"), 3, context.Canceled},
	} {
		for _, there := range []string{"", "before"} {
			name := c.name + there
			if there != "" {
				put(t, s, name, there)
			}
			if _, err := s.Put(c.ctx, name, c.r, c.size, blob.Meta{ContentType: "new/type"}); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			text, info, err := get(t.Context(), s, name)
			if there == "" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: something is there: %q, %v", name, text, err)
			}
			if there != "" && (err != nil || text != there || info.ContentType != "") {
				t.Errorf("%s: what was there before: %q, %+v, %v", name, text, info, err)
			}
		}
	}
	if page, err := s.List(t.Context(), "", "", "", 0); err != nil || len(page.Blobs) != 4 {
		t.Errorf("%+v, %v", page, err)
	}
}

// Unclean are names that no place may take.
var unclean = []string{
	"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a", "a\x00b", "a\nb", "a\\..\\b", "\xff", strings.Repeat("a", 5000),
}

func uncleanNames(t *testing.T, s blob.Store) {
	ctx := t.Context()
	for _, name := range unclean {
		_, errPut := s.Put(ctx, name, strings.NewReader("x"), 1, blob.Meta{})
		_, _, errGet := s.Get(ctx, name, 0, -1)
		_, errStat := s.Stat(ctx, name)
		for verb, err := range map[string]error{"put": errPut, "get": errGet, "stat": errStat, "delete": s.Delete(ctx, name)} {
			p, ok := errors.AsType[*workspace.Problem](err)
			if !ok || p.Class != workspace.Invalid || p.Mend == "" {
				t.Errorf("%s %.40q: %v", verb, name, err)
			}
		}
		if _, err := s.List(ctx, name, "/", "", 10); err != nil { // a prefix need not be a name
			t.Errorf("list %.40q: %v", name, err)
		}
	}
}

// Names that are clean, and that some file system, URL or careless code would take for something else.
var clean = []string{
	"a", "a/b", "a/b/c", "a.b", "a$", "a$m", "a+", "a+/b", "a%24", "a%", "%2e%2e/x", "A", "a b", " a", "a ", "…", "...", "..a", "a..", ".hidden", "-", "~",
	"größe/北京/😀", "e\u0301", "\u00e9", "con", "nul.txt", "a:b", `"quoted"`, "a*?", "<x>", "a|b", "#", "a?b=c&d", "'", "`", "tmp", "names", "names/x",
	strings.Repeat("l", 199), strings.Repeat("l", 200), strings.Repeat("l", 201), strings.Repeat("l", 255), strings.Repeat("l", 200) + "/x",
	strings.Repeat("l", 201) + "/x", strings.Repeat("ü", 300), strings.Repeat("m", 1024), strings.Repeat("x/", 500) + "end", strings.Repeat("%", 300),
}

func cleanNames(t *testing.T, s blob.Store) {
	ctx := t.Context()
	for _, name := range clean {
		put(t, s, name, "of "+name)
	}
	for _, name := range clean {
		if text, info, err := get(ctx, s, name); err != nil || text != "of "+name || info.Name != name {
			t.Errorf("%.40q: %.40q, %v", name, text, err)
		}
	}
	var got []string
	for after := ""; ; {
		page, err := s.List(ctx, "", "", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Blobs {
			got = append(got, b.Name)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if d := cmp.Diff(slices.Sorted(slices.Values(clean)), got); d != "" {
		t.Error(d)
	}
	for _, name := range clean {
		if err := s.Delete(ctx, name); err != nil {
			t.Errorf("delete %.40q: %v", name, err)
		}
	}
	if page, err := s.List(ctx, "", "", "", 0); err != nil || len(page.Blobs) != 0 {
		t.Errorf("after deleting all: %+v, %v", page, err)
	}
}

// listModel compares List with the plain meaning of its words, over random names, prefixes and cursors.
func listModel(t *testing.T, s blob.Store) {
	ctx := t.Context()
	long := strings.Repeat("z", 199)
	segment := rapid.SampledFrom([]string{"a", "a-", "a.", "a0", "ab", "b", "ü", "!", long, long + "z", long + "z!", long + "zz", long + "z~"})
	there := map[string]bool{}
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(0, 6).Draw(r, "changes") {
			name := strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(r, "name"), "/")
			if there[name] {
				if err := s.Delete(ctx, name); err != nil {
					r.Fatal(err)
				}
				delete(there, name)
				continue
			}
			if _, err := s.Put(ctx, name, strings.NewReader("x"), 1, blob.Meta{}); err != nil {
				r.Fatal(err)
			}
			there[name] = true
		}
		prefix := strings.Join(rapid.SliceOfN(segment, 0, 2).Draw(r, "prefix"), "/") + rapid.SampledFrom([]string{"", "/"}).Draw(r, "slash")
		delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(r, "delimiter")
		limit := rapid.IntRange(1, 4).Draw(r, "limit")
		want := []string{}
		for _, name := range slices.Sorted(maps.Keys(there)) {
			rest, ok := strings.CutPrefix(name, prefix)
			if !ok {
				continue
			}
			if i := strings.IndexByte(rest, '/'); delimiter != "" && i >= 0 {
				name = prefix + rest[:i+1]
			}
			want = append(want, name)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		got := []string{}
		for after, pages := "", 0; ; pages++ {
			page, err := s.List(ctx, prefix, delimiter, after, limit)
			if err != nil {
				r.Fatal(err)
			}
			if n := len(page.Blobs) + len(page.Prefixes); n > limit || n < limit && page.Next != "" || pages > len(want) {
				r.Fatalf("page %d has %d entries of %d, next %q", pages, n, limit, page.Next)
			}
			names := slices.Clone(page.Prefixes)
			for _, b := range page.Blobs {
				names = append(names, b.Name)
			}
			slices.Sort(names)
			got = append(got, names...)
			if after = page.Next; after == "" {
				break
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			r.Fatalf("prefix %q, delimiter %q, limit %d: %s", prefix, delimiter, limit, d)
		}
	})
}

func deletedPrefix(t *testing.T, s blob.Store) {
	ctx := t.Context()
	put(t, s, "a/b/c", "1")
	put(t, s, "a/d", "2")
	if err := s.Delete(ctx, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if page, err := s.List(ctx, "a/", "/", "", 0); err != nil || len(page.Prefixes) != 0 || len(page.Blobs) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	put(t, s, "a/b/c", "3")
	if text, _, err := get(ctx, s, "a/b/c"); err != nil || text != "3" {
		t.Errorf("%q, %v", text, err)
	}
}

func neverAPart(t *testing.T, s blob.Store) {
	ctx := t.Context()
	version := func(n int) string { return strings.Repeat(fmt.Sprintf("%d,", n%10), 20_000+n) }
	put(t, s, "a", version(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				text, info, err := get(ctx, s, "a")
				if err != nil || int64(len(text)) != info.Size || text != version(len(text)/2-20_000) {
					t.Errorf("a reader saw %d bytes, told %d, %v", len(text), info.Size, err)
					return
				}
			}
		})
	}
	for n := range 50 {
		put(t, s, "a", version(n))
	}
	close(done)
	wg.Wait()
}

func sideBySide(t *testing.T, s blob.Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			mine, shared := fmt.Sprintf("deep/er/%d/file", w), "deep/er/shared"
			for n := range 30 {
				text := fmt.Sprint(w, n)
				if _, err := s.Put(ctx, mine, strings.NewReader(text), -1, blob.Meta{}); err != nil {
					t.Errorf("put: %v", err)
				}
				if _, err := s.Put(ctx, shared, bytes.NewReader(nil), 0, blob.Meta{}); err != nil {
					t.Errorf("put shared: %v", err)
				}
				if err := s.Delete(ctx, shared); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("delete shared: %v", err)
				}
				if got, _, err := get(ctx, s, mine); err != nil || got != text {
					t.Errorf("%q, %v; want %q", got, err, text)
				}
				if err := s.Delete(ctx, mine); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if page, err := s.List(ctx, "", "", "", 0); err != nil || len(page.Blobs) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
}
