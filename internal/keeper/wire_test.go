package keeper

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func TestHelloIsFoundBehindWhatAShellPrints(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("Welcome!\nno newline at the end")
	check(t, writeHello(&b, Hello{Protocol: 1, OS: "linux"}))
	b.WriteString("rest")
	r := bufio.NewReader(&b)
	h, err := readHello(r)
	if err != nil || h.OS != "linux" {
		t.Fatalf("%+v %v", h, err)
	}
	if rest, _ := r.ReadString(0); rest != "rest" {
		t.Errorf("left %q", rest)
	}
	_, err = readHello(bufio.NewReader(strings.NewReader("bash: keeper: Permission denied\n")))
	if err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("%v", err)
	}
}

func TestSubstituteQuotesAsThePlaceDemands(t *testing.T) {
	paths := map[string]string{"inputs.a": "/plain/ä.txt", "inputs.b": "/my $dir/it's"}
	for text, want := range map[string]string{
		"cat ${{inputs.a}}":         "cat /plain/ä.txt",
		"cat ${{ inputs.b }}/x":     `cat '/my $dir/it'\''s'/x`,
		`cat "${{inputs.b}}/x"`:     `cat "/my \$dir/it's/x"`,
		`cat '${{inputs.b}}/x'`:     `cat '/my $dir/it'\''s/x'`,
		`echo \"${{inputs.b}}`:      `echo \"'/my $dir/it'\''s'`,
		`echo ${{inputs.c}} ${{ x`:  `echo ${{inputs.c}} ${{ x`,
		`echo "it's" ${{inputs.a}}`: `echo "it's" /plain/ä.txt`,
	} {
		if got := substitute(text, paths); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	_ = writeFrame(&b, request{Op: opStatus, Keys: []string{"J.1"}})
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		var r request
		if err := readFrame(bytes.NewReader(in), &r); err != nil {
			return
		}
		var out bytes.Buffer
		if err := writeFrame(&out, r); err != nil {
			t.Fatal(err)
		}
		var again request
		if err := readFrame(&out, &again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte("noise\nMOORAGE-KEEPER {\"protocol\":1}\n"))
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = readHello(bufio.NewReader(bytes.NewReader(in))) })
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"exit":{"outcome":"failed","code":3,"ended":"2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var x exitRecord
		if decodeRecord(in, fileExit, &x) == nil && (x.Format < 1 || x.Format > format) {
			t.Errorf("format %d was taken", x.Format)
		}
		var spec specRecord
		_ = decodeRecord(in, fileSpec, &spec)
		var st startRecord
		_ = decodeRecord(in, fileStarted, &st)
	})
}

func FuzzGPUs(f *testing.F) {
	f.Add("0, GPU-1, NVIDIA A100, 81920 MiB\n")
	f.Fuzz(func(t *testing.T, in string) {
		for _, g := range parseGPUs(in) {
			if g.index == "" || strings.ContainsAny(g.index, ", \n") {
				t.Errorf("index %q", g.index)
			}
		}
	})
}
