package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (r *rig) builder() *JobBuilder {
	r.Helper()
	r.write(func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertWorkspace(ctx, workspace.Workspace{ID: "w", Subscription: "s", ResourceGroup: "g", Name: "main"})
	})
	return &JobBuilder{
		Store: r.store, Blob: r.blob, CAS: blob.NewCAS(r.blob, r.store, r.clock()),
		Limits:     func(string) compute.Limits { return compute.Limits{} },
		Credential: func(id string, _ int) workspace.Secret { return workspace.NewSecret("secret of " + id) },
	}
}

func (r *rig) put(name, text string) {
	r.Helper()
	if _, err := r.blob.Put(r.Context(), name, strings.NewReader(text), int64(len(text)), blob.Meta{}); err != nil {
		r.Fatal(err)
	}
}

// tree lists a snapshot as path → content.
func (r *rig) tree(b *JobBuilder, root snapshot.Hash, into map[string]string, prefix string) map[string]string {
	r.Helper()
	t, err := b.CAS.Tree(r.Context(), root)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range t {
		if e.Kind == snapshot.Folder {
			r.tree(b, e.Hash, into, prefix+e.Name+"/")
			continue
		}
		into[prefix+e.Name] = string(e.Hash)
	}
	return into
}

func TestInputsOfTheBlobStoreBecomeSnapshots(t *testing.T) {
	r := newRig(t, compute.Limits{})
	b := r.builder()
	r.put("c/data/set/a.txt", "a")
	r.put("c/data/set/deep/b.txt", "b")
	r.put("c/data/both", "file")
	r.put("c/odd/x", "file")
	r.put("c/odd/x/y", "and folder")
	for _, tc := range []struct {
		prefix string
		want   string
	}{
		{"c/data/set", "a.txt deep/b.txt"},
		{"c/data/set/", "a.txt deep/b.txt"},
		{"c/data/set/a.txt", "a.txt"},
	} {
		in, err := b.input(t.Context(), workspace.InputSpec{Name: "in", Folder: true, Prefix: tc.prefix})
		if err != nil {
			t.Fatalf("%s: %v", tc.prefix, err)
		}
		got := r.tree(b, in.Tree, map[string]string{}, "")
		for name := range strings.FieldsSeq(tc.want) {
			if got[name] == "" {
				t.Errorf("%s: no %s in %v", tc.prefix, name, got)
			}
		}
		if len(got) != len(strings.Fields(tc.want)) {
			t.Errorf("%s: %v", tc.prefix, got)
		}
	}
	for prefix, code := range map[string]string{"c/nothing": "MissingInput", "c/odd": "InvalidInput"} {
		_, err := b.input(t.Context(), workspace.InputSpec{Name: "in", Prefix: prefix})
		if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != code || p.Mend == "" {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

func TestJobFindsTheServerByItsWayBack(t *testing.T) {
	r := newRig(t, compute.Limits{})
	b := r.builder()
	spec, _ := json.Marshal(workspace.JobSpec{Command: "x", Variables: map[string]string{"MINE": "1", "MLFLOW_RUN_ID": "other"}})
	job, err := b.Build(t.Context(), store.Job{ID: "j", WorkspaceID: "w", Name: "train", Experiment: "e", Spec: spec}, r.compute)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(job.Env["MLFLOW_TRACKING_URI"], "http://"+compute.WayBackAddress+"/") || job.Env["AZUREML_RUN_ID"] != "train" || job.Env["MINE"] != "1" || job.Env["MLFLOW_RUN_ID"] != "other" {
		t.Errorf("variables %v", job.Env)
	}
	if job.Secrets["IDENTITY_HEADER"].Reveal() != "secret of j" {
		t.Errorf("secrets %v", job.Secrets)
	}
	for name, value := range job.Env {
		if strings.Contains(value, "secret of") {
			t.Errorf("%s tells the secret", name)
		}
	}
}

func TestFilesNeverLeaveTheirPlaceAndOddNamesAreKept(t *testing.T) {
	r := newRig(t, compute.Limits{})
	out := &outputs{store: r.store, blob: r.blob, job: "j", prefixes: map[string]string{compute.OutputsFolder: "c/a/outputs/"}, home: map[string]store.JobFile{}}
	put := func(output, path string) error {
		return out.Put(t.Context(), output, compute.File{Path: path, Size: 1}, strings.NewReader("x"))
	}
	for _, path := range []string{"../x", "a/../../x", "/etc/passwd", "a//b", ".", "a/."} {
		if err := put(compute.OutputsFolder, path); !errors.Is(err, compute.ErrInvalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if err := put("another", "x"); !errors.Is(err, compute.ErrInvalid) {
		t.Errorf("an output that the job does not have: %v", err)
	}
	odd := []string{"plain.txt", `back\slash`, "new\nline", "bad\xffutf8", "100%", "grüße", strings.Repeat("long/", 300) + "name", strings.Repeat("\n", 500)}
	for _, path := range odd {
		if err := put(compute.OutputsFolder, path); err != nil {
			t.Errorf("%.20q: %v", path, err)
		}
	}
	page, err := r.blob.List(t.Context(), "", "", "", 0)
	if err != nil || len(page.Blobs) != len(odd) {
		t.Errorf("%d blobs of %d, %v", len(page.Blobs), len(odd), err)
	}
	for _, b := range page.Blobs {
		if !strings.HasPrefix(b.Name, "c/a/outputs/") {
			t.Errorf("a file lies at %s", b.Name)
		}
	}
}
