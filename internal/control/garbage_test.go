package control

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// object stores a snapshot of one file with that text.
func (r *rig) object(text string) snapshot.Hash {
	r.Helper()
	h := snapshot.Sum([]byte(text))
	if err := r.CAS.Put(r.Context(), h, strings.NewReader(text), int64(len(text))); err != nil {
		r.Fatal(err)
	}
	root, err := r.CAS.PutTree(r.Context(), snapshot.Tree{{Name: "f", Kind: snapshot.File, Size: int64(len(text)), Hash: h}})
	if err != nil {
		r.Fatal(err)
	}
	return root
}

// age makes every object as old as unpinned ones that are swept.
func (r *rig) age() {
	r.Helper()
	then := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(filepath.Join(r.dir, "blobs", "names", "cas"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		r.Fatal(err)
	}
}

func TestAuditLogGoesBackAsFarAsItShould(t *testing.T) {
	r := newRig(t)
	r.AuditRetention = time.Hour
	now := r.Clock.Now()
	err := r.Audit(t.Context(), []store.AuditEntry{
		{Action: "old", At: now.Add(-61 * time.Minute).UnixMilli()}, {Action: "young", At: now.Add(-59 * time.Minute).UnixMilli()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if g, err := r.CollectGarbage(t.Context(), workspace.Principal{}, dry); err != nil || g.Audit != 1 {
			t.Errorf("dry %t: %d entries: %v", dry, g.Audit, err)
		}
	}
	if left, err := r.Store.AuditLog(t.Context(), "", store.Page{}); err != nil || len(left) != 1 || left[0].Action != "young" {
		t.Errorf("left are %v: %v", left, err)
	}
}

func TestGarbageIsWhatNoJobAndNoCodeNeeds(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	code, input, asset, useless := r.object("code"), r.object("input"), r.object("asset"), r.object("useless")
	r.submitted("job", `"codeId":"`+r.ws.Path()+`/codes/`+string(code)+`/versions/1"`, `"inputs":{"in":{"jobInputType":"uri_folder","uri":"moorage://snapshots/`+string(input)+`"}}`)
	err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
		body, _ := json.Marshal(map[string]any{snapshotField: asset})
		_, err := tx.PutDocument(t.Context(), store.Document{WorkspaceID: r.ws.ID, Collection: "codes", Name: "c", Version: "1", Body: body})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.age()
	if g, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil || g.Removed != 0 || g.Objects != 8 {
		t.Fatalf("what was just used is pinned: %+v, %v", g, err)
	}
	// A day later, as another server sees it.
	r.CAS = blob.NewCAS(r.Blob, unpinned{r.Store}, r.Clock)
	dry, err := r.CollectGarbage(t.Context(), r.admin, true)
	if err != nil || !dry.Dry || dry.Removed != 2 || dry.Bytes == 0 {
		t.Errorf("dry: %+v, %v", dry, err)
	}
	g, err := r.CollectGarbage(t.Context(), r.admin, false)
	if err != nil || g.Removed != 2 || g.Bytes != dry.Bytes {
		t.Errorf("collected: %+v, %v", g, err)
	}
	for _, root := range []snapshot.Hash{code, input, asset} {
		if missing, err := r.CAS.Complete(t.Context(), root); err != nil || len(missing) != 0 {
			t.Errorf("what is needed is gone: %v, %v", missing, err)
		}
	}
	if missing, err := r.CAS.Complete(t.Context(), useless); err != nil || len(missing) != 1 {
		t.Errorf("what is useless is there: %v, %v", missing, err)
	}
}

func TestJobsAreDeletedAfterTheirRetentionWithTheirFiles(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	now := r.Clock.Now
	r.Clock.Now = func() time.Time { return now().Add(-30 * 24 * time.Hour) }
	old, used, stuck := r.submitted("old"), r.submitted("used"), r.submitted("stuck")
	r.Clock.Now = now
	fresh := r.submitted("fresh")
	for _, job := range []store.Job{old, used, fresh} {
		row := r.force(job, func(j *store.Job) {
			j.State, j.Phase, j.Due, j.Ended = workspace.Completed, store.Released, nil, job.Created+1000
		})
		for _, name := range []string{tracking.ArtifactPrefix(r.ws.ID, job.Name) + "outputs/a", "c/out/" + job.Name} {
			if _, err := r.Blob.Put(t.Context(), name, strings.NewReader("x"), 1, blob.Meta{}); err != nil {
				t.Fatal(err)
			}
		}
		err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
			return tx.PutJobFile(t.Context(), store.JobFile{JobID: row.ID, Output: "model", Path: "a", Place: "c/out/" + job.Name})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	body := json.RawMessage(`{"properties":{"modelUri":"azureml://jobs/used/outputs/model","modelType":"custom_model"}}`)
	if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, "models", "m", "1", body); err != nil {
		t.Fatal(err)
	}
	if g, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil || g.Jobs != 0 {
		t.Fatalf("without a retention: %+v, %v", g, err)
	}
	r.Retention = 7 * 24 * time.Hour
	if g, err := r.CollectGarbage(t.Context(), r.admin, true); err != nil || g.Jobs != 1 {
		t.Errorf("dry: %+v, %v", g, err)
	}
	if g, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil || g.Jobs != 1 {
		t.Errorf("collected: %+v, %v", g, err)
	}
	if _, err := r.Store.JobByID(t.Context(), old.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old job is there: %v", err)
	}
	for name, there := range map[string]bool{"old": false, "used": true, "fresh": true} {
		for _, place := range []string{"c/out/" + name, tracking.ArtifactPrefix(r.ws.ID, name) + "outputs/a"} {
			if _, err := r.Blob.Stat(t.Context(), place); (err == nil) != there {
				t.Errorf("%s: %v", place, err)
			}
		}
	}
	if _, err := r.Job(t.Context(), r.admin, r.ws, stuck.Name); err != nil {
		t.Errorf("a job that has not ended was deleted: %v", err)
	}
	if _, err := r.Store.Run(t.Context(), r.ws.ID, "old"); err != nil {
		t.Errorf("its run, with its metrics, is gone: %v", err)
	}
}

func TestAJobIsKeptWhileADatasetNamesWhatItWrote(t *testing.T) {
	r := newRunRig(t)
	now := r.Clock.Now
	r.Clock.Now = func() time.Time { return now().Add(-30 * 24 * time.Hour) }
	output := `"outputData":{"out":{"mechanism":"mount","outputLocation":{"dataPath":{"datastoreName":"` + DefaultDatastore + `","relativePath":"made"}},` +
		`"additionalOptions":{"registrationOptions":{"name":"made"}}}}`
	job, err := r.run("exp_1", output)
	if err != nil {
		t.Fatal(err)
	}
	r.Clock.Now = now
	r.upload("made/a.csv")
	container, err := Container(r.ws.ID, DefaultDatastore)
	if err != nil {
		t.Fatal(err)
	}
	row := r.force(job, func(j *store.Job) {
		j.State, j.Phase, j.Due, j.Ended = workspace.Completed, store.Released, nil, job.Created+1000
	})
	err = r.Store.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutJobFile(t.Context(), store.JobFile{JobID: row.ID, Output: "out", Path: "a.csv", Place: "c/" + container + "/made/a.csv"}); err != nil {
			return err
		}
		return r.RegisterOutputs(t.Context(), tx, row)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Retention = 7 * 24 * time.Hour
	for _, jobs := range []int{0, 1} {
		if g, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil || g.Jobs != jobs {
			t.Errorf("collected: %+v, %v; want %d jobs", g, err, jobs)
		}
		if jobs == 0 {
			if err := r.UnregisterDataset(t.Context(), r.admin, r.ws, "made"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// unpinned is the store a day later: what was pinned has run out.
type unpinned struct{ *store.Store }

// Condemn finds no pin in its way.
func (u unpinned) Condemn(ctx context.Context, hashes []string) ([]string, error) {
	return hashes, ctx.Err()
}

// Pin keeps nothing.
func (unpinned) Pin(context.Context, []string, time.Duration) ([]string, error) { return nil, nil }
