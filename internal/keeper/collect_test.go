package keeper

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

type home struct {
	files map[string]string
	want  func(File) bool
}

func (h *home) Want(f File) bool { return h.want == nil || h.want(f) }

func (h *home) Put(_ context.Context, f File, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(b)) != f.Size {
		return io.ErrUnexpectedEOF
	}
	h.files[f.Output+"/"+f.Path] = string(b)
	return nil
}

func collect(t *testing.T, c *Client, key string) map[string]string {
	t.Helper()
	h := &home{files: map[string]string{}}
	check(t, c.Collect(t.Context(), key, h))
	return h.files
}

func TestCollectTakesFilesAndNoLinkThatLeavesItsFolder(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	check(t, os.WriteFile(filepath.Join(r.folder, "private"), []byte("private"), 0o600))
	x, _ := run(t, c, "J1.1", Job{Command: `mkdir -p outputs/sub; echo m > outputs/sub/model; ln -s sub/model outputs/same
ln -s ` + r.folder + `/private outputs/evil; ln -s ../../../../../../private outputs/evil2; ln -s ../.. outputs/up; mkfifo outputs/pipe; echo l > logs/l.txt`})
	if !x.Files {
		t.Error("nothing to collect")
	}
	got := collect(t, c, "J1.1")
	if len(got) != 3 || got["outputs/sub/model"] != "m\n" || got["outputs/same"] != "m\n" || got["logs/l.txt"] != "l\n" {
		t.Errorf("%v", got)
	}
}

func TestCollectSendsOnlyWhatIsWanted(t *testing.T) {
	c := newRig(t).dial()
	run(t, c, "J1.1", Job{Command: "cd outputs; for i in $(seq 2500); do echo $i > f$i; done"})
	h := &home{files: map[string]string{}, want: func(f File) bool { return f.Path == "f7" || f.Path == "f2222" }}
	check(t, c.Collect(t.Context(), "J1.1", h))
	if len(h.files) != 2 || h.files["outputs/f7"] != "7\n" || h.files["outputs/f2222"] != "2222\n" {
		t.Errorf("%v", h.files)
	}
}

func TestShortLogOutlivesLostPower(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	run(t, c, "J1.1", Job{Command: "echo said"})
	log := filepath.Join(r.dir("J1.1"), fileLog)
	check(t, os.Truncate(log, 0)) // as if it had not been flushed
	if s := status(t, c, "J1.1"); s.Exit == nil || string(s.Exit.Log) != "said\n" {
		t.Errorf("%+v", s.Exit)
	}
	var b bytes.Buffer
	_, err := c.Logs(t.Context(), "J1.1", "", 0, false, &b)
	check(t, err)
	if b.String() != "said\n" {
		t.Errorf("%q", b.String())
	}
}
