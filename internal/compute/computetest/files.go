package computetest

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
)

// odd is a name with what breaks careless code.
const odd = "Größe 模型 'x' \"y\" $HOME `id` \\n &;|*?"

func unicode(x *exam) {
	t := x.attach()
	j := x.job("cat \"" + "Ordner mit Leerzeichen/$FILE" + "\"; printf '%s|' \"$ODD\" \"$LINES_\"; echo 'Ende 🚢'; cat ${{inputs.data}}; cp ${{inputs.data}} \"${{outputs.out}}/$FILE\"")
	j.Name = odd
	j.Env = map[string]string{"ODD": odd, "FILE": odd, "LINES_": "a\nb\tc "}
	j.Code = x.objects.AddTree(map[string]Node{"Ordner mit Leerzeichen/" + odd: {Text: "im Schnappschuß\n"}})
	j.Inputs = []compute.Input{{Name: "data", Tree: x.objects.AddTree(map[string]Node{odd: {Text: "Eingabe\n"}})}}
	j.Outputs = []compute.Output{{Name: "out", Folder: true}}
	h := x.submit(t, j)
	x.succeed(t, h)
	want := "im Schnappschuß\n" + odd + "|a\nb\tc |Ende 🚢\nEingabe\n"
	if got := x.log(t, h); got != want {
		x.Errorf("log:\n%q, wanted\n%q", got, want)
	}
	home := &Home{}
	x.collect(t, h, home)
	if got, _ := home.Text("out", odd); got != "Eingabe\n" {
		x.Errorf("the output is %q; there is %q", got, home.Names())
	}
}

func snapshotArrives(x *exam) {
	t := x.attach()
	j := x.job(`./tool.sh; cat sub/deep/data.txt; cat link; cat sub/up; test -d empty && echo empty folder; test -x plain.txt || echo not executable; test -L link && readlink link; ls -A sub; test -s nothing || echo of no bytes`)
	j.Code = x.objects.AddTree(map[string]Node{
		"tool.sh": {Text: "#!/bin/sh\necho tool runs\n", Exec: true}, "plain.txt": {Text: "plain\n"}, "nothing": {},
		"sub/deep/data.txt": {Text: "deep\n"}, "link": {Link: "sub/deep/data.txt"}, "sub/up": {Link: "../plain.txt"}, "empty": {Folder: true},
	})
	h := x.submit(t, j)
	x.succeed(t, h)
	want := "tool runs\n" + strings.Repeat("deep\n", 2) + "plain\nempty folder\nnot executable\nsub/deep/data.txt\ndeep\nup\nof no bytes\n"
	if got := x.log(t, h); got != want {
		x.Errorf("log:\n%s\nwanted\n%s", got, want)
	}
}

// snapshotIsNotShared checks that a job may change its files, and that the next with the same snapshot does not see it.
func snapshotIsNotShared(x *exam) {
	t := x.attach()
	nodes := map[string]Node{"a.txt": {Text: "as it was\n"}}
	for i := range 50 {
		nodes[fmt.Sprintf("folder/file-%02d.txt", i)] = Node{Text: strings.Repeat("x", i)}
	}
	code := x.objects.AddTree(nodes)
	for range 2 {
		j := x.job("cat a.txt; echo changed >a.txt; rm -r folder; mkdir folder")
		j.Code = code
		h := x.submit(t, j)
		x.succeed(t, h)
		if got := x.log(t, h); got != "as it was\n" {
			x.Errorf("log: %q", got)
		}
	}
	reads := x.objects.Reads()
	j := x.job("ls folder | wc -l")
	j.Code = code
	h := x.submit(t, j)
	x.succeed(t, h)
	if more := x.objects.Reads() - reads; more > 2 {
		x.Errorf("handing over a snapshot that is there read %d objects", more)
	}
	if got := strings.TrimSpace(x.log(t, h)); got != "50" {
		x.Errorf("the third job finds %s files", got)
	}
}

