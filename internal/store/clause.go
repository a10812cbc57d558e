package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// HistoryField is a part of a run that a filter of the run history looks at.
type HistoryField string

// The fields. HasTag and HasProperty are true where the key is there, whatever its value is.
const (
	HistoryID       HistoryField = "id"
	HistoryParent   HistoryField = "parent"
	HistoryRoot     HistoryField = "root"
	HistoryStatus   HistoryField = "status"
	HistoryType     HistoryField = "type"
	HistoryTarget   HistoryField = "target"
	HistoryName     HistoryField = "name"
	HistoryUser     HistoryField = "user"
	HistoryCreated  HistoryField = "created"
	HistoryStarted  HistoryField = "started"
	HistoryEnded    HistoryField = "ended"
	HistoryTag      HistoryField = "tag"
	HistoryProperty HistoryField = "property"
)

// Clause is a node of a filter of Azure's run history (azureml-v1.md §25): others joined, or a comparison.
type Clause struct {
	Join string // "AND" or "OR" of the clauses in Of; empty: a comparison
	Of   []Clause

	Field    HistoryField
	Key      string   // of a tag or a property
	Operator Operator // Equal to GreaterEqual; In with List; Present for a tag or a property that is there
	Null     bool     // the value is null
	Text     string
	Time     int64 // milliseconds since the epoch, for the fields that are times
	List     []string
}

// AzureStates are Azure's words for a status, each with the one of MLflow that means it.
var AzureStates = map[string]string{
	"NotStarted": "SCHEDULED", "Queued": "SCHEDULED", "Preparing": "SCHEDULED", "Provisioning": "SCHEDULED", "Starting": "SCHEDULED", "Unapproved": "SCHEDULED",
	"Running": "RUNNING", "Pausing": "RUNNING", "Paused": "RUNNING", "CancelRequested": "RUNNING", "Finalizing": "RUNNING", "NotResponding": "RUNNING",
	"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED",
}

// AzureState is Azure's word for a status of MLflow when no client said a closer one.
var AzureState = map[string]string{"SCHEDULED": "NotStarted", "RUNNING": "Running", "FINISHED": "Completed", "FAILED": "Failed", "KILLED": "Canceled"}

// State is Azure's word for the status of a run.
func (h HistoryRun) State() string {
	switch {
	case h.Job != nil:
		return string(h.Job.State)
	case AzureStates[h.Record.State] == h.Status:
		return h.Record.State
	}
	return AzureState[h.Status]
}

// stateExpr is HistoryRun.State in SQL.
var stateExpr = func() string {
	var closer, plain strings.Builder
	for _, w := range slices.Sorted(maps.Keys(AzureStates)) {
		fmt.Fprintf(&closer, " WHEN v.state = %s AND r.status = %s THEN v.state", quoted(w), quoted(AzureStates[w]))
	}
	for _, w := range slices.Sorted(maps.Keys(AzureState)) {
		fmt.Fprintf(&plain, " WHEN r.status = %s THEN %s", quoted(w), quoted(AzureState[w]))
	}
	return "(CASE WHEN j.state IS NOT NULL THEN j.state" + closer.String() + plain.String() + " END)"
}()

// historyExpr is the expression of each field that is one value, in the tables of historyFrom.
var historyExpr = map[HistoryField]string{
	HistoryID:      "r.id",
	HistoryParent:  "NULLIF(r.parent_id, '')",
	HistoryStatus:  stateExpr,
	HistoryType:    "COALESCE(NULLIF(v.run_type, ''), CASE WHEN r.job = 1 THEN '" + ScriptRun + "' END)",
	HistoryTarget:  "COALESCE(NULLIF(v.target, ''), NULLIF(j.compute_name, ''))",
	HistoryName:    "r.name",
	HistoryUser:    "r.user_id",
	HistoryCreated: "(r.number >> 21)",
	HistoryStarted: "r.start_time",
	HistoryEnded:   "r.end_time",
}

// ScriptRun is the type of a run that has a job.
const ScriptRun = "azureml.scriptrun"

// IsTime tells whether the values of a field are times.
func (f HistoryField) IsTime() bool {
	return f == HistoryCreated || f == HistoryStarted || f == HistoryEnded
}

// CreatedAt is when a run was made, in milliseconds since the epoch: its number begins with that.
func (r Run) CreatedAt() int64 { return r.Number >> 21 }

// clause is a filter as SQL, in parentheses.
func (q *sqlText) clause(c Clause, ws string) string {
	if c.Join != "" {
		parts := make([]string, len(c.Of))
		for i, of := range c.Of {
			parts[i] = q.clause(of, ws)
		}
		return "(" + strings.Join(parts, " "+c.Join+" ") + ")"
	}
	switch c.Field {
	case HistoryTag:
		return q.member("EXISTS (SELECT 1 FROM run_tags m WHERE m.run = r.number AND m.key = "+q.arg(c.Key), c)
	case HistoryProperty:
		of := q.dialect.members("COALESCE(NULLIF(NULLIF(j.properties, 'null'), ''), NULLIF(v.properties, 'null'), '{}')")
		return q.member("EXISTS (SELECT 1 FROM "+of+" m WHERE m.key = "+q.arg(c.Key), c)
	case HistoryRoot:
		under := "r.id IN (WITH RECURSIVE under (id) AS (" + q.tree(c.Text, ws) + ") SELECT id FROM under)"
		if c.Operator == NotEqual {
			return "NOT " + under
		}
		return under
	}
	expr := historyExpr[c.Field]
	switch {
	case c.Null && c.Operator == NotEqual:
		return expr + " IS NOT NULL"
	case c.Null:
		return expr + " IS NULL"
	case c.Operator == In:
		return expr + " IN " + q.dialect.texts(q.arg(jsonList(c.List)))
	case c.Field.IsTime():
		return q.order(expr, c.Operator, q.arg(c.Time))
	}
	return q.order(expr, c.Operator, q.arg(c.Text))
}

// member ends an EXISTS over keys and values. A null value is an empty one: keys without a value have that.
func (q *sqlText) member(exists string, c Clause) string {
	switch {
	case c.Operator == Present:
		return exists + ")"
	case c.Null:
		return exists + " AND " + q.order("m.value", c.Operator, "''") + ")"
	}
	return exists + " AND " + q.order("m.value", c.Operator, q.arg(c.Text)) + ")"
}

// order compares; what has no value is not equal to any.
func (q *sqlText) order(expr string, op Operator, value string) string {
	if op == NotEqual {
		return "(" + expr + " IS NULL OR " + expr + " <> " + value + ")"
	}
	return expr + " " + string(op) + " " + value
}
