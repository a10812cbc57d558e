package tracking

import (
	"context"
	"errors"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
)

// HistoryRun gives a run as Azure's run history shows it, deleted or not.
func (t *Tracking) HistoryRun(ctx context.Context, s Scope, id string) (store.HistoryRun, error) {
	if _, err := s.run(ctx, t.store, id); err != nil {
		return store.HistoryRun{}, err
	}
	return t.store.HistoryRun(ctx, s.WorkspaceID, id)
}

// Listing is one page of a list of runs as Azure's clients ask for it (azureml-v1.md §25).
type Listing struct {
	Experiment *int64 // nil: all
	Parent     string // the runs directly below this one
	Target     string // the runs on this compute
	Filter     string
	Order      string
	Limit      int
	Token      string
}

// MaxListing is the most that one page of a listing may hold.
const MaxListing = 1000

// listingToken is a page token: how many runs were given, and the newest run when the list was begun, so that runs which
// come meanwhile move nothing.
type listingToken struct {
	Offset int   `json:"offset"`
	Newest int64 `json:"newest"`
}

// ListRuns gives a page of active runs and the token of the next one, empty at the end. Without an order those come first
// that began last.
func (t *Tracking) ListRuns(ctx context.Context, s Scope, l Listing) ([]store.HistoryRun, string, error) {
	clause, err := filter.ParseHistory(l.Filter)
	if err != nil {
		return nil, "", err
	}
	orders, err := filter.ParseHistoryOrder(l.Order)
	if err != nil {
		return nil, "", err
	}
	if len(orders) == 0 {
		orders = []store.HistoryOrder{{Field: store.HistoryStarted, Descending: true}} // an index has it
	}
	var at listingToken
	if err := readToken(l.Token, &at); err != nil {
		return nil, "", err
	}
	if at.Offset < 0 {
		return nil, "", badToken()
	}
	if l.Experiment != nil {
		if err := s.allow(*l.Experiment); err != nil {
			return nil, "", err
		}
	}
	if l.Parent != "" {
		if _, err := s.run(ctx, t.store, l.Parent); err != nil {
			return nil, "", err
		}
	}
	if l.Target != "" {
		on := store.Clause{Field: store.HistoryTarget, Operator: store.Equal, Text: l.Target}
		if clause != nil {
			on = store.Clause{Join: "AND", Of: []store.Clause{on, *clause}}
		}
		clause = &on
	}
	if at.Newest == 0 {
		at.Newest = (t.clock.Millis()+1)<<21 - 1
	}
	if l.Limit <= 0 || l.Limit > MaxListing {
		l.Limit = MaxListing
	}
	runs, err := t.store.HistoryRuns(ctx, store.HistoryQuery{
		WorkspaceID: s.WorkspaceID, Experiment: l.Experiment, Parent: l.Parent, Under: s.Run, Filter: clause, Orders: orders,
		Newest: at.Newest, Offset: at.Offset, Limit: l.Limit + 1,
	})
	if err != nil || len(runs) <= l.Limit {
		return runs, "", err
	}
	at.Offset += l.Limit
	return runs[:l.Limit], writeToken(at), nil
}

// Root is the topmost run above one.
func (t *Tracking) Root(ctx context.Context, h store.HistoryRun) (string, error) {
	if h.ParentID == "" {
		return h.ID, nil
	}
	for _, l := range h.Tags {
		if l.Key == tagRoot {
			return l.Value, nil
		}
	}
	root, err := t.store.RunRoot(ctx, h.WorkspaceID, h.ParentID)
	if errors.Is(err, store.ErrNotFound) {
		return h.ParentID, nil // the parent is only named
	}
	return root, err
}

// PeoplesTags are the tags of a run that are people's, and the description that is kept as one of MLflow's.
func PeoplesTags(h store.HistoryRun) (tags map[string]string, description string) {
	tags = map[string]string{}
	if h.Job != nil {
		tags = textsOf(h.Job.Tags)
	}
	for _, l := range h.Tags {
		switch {
		case l.Key == tagNote:
			description = l.Value
		case h.Job == nil && !isSystem(l.Key):
			tags[l.Key] = l.Value
		}
	}
	return tags, description
}

// DeleteTags removes tags of an active run; what it does not have is passed over.
func (t *Tracking) DeleteTags(ctx context.Context, s Scope, id string, keys []string) (store.HistoryRun, error) {
	err := t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, id)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if isSystem(key) {
				continue // the run's name and place are no tags to a client of the history
			}
			if _, err := tx.DeleteRunTag(ctx, run.Number, key); err != nil {
				return err
			}
		}
		return labelJob(ctx, tx, run, nil, keys)
	})
	if err != nil {
		return store.HistoryRun{}, err
	}
	return t.store.HistoryRun(ctx, s.WorkspaceID, id)
}
