package arm

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Operations are what goes on after a request was answered. They live in this process alone; after a restart, or on
// another server, a client learns from the resource itself how its operation ended. Close waits for all of them.
type Operations struct {
	clock   clock.Source
	running sync.WaitGroup

	mu   sync.Mutex
	byID map[string]*operation
}

type operation struct {
	cancel context.CancelFunc
	done   chan struct{}

	// under Operations.mu; done orders them for those who saw it closed
	ended time.Time
	left  []string
	err   error
}

// keepOperations is how long the end of an operation is remembered.
const keepOperations = time.Hour

// NewOperations makes an empty set.
func NewOperations(c clock.Source) *Operations {
	return &Operations{clock: c, byID: map[string]*operation{}}
}

// Close cancels what runs and waits for its end.
func (o *Operations) Close() {
	o.mu.Lock()
	for _, op := range o.byID {
		op.cancel()
	}
	o.mu.Unlock()
	o.running.Wait()
}

// start runs fn, and returns when it ended or the time is up. An operation outlives the request whose context is given.
func (o *Operations) start(ctx context.Context, id string, wait time.Duration, fn func(ctx context.Context) ([]string, error)) *operation {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	op := &operation{cancel: cancel, done: make(chan struct{})}
	o.mu.Lock()
	for old, had := range o.byID {
		if !had.ended.IsZero() && o.clock.Now().Sub(had.ended) > keepOperations {
			delete(o.byID, old)
		}
	}
	o.byID[id] = op
	o.mu.Unlock()
	o.running.Go(func() {
		defer cancel()
		left, err := fn(ctx)
		o.mu.Lock()
		op.left, op.err, op.ended = left, err, o.clock.Now()
		o.mu.Unlock()
		close(op.done)
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-op.done:
	case <-timer.C:
	}
	return op
}

func (o *Operations) find(id string) (op *operation, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op = o.byID[id]
	return op, op != nil && !op.ended.IsZero()
}

func (op *operation) over() bool {
	select {
	case <-op.done:
		return true
	default:
		return false
	}
}

func (h handlers) operationRoutes() []api.Route {
	return []api.Route{{Method: "GET", Pattern: ws("/operations/{id}"), Action: act("computes/read"), Handler: h.getOperation}}
}

// follow tells the client where to ask how an operation goes: at an absolute URL with its own api-version, without which
// azureml-core would add one (azureml-v1.md §4).
func follow(w http.ResponseWriter, r *http.Request, id string) {
	place := api.BaseURL(r) + api.WorkspaceOf(r).Path() + "/operations/" + id
	if version := r.URL.Query().Get("api-version"); version != "" {
		place += "?api-version=" + url.QueryEscape(version)
	}
	w.Header().Set("Azure-AsyncOperation", place)
	w.Header().Set("Location", place)
	w.Header().Set("Retry-After", "1")
}

// getOperation answers from what runs here, or from the compute that the id names: "attach.NAME" or "detach.NAME.ULID".
// While it goes on it has the state of the compute, which azureml-core prints.
func (h handlers) getOperation(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if op, ended := h.Operations.find(id); op != nil {
		switch {
		case !ended:
			return h.tell(w, r, string(store.ComputeDeleting), nil, nil)
		case op.err != nil:
			return h.tell(w, r, "Failed", api.ProblemOf(r, op.err), op.left)
		}
		return h.tell(w, r, "Succeeded", nil, op.left)
	}
	kind, name, _ := strings.Cut(id, ".")
	name, _, _ = strings.Cut(name, ".")
	row, err := h.Computes.Compute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name)
	gone := api.ProblemOf(r, err).Class == workspace.NotFound && err != nil
	switch {
	case kind == "detach" && gone:
		return h.tell(w, r, "Succeeded", nil, nil)
	case err != nil:
		return err
	case kind == "detach" && row.State == store.ComputeDeleting, kind == "attach" && row.State == store.ComputeCreating:
		return h.tell(w, r, string(row.State), nil, nil)
	case kind == "attach" && row.State == store.ComputeSucceeded:
		return h.tell(w, r, "Succeeded", nil, nil)
	case row.HealthReason != nil:
		return h.tell(w, r, "Failed", row.HealthReason, nil)
	}
	return h.tell(w, r, "Failed", &workspace.Problem{Code: "OperationInterrupted", Message: "the operation was interrupted by a restart of the server", Mend: "ask for it again"}, nil)
}

func (h handlers) tell(w http.ResponseWriter, r *http.Request, status string, p *workspace.Problem, left []string) error {
	body := map[string]any{"id": r.URL.Path, "name": r.PathValue("id"), "status": status, "properties": map[string]any{}}
	if len(left) > 0 {
		body["properties"] = map[string]any{"left": left}
	}
	if p != nil {
		body["error"] = verdictOf(p)
	}
	if status == string(store.ComputeCreating) || status == string(store.ComputeDeleting) {
		w.Header().Set("Retry-After", "1")
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

// verdict is an error as operations and provisioningErrors hold it. azureml-core shows code and message in words when it
// finds a statusCode beside them, and else the raw JSON (azureml-v1.md §4.4).
type verdict struct {
	api.ErrorBody

	StatusCode int `json:"statusCode"`
}

func verdictOf(p *workspace.Problem) verdict {
	return verdict{ErrorBody: api.Body(p), StatusCode: http.StatusBadRequest}
}