func inputsArrive(x *exam) {
	t := x.attach()
	j := x.job("cat ${{inputs.file}}; cat ${{inputs.folder}}/sub/b.txt; cat ${{ inputs.linked }}/a.txt; ls ${{inputs.folder}}")
	folder := x.objects.AddTree(map[string]Node{"a.txt": {Text: "a\n"}, "sub/b.txt": {Text: "b\n"}})
	j.Inputs = []compute.Input{
		{Name: "file", Tree: x.objects.AddTree(map[string]Node{"data.csv": {Text: "1,2\n"}})},
		{Name: "folder", Folder: true, Tree: folder},
		{Name: "linked", Folder: true, Tree: folder, Link: true},
	}
	h := x.submit(t, j)
	x.succeed(t, h)
	if got := x.log(t, h); got != "1,2\nb\na\na.txt\nsub\n" {
		x.Errorf("log: %q", got)
	}
	missing := x.job("exit 0")
	missing.Inputs = []compute.Input{{Name: "gone", Folder: true, Tree: x.objects.AddTree(nil)[:63] + "0"}}
	_, err := t.Submit(x.Context(), missing)
	if err == nil {
		x.Error("a job whose input is nowhere was taken")
	} else {
		x.isProblem(err)
	}
}

func inputInPlace(x *exam) {
	t := x.attach()
	dir := filepath.Join(x.opts.Shared, "in-"+x.env.Clock.NewID())
	if err := os.Mkdir(dir, 0o755); err != nil {
		x.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "there.txt"), []byte("was there\n"), 0o644); err != nil {
		x.Fatal(err)
	}
	j := x.job("cat ${{inputs.data}}/there.txt")
	j.Inputs = []compute.Input{{Name: "data", Folder: true, Path: dir}}
	h := x.submit(t, j)
	x.succeed(t, h)
	if got := x.log(t, h); got != "was there\n" {
		x.Errorf("log: %q", got)
	}
	j = x.job("exit 0")
	j.Inputs = []compute.Input{{Name: "data", Path: dir + "/not-there"}}
	h, e := x.run(t, j)
	if e.Outcome != compute.Failed || e.Problem == nil || !strings.Contains(e.Problem.Error(), "data") || e.Problem.Mend == "" {
		x.Errorf("an input that is not there: %s", x.describe(t, h, e))
	}
}

func inputFetched(x *exam) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("sig") != "Geheimnis" || r.URL.Path != "/some/data.csv" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte("fetched\n"))
	}))
	x.Cleanup(server.Close)
	x.env.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	t := x.attach()
	j := x.job("cat ${{inputs.data}}; basename ${{inputs.data}}")
	j.Inputs = []compute.Input{{Name: "data", URL: server.URL + "/some/data.csv?sig=Geheimnis"}}
	h := x.submit(t, j)
	x.succeed(t, h)
	if got := x.log(t, h); got != "fetched\ndata.csv\n" {
		x.Errorf("log: %q", got)
	}
	if got := x.logOf(t, h, compute.LogQuery{Stream: "prepare"}); strings.Contains(got, "Geheimnis") {
		x.Errorf("the log shows the signature of the address: %q", got)
	}
	j = x.job("exit 0")
	j.Inputs = []compute.Input{{Name: "data", URL: server.URL + "/other?sig=Geheimnis"}}
	h, e := x.run(t, j)
	if e.Outcome != compute.Failed || e.Problem == nil || e.Problem.Mend == "" || strings.Contains(e.Problem.Error(), "Geheimnis") {
		x.Errorf("an input that is refused: %s", x.describe(t, h, e))
	}
}

func outputsComeHome(x *exam) {
	t := x.attach()
	j := x.job(`echo model >"${{outputs.model}}"; mkdir -p ${{outputs.data}}/sub; printf 'b\0\377' >${{outputs.data}}/sub/b.bin; echo s >${{outputs.data}}/run.sh; chmod 755 ${{outputs.data}}/run.sh; : >${{outputs.data}}/empty
mkdir -p outputs/sub logs; echo o >outputs/sub/o.txt; echo l >logs/l.txt; echo not >elsewhere; exit 2`)
	j.Outputs = []compute.Output{{Name: "model"}, {Name: "data", Folder: true}, {Name: "never", Folder: true}}
	h, e := x.run(t, j)
	if e.Code != 2 || !e.Files {
		x.Fatalf("exit: files %v, %s", e.Files, x.describe(t, h, e))
	}
	home := &Home{}
	x.collect(t, h, home)
	want := map[string]string{
		"model:": "model\n", "data:sub/b.bin": "b\x00\xff", "data:run.sh": "s\n", "data:empty": "", "outputs:sub/o.txt": "o\n", "logs:l.txt": "l\n",
	}
	for name, text := range want {
		output, path, _ := strings.Cut(name, ":")
		if got, ok := home.Text(output, path); !ok || got != text {
			x.Errorf("%s: %q, there: %v", name, got, ok)
		}
	}
	if got := home.Names(); len(got) != len(want) {
		x.Errorf("came home: %q", got)
	}
	if f, _ := home.file("data", "run.sh"); f.Mode&0o111 == 0 {
		x.Errorf("the mode of run.sh is %o", f.Mode)
	}
	x.collect(t, h, home)
	if n := home.Puts(); n != len(want) {
		x.Errorf("collecting twice brought %d files and not %d", n, len(want))
	}
	h, e = x.run(t, x.job("echo nothing"))
	if e.Files {
		x.Error("a job without outputs says that there is something to collect")
	}
	x.collect(t, h, &Home{})
}

