package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (e *exam) workspacePath(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := workspace.Workspace{ID: "1", Subscription: "Sub", ResourceGroup: "Group", Name: "Name", Location: "here", Created: 5}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.InsertWorkspace(ctx, want) })
	for _, get := range []func() (workspace.Workspace, error){
		func() (workspace.Workspace, error) { return s.Workspace(ctx, "SUB", "group", "Name") },
		func() (workspace.Workspace, error) { return s.WorkspaceByID(ctx, "1") },
	} {
		if d := cmp.Diff(want, must[workspace.Workspace](t)(get())); d != "" {
			t.Error(d)
		}
	}
	if _, err := s.Workspace(ctx, "Sub", "Group", "name"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the case of the name was ignored: %v", err)
	}
	err := s.Write(ctx, func(tx *store.Tx) error {
		return tx.InsertWorkspace(ctx, workspace.Workspace{ID: "2", Subscription: "sub", ResourceGroup: "group", Name: "Name"})
	})
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("two workspaces at one path: %v", err)
	}
}

func (e *exam) workspaceDelete(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1), job(2, func(j *store.Job) { j.WorkspaceID = "other" }))
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.PutDocument(ctx, store.Document{WorkspaceID: "w", Collection: "codes", Name: "n"}); err != nil {
			return err
		}
		for _, id := range []string{store.DatastoreSecret("w", "mine"), store.DatastoreSecret("wide", "mine"), "w"} {
			if err := tx.PutSecret(ctx, store.Secret{ID: id, Sealed: []byte("x")}); err != nil {
				return err
			}
		}
		if err := tx.InsertWorkspace(ctx, workspace.Workspace{ID: "w", Name: "w"}); err != nil {
			return err
		}
		return tx.DeleteWorkspace(ctx, "w")
	})
	if l := must[[]store.Secret](t)(s.Secrets(ctx)); len(l) != 2 || l[0].ID != store.DatastoreSecret("wide", "mine") || l[1].ID != "w" {
		t.Errorf("secrets that are left: %v", l)
	}
	if l := must[[]workspace.Workspace](t)(s.Workspaces(ctx)); len(l) != 0 {
		t.Error(l)
	}
	if _, err := s.JobByID(ctx, id(1)); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if l := must[[]store.Document](t)(s.Documents(ctx, "w", "codes", "", store.Page{})); len(l) != 0 {
		t.Error(l)
	}
	must[store.Job](t)(s.JobByID(ctx, id(2)))
}

func (e *exam) computeFields(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := store.Compute{
		ID: "c1", WorkspaceID: "w", Name: "gpu", Kind: "ssh", Address: "ssh://u@h:22", ResourceID: "/subscriptions/…", Identity: []string{"a", "b"},
		Doc: []byte(`{"x":1}`), Settings: []byte(`{"y":2}`), SecretID: "s", Facts: []byte(`{"z":3}`), State: store.ComputeSucceeded,
		Health: store.HealthDenied, HealthReason: &workspace.Problem{Code: "X", Message: "m", Warning: true}, HealthSince: 9, Slots: 4, Due: new(int64(7)),
		Created: 1, Modified: 2, CreatedBy: "me", Alias: "other",
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.InsertCompute(ctx, want) })
	get := func() store.Compute { return must[store.Compute](t)(s.Compute(ctx, "w", "gpu")) }
	if d := cmp.Diff(want, get()); d != "" {
		t.Fatal(d)
	}
	want.Kind, want.Address, want.ResourceID, want.Identity, want.Doc, want.Settings = "local", "l", "r", nil, nil, []byte(`{}`)
	want.SecretID, want.Facts, want.State, want.Health, want.HealthReason, want.HealthSince = "t", nil, store.ComputeFailed, store.Healthy, nil, 10
	want.Slots, want.Due, want.Modified, want.Alias = 5, nil, 3, ""
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.UpdateCompute(ctx, want) })
	if d := cmp.Diff(want, get()); d != "" {
		t.Fatal(d)
	}
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.UpdateCompute(ctx, store.Compute{ID: "none"}) }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("update of an unknown compute: %v", err)
	}
	if l := must[[]store.Compute](t)(s.AllComputes(ctx)); len(l) != 1 {
		t.Error(l)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteCompute(ctx, "c1") })
	if _, err := s.ComputeByID(ctx, "c1"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func (e *exam) computeIdentity(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	add := func(c store.Compute) error {
		return s.Write(ctx, func(tx *store.Tx) error { return tx.InsertCompute(ctx, c) })
	}
	one := store.Compute{ID: "1", WorkspaceID: "w", Name: "one", Identity: []string{"machine", "key"}}
	for _, c := range []store.Compute{
		one, // and what differs in a part, is unknown, or is in another workspace
		{ID: "2", WorkspaceID: "w", Name: "two", Identity: []string{"machine", "other key"}},
		{ID: "3", WorkspaceID: "w", Name: "three"},
		{ID: "4", WorkspaceID: "w", Name: "four"},
		{ID: "5", WorkspaceID: "v", Name: "one", Identity: []string{"machine", "key"}},
	} {
		if err := add(c); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
	}
	if err := add(store.Compute{ID: "6", WorkspaceID: "w", Name: "six", Identity: one.Identity}); !errors.Is(err, store.ErrSameTarget) || !errors.Is(err, store.ErrExists) {
		t.Errorf("a second attachment: %v", err)
	}
	err := s.Write(ctx, func(tx *store.Tx) error {
		return tx.UpdateCompute(ctx, store.Compute{ID: "3", WorkspaceID: "w", Identity: one.Identity})
	})
	if !errors.Is(err, store.ErrSameTarget) {
		t.Errorf("a second attachment by update: %v", err)
	}
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.UpdateCompute(ctx, one) }); err != nil {
		t.Errorf("its own identity stands in the way: %v", err)
	}
	if first := must[store.Compute](t)(s.ComputeByIdentity(ctx, "w", one.Identity)); first.Name != "one" {
		t.Errorf("found %q", first.Name)
	}
}

