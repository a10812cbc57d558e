package arm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// others are the methods that these tests do not call.
type others interface{ Computes }

// slow is a compute "vm1" whose detach takes its time, and whose state can be set.
type slow struct {
	others
	row   store.Compute
	takes time.Duration
	fails error
}

func (s *slow) Compute(_ context.Context, _ workspace.Principal, _ workspace.Workspace, name string) (store.Compute, error) {
	if name != s.row.Name {
		return store.Compute{}, &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Message: "not there", Mend: "attach it"}
	}
	return s.row, nil
}

func (s *slow) Detach(ctx context.Context, _ workspace.Principal, _ workspace.Workspace, _ string, _ control.DetachOptions) ([]string, error) {
	select {
	case <-time.After(s.takes):
		return []string{"a folder"}, s.fails
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var place = workspace.Workspace{ID: "W", Subscription: "s", ResourceGroup: "g", Name: "w", Location: "local"}

func ask(t *testing.T, h api.Handler, method, target, variable, value string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.SetPathValue(variable, value)
	r = api.With(r, workspace.Principal{Kind: "administrator"}, place)
	w := httptest.NewRecorder()
	if err := h(w, r); err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
	}
	return w, body
}

func TestDetachThatTakesLongIsAnOperation(t *testing.T) {
	for _, fails := range []error{nil, &workspace.Problem{Code: "Unreachable", Message: "it is silent", Mend: "wake it"}} {
		synctest.Test(t, func(t *testing.T) {
			c := clock.System()
			s := &slow{row: store.Compute{Name: "vm1", State: store.ComputeDeleting}, takes: detachWait + time.Minute, fails: fails}
			ops := NewOperations(c)
			defer ops.Close()
			h := handlers{Config{Computes: s, Operations: ops, Clock: c}}
			w, _ := ask(t, h.deleteCompute, http.MethodDelete, "https://h:1/x", "name", "vm1")
			link := w.Header().Get("Azure-AsyncOperation")
			if w.Code != http.StatusAccepted || w.Header().Get("Retry-After") != "1" || !strings.HasPrefix(link, "https://h:1"+place.Path()+"/operations/detach.vm1.") {
				t.Fatalf("%d %v", w.Code, w.Header())
			}
			id := link[strings.LastIndex(link, "/")+1:]
			w, body := ask(t, h.getOperation, http.MethodGet, link, "id", id)
			if body["status"] != "Deleting" || w.Header().Get("Retry-After") != "1" {
				t.Fatalf("while it runs: %v", body)
			}
			<-time.After(2 * time.Minute) // of the bubble's clock
			_, body = ask(t, h.getOperation, http.MethodGet, link, "id", id)
			if fails == nil && (body["status"] != "Succeeded" || body["properties"].(map[string]any)["left"] == nil) {
				t.Fatalf("after its end: %v", body)
			}
			if fails != nil && (body["status"] != "Failed" || body["error"].(map[string]any)["code"] != "Unreachable") {
				t.Fatalf("after it failed: %v", body)
			}
		})
	}
}

func TestCloseEndsOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ops := NewOperations(clock.System())
		op := ops.start(t.Context(), "detach.x.1", 0, func(ctx context.Context) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ops.Close()
		if !op.over() || !errors.Is(op.err, context.Canceled) {
			t.Fatalf("over %v, %v", op.over(), op.err)
		}
	})
}

func TestOperationIsKnownByItsComputeAfterARestart(t *testing.T) {
	c := clock.System()
	problem := &workspace.Problem{Code: "HostKeyChanged", Message: "another machine", Mend: "look"}
	for _, tt := range []struct {
		id   string
		row  store.Compute
		want string
		code any
	}{
		{"attach.vm1", store.Compute{Name: "vm1", State: store.ComputeCreating}, "Creating", nil},
		{"attach.vm1", store.Compute{Name: "vm1", State: store.ComputeSucceeded}, "Succeeded", nil},
		{"attach.vm1", store.Compute{Name: "vm1", State: store.ComputeFailed, HealthReason: problem}, "Failed", "HostKeyChanged"},
		{"detach.vm1.X", store.Compute{Name: "vm1", State: store.ComputeDeleting}, "Deleting", nil},
		{"detach.vm1.X", store.Compute{Name: "vm1", State: store.ComputeSucceeded}, "Failed", "OperationInterrupted"},
		{"detach.vm1.X", store.Compute{Name: "other"}, "Succeeded", nil},
	} {
		h := handlers{Config{Computes: &slow{row: tt.row}, Operations: NewOperations(c), Clock: c}}
		_, body := ask(t, h.getOperation, http.MethodGet, "https://h:1/x", "id", tt.id)
		var code any
		if e, ok := body["error"].(map[string]any); ok {
			code = e["code"]
		}
		if body["status"] != tt.want || code != tt.code {
			t.Errorf("%s of a compute in state %q: %v", tt.id, tt.row.State, body)
		}
	}
}
