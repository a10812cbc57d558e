package filter

import (
	"regexp"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The limits of a filter of the run history. A client asks for runs by their ids with one comparison for each.
const (
	maxHistoryFilter  = 256 << 10
	maxHistoryClauses = 400 // but for ids joined by "or", which become one list
	maxHistoryDepth   = 50
)

// ParseHistory reads a filter of Azure's run history; an empty one is nil. The language looks like OData and is what
// azureml-core pastes together without any escaping (azureml-v1.md §25): values in double quotes, in single ones or in
// none, blanks in the keys of tags and in bare times, and "has the tag" said as "Tags/k ne null or Tags/k eq null".
func ParseHistory(text string) (*store.Clause, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if len(text) > maxHistoryFilter {
		return nil, historyProblem("the filter is longer than 256 KiB", "ask in several requests")
	}
	p := &history{text: text}
	c, err := p.either(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.problem("it goes on after its end")
	}
	return &c, nil
}

// history reads a filter from its beginning to its end.
type history struct {
	text    string
	at      int
	clauses int
}

func (p *history) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// word takes a word that joins, if it comes next.
func (p *history) word(w string) bool {
	p.space()
	rest := p.text[p.at:]
	if len(rest) <= len(w) || !strings.EqualFold(rest[:len(w)], w) || strings.IndexByte(" \t\r\n(", rest[len(w)]) < 0 {
		return false
	}
	p.at += len(w)
	return true
}

func (p *history) either(depth int) (store.Clause, error) { return p.joined(depth, "or", "OR", p.both) }
func (p *history) both(depth int) (store.Clause, error)   { return p.joined(depth, "and", "AND", p.one) }

func (p *history) joined(depth int, word, join string, next func(int) (store.Clause, error)) (store.Clause, error) {
	all := store.Clause{Join: join}
	for {
		c, err := next(depth)
		if err != nil {
			return c, err
		}
		all.Of = append(all.Of, c)
		if !p.word(word) {
			break
		}
	}
	if join == "OR" {
		all.Of = listed(there(all.Of))
	}
	if len(all.Of) == 1 {
		return all.Of[0], nil
	}
	if p.clauses += len(all.Of); p.clauses > maxHistoryClauses {
		return all, historyProblem("the filter has too many comparisons", "ask in several requests")
	}
	return all, nil
}

// one reads what is in parentheses, or one comparison.
func (p *history) one(depth int) (store.Clause, error) {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '(' {
		if depth >= maxHistoryDepth {
			return store.Clause{}, historyProblem("the filter is nested too deep", "leave parentheses out")
		}
		p.at++
		c, err := p.either(depth + 1)
		if err != nil {
			return c, err
		}
		if p.space(); p.at == len(p.text) || p.text[p.at] != ')' {
			return c, p.problem("a parenthesis is not closed")
		}
		p.at++
		return c, nil
	}
	return p.comparison()
}

var comparing = regexp.MustCompile(`(?i)\s(eq|ne|gt|ge|lt|le)\s`)

var historyOperators = map[string]store.Operator{
	"eq": store.Equal, "ne": store.NotEqual, "gt": store.Greater, "ge": store.GreaterEqual, "lt": store.Less, "le": store.LessEqual,
}

func (p *history) comparison() (store.Clause, error) {
	m := comparing.FindStringSubmatchIndex(p.text[p.at:])
	if m == nil {
		return store.Clause{}, p.problem("a comparison with eq, ne, gt, ge, lt or le is missing")
	}
	field, op := strings.TrimSpace(p.text[p.at:p.at+m[0]]), strings.ToLower(p.text[p.at+m[2]:p.at+m[3]])
	c, err := historyField(field)
	if err != nil {
		return c, err
	}
	c.Operator = historyOperators[op]
	p.at += m[1]
	p.space()
	if c.Text, c.Null, err = p.value(); err != nil {
		return c, err
	}
	if c.Null && c.Operator != store.Equal && c.Operator != store.NotEqual {
		return c, p.problem("null can be compared with eq and ne only")
	}
	if c.Field.IsTime() && !c.Null {
		at, ok := moment(c.Text)
		if !ok {
			return c, historyProblem("the filter has a time that cannot be read: "+clip(c.Text), "write times as 2026-11-24T08:34:23Z")
		}
		c.Time = at.UnixMilli()
	}
	return c, nil
}

// value reads a value. The end of a quoted one is the quote that a filter may end with, because quotes inside are not
// escaped; a bare one reaches to the parenthesis that closes it or to the next "and" or "or".
func (p *history) value() (text string, null bool, err error) {
	rest := p.text[p.at:]
	if rest == "" {
		return "", false, p.problem("a value is missing")
	}
	if q := rest[0]; q == '"' || q == '\'' {
		for i := 1; i < len(rest); i++ {
			if rest[i] == q && ends(rest[i+1:]) {
				p.at += i + 1
				text = rest[1:i]
				if q == '\'' {
					text = strings.ReplaceAll(text, "''", "'")
				}
				return text, false, nil
			}
		}
		return "", false, p.problem("a quote is not closed")
	}
	open, end := 0, len(rest)
scan:
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '(':
			open++
		case c == ')' && open == 0:
			end = i
			break scan
		case c == ')':
			open--
		case c == ' ' && open == 0 && joins(rest[i:]):
			end = i
			break scan
		}
	}
	p.at += end
	text = strings.TrimSpace(rest[:end])
	if strings.EqualFold(text, "null") {
		return "", true, nil
	}
	return text, false, nil
}

