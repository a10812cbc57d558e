package snapshot

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	someHash  = Sum([]byte("some"))
	someFile  = Entry{Name: "a", Kind: File, Hash: someHash, Size: 3}
	sameNames = Tree{someFile, someFile}
)

func TestEqualFoldersHaveEqualBytes(t *testing.T) {
	name := rapid.StringMatching(`[a-zA-Z0-9 ._"\\<>&\x{e9}\x{2028}\x{4eac}\x{1f600}-]{1,20}`).Filter(func(s string) bool { return s != "." && s != ".." })
	entry := rapid.Custom(func(r *rapid.T) Entry {
		e := Entry{Name: name.Draw(r, "name"), Kind: rapid.SampledFrom([]Kind{File, Folder, Link}).Draw(r, "kind")}
		switch e.Kind {
		case Link:
			e.Target = name.Draw(r, "target")
		case File:
			e.Exec, e.Size = rapid.Bool().Draw(r, "exec"), rapid.Int64Min(0).Draw(r, "size")
			fallthrough
		default:
			e.Hash = Sum([]byte(e.Name))
		}
		return e
	})
	rapid.Check(t, func(r *rapid.T) {
		tree := Tree(rapid.SliceOfNDistinct(entry, 0, 8, func(e Entry) string { return e.Name }).Draw(r, "tree"))
		text := tree.Encode()
		shuffled := rapid.Permutation(tree).Draw(r, "shuffled")
		if !bytes.Equal(text, shuffled.Encode()) {
			r.Fatal("the order in which entries are given is in the bytes")
		}
		back, err := Decode(text)
		if err != nil {
			r.Fatalf("%s: %v", text, err)
		}
		if len(back) != len(tree) || !bytes.Equal(back.Encode(), text) {
			r.Fatalf("%v came back as %v", tree, back)
		}
	})
}

func TestDecodeRefusesAllButTheCanonicalForm(t *testing.T) {
	good := string(Tree{someFile}.Encode())
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	line := func(fields string) string { return "{" + fields + "}\n" }
	h := `"h":"` + string(someHash) + `"`
	for why, text := range map[string]string{
		"not JSON":             "x",
		"cut short":            good[:len(good)-3],
		"no end of line":       strings.TrimSuffix(good, "\n"),
		"a space":              " " + good,
		"something after":      good + "null\n",
		"another field":        line(`"n":"a","k":"f",` + h + `,"y":1`),
		"a field twice":        line(`"n":"b","n":"a","k":"f",` + h),
		"a field in capitals":  line(`"N":"a","k":"f",` + h),
		"fields turned round":  line(`"k":"f","n":"a",` + h),
		"an escape too much":   line(`"n":"\u0061","k":"f",` + h),
		"bytes that are not":   line("\"n\":\"a\xff\",\"k\":\"f\"," + h),
		"no name":              line(`"k":"f",` + h),
		"up":                   line(`"n":"..","k":"d",` + h),
		"here":                 line(`"n":".","k":"d",` + h),
		"a path":               line(`"n":"a/b","k":"f",` + h),
		"a NUL":                line(`"n":"a\u0000","k":"f",` + h),
		"a long name":          line(`"n":"` + strings.Repeat("a", 256) + `","k":"f",` + h),
		"an unknown kind":      line(`"n":"a","k":"p",` + h),
		"no hash":              line(`"n":"a","k":"f"`),
		"a hash in capitals":   line(`"n":"a","k":"f","h":"` + strings.ToUpper(string(someHash)) + `"`),
		"a negative size":      line(`"n":"a","k":"f","s":-1,` + h),
		"a fraction":           line(`"n":"a","k":"f","s":1.5,` + h),
		"a link without end":   line(`"n":"a","k":"l"`),
		"a link to the root":   line(`"n":"a","k":"l","t":"/etc"`),
		"a link with a hash":   line(`"n":"a","k":"l","t":"b",` + h),
		"a file with a target": line(`"n":"a","k":"f","t":"b",` + h),
		"a name twice":         string(sameNames.Encode()),
		"another order":        line(`"n":"b","k":"f",`+h) + line(`"n":"a","k":"f",`+h),
	} {
		if tree, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: taken as %v", why, tree)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(Tree{someFile, {Name: "é\u2028<", Kind: Link, Target: "a"}}.Encode())
	f.Add(sameNames.Encode())
	f.Add([]byte(`{"n":"..","k":"d"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := Decode(text)
		if err != nil {
			return
		}
		if !bytes.Equal(tree.Encode(), text) {
			t.Fatalf("%q has a second spelling", text)
		}
		for _, e := range tree {
			if e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") || strings.HasPrefix(e.Target, "/") {
				t.Fatalf("%+v leads out", e)
			}
		}
	})
}
