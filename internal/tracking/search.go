package tracking

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
)

// MaxResults is the most that one page of a search may hold.
const MaxResults = 50000

// maxExperiments bounds the experiments of one search.
const maxExperiments = 50000

// RunSearch is one page of a search as clients ask for it.
type RunSearch struct {
	Experiments []int64
	Filter      string
	OrderBy     []string
	Stage       string // empty: both
	Limit       int
	Token       string
}

// details is how many runs are completed at a time, so that a page of any size needs little memory.
const details = 500

// SearchRuns hands a page of runs to yield, some hundred at a time, and gives the token of the next page, empty at the end.
// A fault of the query is found before the first call of yield.
func (t *Tracking) SearchRuns(ctx context.Context, s Scope, q RunSearch, yield func([]CompleteRun) error) (string, error) {
	conditions, err := filter.Parse(filter.Runs(), q.Filter)
	if err != nil {
		return "", err
	}
	orders, err := filter.ParseOrder(filter.Runs(), q.OrderBy)
	if err != nil {
		return "", err
	}
	offset, err := readOffset(q.Token)
	if err != nil {
		return "", err
	}
	if len(q.Experiments) > maxExperiments {
		return "", invalid("experiment_ids", "one search may name at most %d experiments", maxExperiments)
	}
	for _, id := range q.Experiments {
		if err := s.allow(id); err != nil {
			return "", err
		}
	}
	runs, err := t.store.SearchRuns(ctx, store.RunQuery{
		WorkspaceID: s.WorkspaceID, Experiments: q.Experiments, Conditions: conditions, Orders: orders, Stage: q.Stage,
		Under: s.Run, ArtifactBase: s.ArtifactBase, Offset: offset, Limit: q.Limit + 1,
	})
	if err != nil {
		return "", err
	}
	token := ""
	if len(runs) > q.Limit {
		runs, token = runs[:q.Limit], writeOffset(offset+q.Limit)
	}
	for len(runs) > 0 {
		n := min(details, len(runs))
		list, err := t.complete(ctx, s, runs[:n])
		if err != nil {
			return "", err
		}
		if err := yield(list); err != nil {
			return "", err
		}
		runs = runs[n:]
	}
	return token, nil
}

// offsetToken is a page token of a search, as MLflow's server writes it.
type offsetToken struct {
	Offset int `json:"offset"`
}

func writeOffset(n int) string { return writeToken(offsetToken{n}) }

func readOffset(token string) (int, error) {
	var o offsetToken
	if err := readToken(token, &o); err != nil {
		return 0, err
	}
	if o.Offset < 0 {
		return 0, badToken()
	}
	return o.Offset, nil
}

func badToken() error {
	return invalid("page_token", "Invalid page token, could not base64-decode")
}

func writeToken(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("tracking: a page token cannot be encoded: " + err.Error()) // numbers and text always can
	}
	return base64.StdEncoding.EncodeToString(b)
}

// readToken leaves v alone when there is no token.
func readToken(token string, v any) error {
	if token == "" {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(b, v) != nil {
		return badToken()
	}
	return nil
}