// ends tells whether a filter can end or go on here after a value.
func ends(rest string) bool {
	trimmed := strings.TrimLeft(rest, " \t\r\n")
	return trimmed == "" || trimmed[0] == ')' || joins(rest)
}

// joins tells whether a blank and a word that joins come next.
func joins(rest string) bool {
	trimmed := strings.TrimLeft(rest, " \t\r\n")
	if len(trimmed) == len(rest) {
		return false
	}
	for _, w := range []string{"and ", "or ", "and(", "or("} {
		if len(trimmed) >= len(w) && strings.EqualFold(trimmed[:len(w)], w) {
			return true
		}
	}
	return false
}

var historyNames = map[string]store.HistoryField{
	"runid": store.HistoryID, "parentrunid": store.HistoryParent, "rootrunid": store.HistoryRoot, "status": store.HistoryStatus, "runtype": store.HistoryType,
	"target": store.HistoryTarget, "name": store.HistoryName, "displayname": store.HistoryName, "userid": store.HistoryUser,
	"createdutc": store.HistoryCreated, "starttimeutc": store.HistoryStarted, "endtimeutc": store.HistoryEnded,
}

func historyField(name string) (store.Clause, error) {
	top, key, inside := strings.Cut(name, "/")
	switch strings.ToLower(top) {
	case "tags":
		return store.Clause{Field: store.HistoryTag, Key: key}, nil
	case "properties":
		return store.Clause{Field: store.HistoryProperty, Key: key}, nil
	}
	if f, known := historyNames[strings.ToLower(top)]; known && !inside {
		return store.Clause{Field: f}, nil
	}
	return store.Clause{}, historyProblem("the filter names an unknown field: "+clip(name),
		"use RunId, ParentRunId, RootRunId, Status, RunType, Target, Name, UserId, CreatedUtc, StartTimeUtc, EndTimeUtc, Tags/KEY or Properties/KEY")
}

// there finds "k ne null or k eq null", which means that there is a k.
func there(of []store.Clause) []store.Clause {
	if len(of) != 2 || !of[0].Null || !of[1].Null || of[0].Operator == of[1].Operator || of[0].Field != of[1].Field || of[0].Key != of[1].Key || of[0].Join != "" || of[1].Join != "" {
		return of
	}
	if f := of[0].Field; f != store.HistoryTag && f != store.HistoryProperty {
		return of
	}
	return []store.Clause{{Field: of[0].Field, Key: of[0].Key, Operator: store.Present}}
}

// listed makes one list of many ids joined by "or".
func listed(of []store.Clause) []store.Clause {
	if len(of) < 2 {
		return of
	}
	list := store.Clause{Field: store.HistoryID, Operator: store.In}
	for _, c := range of {
		if c.Join != "" || c.Field != store.HistoryID || c.Operator != store.Equal || c.Null {
			return of
		}
		list.List = append(list.List, c.Text)
	}
	return []store.Clause{list}
}

// ParseHistoryOrder reads an order such as "StartTimeUtc desc, RunId".
func ParseHistoryOrder(text string) ([]store.HistoryOrder, error) {
	var out []store.HistoryOrder
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		f, known := historyNames[strings.ToLower(words[0])]
		down := len(words) == 2 && strings.EqualFold(words[1], "desc")
		if strings.EqualFold(words[0], "runnumber") {
			f, known = store.HistoryCreated, true
		}
		if !known || f == store.HistoryRoot || len(words) > 2 || len(words) == 2 && !down && !strings.EqualFold(words[1], "asc") || len(out) == 8 {
			return nil, historyProblem("the order cannot be read: "+clip(part), "write it as StartTimeUtc desc; the fields are those of the filter")
		}
		out = append(out, store.HistoryOrder{Field: f, Descending: down})
	}
	return out, nil
}

// moment reads a time as Python prints one, with a blank or with a T, with a zone or, meaning UTC, without.
func moment(text string) (time.Time, bool) {
	text = strings.Replace(text, " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func (p *history) problem(what string) error {
	return historyProblem("the filter cannot be read: "+what+", at "+clip(strings.TrimSpace(p.text[p.at:])), `write it as (Tags/key eq "value") and (Status eq Completed)`)
}

func historyProblem(message, mend string) error {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidFilter", Target: "filter", Message: message, Mend: mend}
}

// ParseHistoryExperiments reads a filter of experiments: comparisons of the name and of tags, joined by "and".
func ParseHistoryExperiments(text string) ([]store.Condition, error) {
	c, err := ParseHistory(text)
	if c == nil || err != nil {
		return nil, err
	}
	all := []store.Clause{*c}
	if c.Join == "AND" {
		all = c.Of
	}
	out := make([]store.Condition, len(all))
	for i, c := range all {
		out[i] = store.Condition{Operator: c.Operator, Text: c.Text}
		switch equal := c.Operator == store.Equal || c.Operator == store.NotEqual; {
		case c.Join == "" && c.Field == store.HistoryName && equal && !c.Null:
			out[i].Field, out[i].Key = store.Attribute, "name"
		case c.Join == "" && c.Field == store.HistoryTag && (equal || c.Operator == store.Present):
			out[i].Field, out[i].Key = store.Tag, c.Key
		default:
			return nil, historyProblem("this filter of experiments is not known", `write it as (name eq value) and (Tags/key eq value)`)
		}
	}
	return out, nil
}