func (e *exam) computeName(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	for n, want := range []error{nil, store.ErrExists} {
		err := s.Write(ctx, func(tx *store.Tx) error {
			return tx.InsertCompute(ctx, store.Compute{ID: fmt.Sprint(n), WorkspaceID: "w", Name: "same"})
		})
		if !errors.Is(err, want) || errors.Is(err, store.ErrSameTarget) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func versions(list []store.Document) []string {
	out := []string{}
	for _, d := range list {
		out = append(out, d.Name+":"+d.Version)
	}
	return out
}

func (e *exam) documents(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	put := func(d store.Document) (created bool) {
		d.WorkspaceID, d.Collection = "w", "codes"
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
			created, err = tx.PutDocument(ctx, d)
			return err
		})
		return created
	}
	want := store.Document{
		ID: "x", WorkspaceID: "w", Collection: "codes", Name: "a", Version: "0", Hash: "h", Body: []byte(`{"k":"v"}`),
		Created: 1, Modified: 2, CreatedBy: "me", ModifiedBy: "you",
	}
	put(want)
	if d := cmp.Diff(want, must[store.Document](t)(s.Document(ctx, "w", "codes", "a", "0"))); d != "" {
		t.Error(d)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteDocument(ctx, "w", "codes", "a", "0") })
	if _, err := s.Document(ctx, "w", "codes", "a", "0"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	for n := range 12 {
		if !put(store.Document{Name: "a", Version: fmt.Sprint(n), Hash: fmt.Sprint("h", n%3)}) {
			t.Error("not created")
		}
		put(store.Document{Name: "b", Version: fmt.Sprint(n)})
	}
	if put(store.Document{Name: "a", Version: "3", Body: []byte(`2`), Hash: "h0", Modified: 8}) {
		t.Error("a second put created it again")
	}
	if d := must[store.Document](t)(s.Document(ctx, "w", "codes", "a", "3")); string(d.Body) != "2" || d.Modified != 8 {
		t.Errorf("%+v", d)
	}
	first := must[[]store.Document](t)(s.Documents(ctx, "w", "codes", "a", store.Page{Limit: 3}))
	if d := cmp.Diff([]string{"a:11", "a:10", "a:9"}, versions(first)); d != "" {
		t.Error(d)
	}
	second := must[[]store.Document](t)(s.Documents(ctx, "w", "codes", "a", store.Page{Limit: 2, After: first[2].ID}))
	if d := cmp.Diff([]string{"a:8", "a:7"}, versions(second)); d != "" {
		t.Error(d)
	}
	if all := must[[]store.Document](t)(s.Documents(ctx, "w", "codes", "", store.Page{Limit: 2})); len(all) != 2 || all[0].Name != "b" {
		t.Error(versions(all))
	}
	if d := must[store.Document](t)(s.DocumentByHash(ctx, "w", "codes", "h0")); d.Version != "9" {
		t.Errorf("by hash: %s", d.Version)
	}
	if d := must[store.Document](t)(s.LatestDocument(ctx, "w", "codes", "a")); d.Version != "11" {
		t.Errorf("latest: %s", d.Version)
	}
	if d := must[store.Document](t)(s.LatestDocumentBut(ctx, "w", "codes", "a", "1")); d.Version != "9" { // neither 11 nor 10 nor 1
		t.Errorf("latest but for a prefix: %s", d.Version)
	}
	if _, err := s.LatestDocumentBut(ctx, "w", "codes", "a", ""); !errors.Is(err, store.ErrNotFound) { // every version begins so
		t.Errorf("latest but for all: %v", err)
	}
	err := s.Write(ctx, func(tx *store.Tx) error {
		return tx.InsertDocument(ctx, store.Document{WorkspaceID: "w", Collection: "codes", Name: "a", Version: "3"})
	})
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("insert of one that is there: %v", err)
	}
}