func outputsWhileRunning(x *exam) {
	t := x.attach()
	j := x.job(`echo 1 >outputs/first; echo begun; sleep 60`)
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	home := &Home{}
	if x.opts.Limits.NoCollectWhileRunning {
		x.notSupported(t.Collect(x.Context(), h, home))
		return
	}
	x.collect(t, h, home)
	if got, _ := home.Text("outputs", "first"); got != "1\n" {
		x.Errorf("while running: %q", home.Names())
	}
	if p := x.status(t, h).Phase; p != compute.Running {
		x.Errorf("the job is %s", p)
	}
	x.cancel(t, h)
	x.canceled(t, h)
	x.collect(t, h, home)
	if n := home.Puts(); n != 1 {
		x.Errorf("what had not changed came %d times", n)
	}
}

func nothingLeft(x *exam) {
	t := x.attach()
	_, e := x.run(t, x.job("exit 0")) // what the target keeps for itself is there now
	if e.Outcome != compute.Succeeded {
		x.Fatalf("exit: %+v", e)
	}
	token := "leftover" + strings.ToLower(x.env.Clock.NewID())
	j := x.job("echo " + token + "; echo " + token + " >outputs/" + token + "; mkdir ro; echo x >ro/x; chmod 500 ro")
	j.Env = map[string]string{"TOKEN": token}
	h := x.submit(t, j)
	x.succeed(t, h)
	if len(x.holding(token)) == 0 {
		x.Fatal("the exam looks for what is left in the wrong folder")
	}
	if err := t.Release(x.Context(), h, 1); err != nil {
		x.Fatalf("release: %v", err)
	}
	for _, text := range []string{token, h.Key.Job} {
		if left := x.holding(text); len(left) > 0 {
			x.Errorf("after release %q is still in %q", text, left)
		}
	}
}

// holding lists files of the target's folder whose name or content has a text.
func (x *exam) holding(text string) (found []string) {
	x.Helper()
	root := x.opts.Folder(x.want.Place)
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if strings.Contains(strings.TrimPrefix(path, root), text) {
			found = append(found, path)
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() < 64<<20 && !strings.Contains(path, "/bin/keeper-") {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
				found = append(found, path)
			}
		}
		return nil
	})
	return found
}

func removeAllLeavesNothing(x *exam) {
	t := x.attach()
	r, ok := ability[compute.Remover](t)
	if !ok {
		x.Skip("the kind is no Remover")
	}
	other := x.env
	other.Compute = "other-" + other.Compute
	second := x.attachAs(other, x.want)
	theirs := x.job("sleep 30")
	theirs.Key.Compute = other.Compute
	kept := x.submit(second, theirs)
	x.until(second, kept, compute.Running)

	j := x.job("sleep 30")
	j.Code = x.objects.AddTree(map[string]Node{"a": {Text: "a"}})
	h := x.submit(t, j)
	x.until(t, h, compute.Running)
	if err := r.RemoveAll(x.Context()); err != nil {
		x.Fatalf("remove: %v", err)
	}
	for range 2 {
		if left := x.holding("/" + x.env.Compute); len(left) > 0 {
			x.Errorf("still there: %q", left)
		}
		if err := r.RemoveAll(x.Context()); err != nil {
			x.Errorf("remove again: %v", err)
		}
	}
	if p := x.status(second, kept).Phase; p != compute.Running {
		x.Errorf("the job of another attachment is %s", p)
	}
	if r, ok := ability[compute.Remover](second); ok {
		if err := r.RemoveAll(x.Context()); err != nil {
			x.Errorf("remove: %v", err)
		}
	}
	if entries, err := os.ReadDir(x.opts.Folder(x.want.Place)); err == nil && len(entries) > 0 {
		x.Errorf("after both were removed, the folder still holds %v", entries)
	}
}
