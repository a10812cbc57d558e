package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fill takes all room that a file system has left, and gives it back.
func fill(t testing.TB, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for piece := 1 << 20; piece > 0; piece /= 4 { // to the last bytes
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, piece))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	_ = f.Close()
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskOfTheServerLosesNothingAcknowledged: new work is refused with cause and mend, or taken and kept; the server
// stays up, and goes on by itself when there is room.
func TestFullDiskOfTheServerLosesNothingAcknowledged(t *testing.T) {
	data, target, shared := t.TempDir(), t.TempDir(), openFolder(t)
	mount(t, data, 0, "16m")
	p := started(t, data, "MOORAGE_NO_LOCAL=true", "MOORAGE_MIN_FREE=none") // what is refused because there is little room is another test's
	body := map[string]any{"properties": map[string]any{"computeType": "Local", "properties": map[string]any{"settings": map[string]any{"folder": target}}}}
	if _, err := p.call(t.Context(), "PUT", workspacePath+"/computes/mill"+apiVersion, body, nil); err != nil {
		t.Fatal(err)
	}
	f := &far{program: p, shared: shared}
	gated := on("mill")
	f.mustSubmit("ends", f.gated("ends", "gate"), gated)
	f.runs("ends")
	id := f.id("ends")
	empty := fill(t, data)

	var taken []string
	var refusal *refusal
	for i := 0; refusal == nil; i++ {
		if i == 500 {
			t.Fatal("500 jobs were taken on a full disk")
		}
		name := fmt.Sprintf("new%d", i)
		more := on("mill")
		more["tags"] = map[string]string{"note": strings.Repeat(name, 2000)} // a page or two each
		err := p.submit(t.Context(), name, "echo taken", more)
		if err == nil {
			taken = append(taken, name)
		} else if refusal = asRefusal(t, err); refusal.status != 503 && refusal.status != 507 || refusal.problem().Code != "DiskFull" || refusal.problem().Mend == "" {
			t.Fatalf("the refusal does not say what to do: %v", err)
		}
	}
	_, err := p.upload(t.Context(), "big.txt", strings.Repeat("big", 1<<20))
	if r := asRefusal(t, err); r.status != 503 && r.status != 507 || r.problem().Code != "DiskFull" {
		t.Errorf("an upload on a full disk: %v", err)
	}
	f.open("gate")
	until(t, "the job ends at the target", func() bool {
		exits, _ := filepath.Glob(filepath.Join(target, "*", "*", "jobs", id+".1", "exit.json"))
		return len(exits) == 1
	})
	for _, path := range []string{"/healthz", native + "/jobs", native + "/jobs/ends"} {
		if _, err := p.call(t.Context(), "GET", path, nil, new([]byte)); err != nil {
			t.Errorf("reading needs no room: %v", err)
		}
	}
	if v, err := p.show(t.Context(), "ends"); err != nil || v.State == "Failed" {
		t.Errorf("a job was given up because the server had no room: %+v %v", v.Error, err)
	}
	empty()
	f.whole("ends")
	for _, name := range taken {
		f.mustEnd(name, "Completed")
		f.mustLog(name, "taken\n")
	}
	f.mustSubmit("after", "echo after", on("mill"))
	f.mustEnd("after", "Completed")
	if p.gone() {
		t.Error("the server did not stay up")
	}

	// Killed and started again on a full disk.
	f.mustSubmit("survives", f.gated("survives", "gate2"), on("mill"))
	f.runs("survives")
	empty = fill(t, data)
	p.kill()
	f.open("gate2")
	again := start(t, data, "MOORAGE_NO_LOCAL=true")
	if again.url == "" && !strings.Contains(again.output.String(), "no space left") && !strings.Contains(again.output.String(), "full") {
		t.Errorf("it does not say why it cannot start:\n%s", again.output)
	}
	if again.url == "" {
		empty()
		again = started(t, data, "MOORAGE_NO_LOCAL=true")
	} else {
		empty()
	}
	f.program = again
	f.whole("survives")
	t.Logf("%d jobs were taken on the full disk, then: %v", len(taken), refusal)
}

// asRefusal is an answer of the server; anything else fails the test.
func asRefusal(t testing.TB, err error) *refusal {
	t.Helper()
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		t.Fatalf("wanted a refusal: %v", err)
	}
	return r
}

// contains tells whether a file holds a text, without reading it whole.
func contains(name string, text []byte) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf, kept := make([]byte, 1<<20), 0
	for {
		n, err := f.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], text) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		tail := min(len(text)-1, kept+n)
		copy(buf, buf[kept+n-tail:kept+n])
		kept = tail
	}
}