func (e *exam) containers(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		for _, v := range []string{"b:1", "a:1", "b:2", "c:1", "a:2"} {
			if _, err := tx.PutDocument(ctx, store.Document{WorkspaceID: "w", Collection: "data", Name: v[:1], Version: v[2:]}); err != nil {
				return err
			}
		}
		return nil
	})
	first := must[[]store.Document](t)(s.Containers(ctx, "w", "data", store.Page{Limit: 2}))
	if d := cmp.Diff([]string{"a:2", "b:2"}, versions(first)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"c:1"}, versions(must[[]store.Document](t)(s.Containers(ctx, "w", "data", store.Page{After: "b"})))); d != "" {
		t.Error(d)
	}
}

func (e *exam) settings(t *testing.T) {
	url := e.fresh(t)
	a, b := Open(t, url), Open(t, url)
	for _, s := range []*store.Store{a, b, a} {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			v, err := tx.PutSettingIfAbsent(ctx, "key", []byte{0, byte(len(url))})
			if string(v) != string([]byte{0, byte(len(url))}) {
				t.Errorf("stands %v", v)
			}
			return err
		})
		url += "x"
		url = url[:len(url)-1]
	}
	write(t, b, func(ctx context.Context, tx *store.Tx) error {
		v, err := tx.PutSettingIfAbsent(ctx, "key", []byte("other"))
		if string(v) == "other" {
			t.Error("the second server replaced the first one's value")
		}
		return err
	})
	if _, err := a.Setting(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func (e *exam) secrets(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	for _, v := range []string{"one\x00", "two\xff"} {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			return tx.PutSecret(ctx, store.Secret{ID: "s", Sealed: []byte(v)})
		})
		if got := must[store.Secret](t)(s.Secret(ctx, "s")); string(got.Sealed) != v {
			t.Errorf("%q", got.Sealed)
		}
	}
	if l := must[[]store.Secret](t)(s.Secrets(ctx)); len(l) != 1 {
		t.Error(len(l))
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteSecret(ctx, "s") })
	if _, err := s.Secret(ctx, "s"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func (e *exam) resources(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := store.Resource{ID: "/subscriptions/S/virtualMachines/VM1", Address: "ssh://b", Settings: []byte(`{"folder":"/x"}`), SecretID: "resource/x", Created: 3}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.PutResource(ctx, store.Resource{ID: "/SUBSCRIPTIONS/s/virtualmachines/vm1", Address: "ssh://a", SecretID: "y", Created: 3}); err != nil {
			return err
		}
		return tx.PutResource(ctx, want)
	})
	if d := cmp.Diff(want, must[store.Resource](t)(s.Resource(ctx, "/subscriptions/s/VIRTUALMACHINES/vm1"))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]store.Resource{want}, must[[]store.Resource](t)(s.Resources(ctx))); d != "" {
		t.Error(d)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteResource(ctx, want.ID) })
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.DeleteResource(ctx, want.ID) }); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func (e *exam) audit(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	for n := range 5 {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			return tx.InsertAudit(ctx, store.AuditEntry{Principal: "p", WorkspaceID: "w", Action: "a", Target: fmt.Sprint(n), Outcome: "ok", Detail: "d"})
		})
	}
	list := must[[]store.AuditEntry](t)(s.AuditLog(ctx, "w", store.Page{Limit: 2}))
	if len(list) != 2 || list[0].Target != "4" || list[0].ID == "" || list[0].At == 0 {
		t.Fatalf("%+v", list)
	}
	if rest := must[[]store.AuditEntry](t)(s.AuditLog(ctx, "", store.Page{After: list[1].ID})); len(rest) != 3 {
		t.Errorf("%d entries left, want 3", len(rest))
	}
	if l := must[[]store.AuditEntry](t)(s.AuditLog(ctx, "other", store.Page{})); len(l) != 0 {
		t.Error(l)
	}
	for _, c := range []struct{ before, want int64 }{{list[0].At - time.Hour.Milliseconds(), 0}, {list[0].At + 1, 5}} {
		if n := must[int64](t)(s.CountAudit(ctx, c.before)); n != c.want {
			t.Errorf("%d entries counted, want %d", n, c.want)
		}
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			n, err := tx.DeleteAudit(ctx, c.before)
			if err == nil && n != c.want {
				err = fmt.Errorf("%d entries removed, want %d", n, c.want)
			}
			return err
		})
	}
}

func (e *exam) environments(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := store.PreparedEnvironment{ComputeID: "c", Hash: "h", Phase: "failed", Spec: []byte(`{}`), LastUsed: 5, Problem: &workspace.Problem{Code: "C", Message: "m"}}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.PutPreparedEnvironment(ctx, store.PreparedEnvironment{ComputeID: "c", Hash: "h", Phase: "preparing"}); err != nil {
			return err
		}
		return tx.PutPreparedEnvironment(ctx, want)
	})
	if d := cmp.Diff(want, must[store.PreparedEnvironment](t)(s.PreparedEnvironment(ctx, "c", "h"))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]store.PreparedEnvironment{want}, must[[]store.PreparedEnvironment](t)(s.PreparedEnvironments(ctx, "c"))); d != "" {
		t.Error(d)
	}
}

func (e *exam) jobFiles(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := store.JobFile{JobID: "j", Output: "outputs", Path: "ä/b c", Size: 4, Mode: 0o755, Modified: 1 << 60, Place: "p"}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.PutJobFile(ctx, store.JobFile{JobID: "j", Output: "outputs", Path: "ä/b c"}); err != nil {
			return err
		}
		return tx.PutJobFile(ctx, want)
	})
	if d := cmp.Diff([]store.JobFile{want}, must[[]store.JobFile](t)(s.JobFiles(ctx, "j"))); d != "" {
		t.Error(d)
	}
}

func (e *exam) pins(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	hashes := make([]string, 700)
	for n := range hashes {
		hashes[n] = id(n)
	}
	if gone := must[[]string](t)(s.Pin(ctx, append(hashes[:600:600], hashes[0]), time.Hour)); len(gone) != 0 {
		t.Fatalf("condemned from the start: %d", len(gone))
	}
	gone := must[[]string](t)(s.Condemn(ctx, hashes))
	if len(gone) != 100 {
		t.Fatalf("%d condemned, want the 100 that nobody pinned", len(gone))
	}
	if again := must[[]string](t)(s.Pin(ctx, hashes, time.Hour)); len(again) != 100 {
		t.Fatalf("%d are told to be going, want 100", len(again))
	}
	if l := must[[]store.Pin](t)(s.Pinned(ctx, store.Page{Limit: 1000})); len(l) != 600 {
		t.Fatalf("%d pinned", len(l))
	}
	if err := s.Forget(ctx, gone); err != nil {
		t.Fatal(err)
	}
	if again := must[[]string](t)(s.Pin(ctx, hashes, time.Hour)); len(again) != 0 {
		t.Fatalf("%d are still told to be going", len(again))
	}
	// What ran out is fair game.
	short := []string{"short"}
	must[[]string](t)(s.Pin(ctx, short, time.Millisecond))
	eventually(t, "the short pin runs out", func() bool { return len(must[[]string](t)(s.Condemn(ctx, short))) == 1 })
	if err := s.DeletePins(ctx); err != nil {
		t.Fatal(err)
	}
}
