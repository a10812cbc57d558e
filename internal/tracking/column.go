package tracking

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// The types of columns that are numbers (azureml-v1.md §7).
const (
	typeDouble  = "double"
	typeInteger = "integer"
)

var errColumns = errors.New("tracking: columns are not an object of texts")

// columnsOf reads an object of types in its order. Azure's clients write "int" and "float" too.
func columnsOf(b json.RawMessage) ([]column, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errColumns
	}
	var out []column
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errColumns
		}
		kind, err := d.Token()
		if err != nil {
			return nil, errColumns
		}
		name, isText := key.(string)
		text, isType := kind.(string)
		if !isText || !isType || seen[name] {
			return nil, errColumns
		}
		seen[name] = true
		switch lower := strings.ToLower(text); lower {
		case "float", typeDouble:
			text = typeDouble
		case "int", "long", typeInteger:
			text = typeInteger
		case "string", "boolean", "bool", "null":
			text = lower
		}
		out = append(out, column{name, text})
	}
	return out, nil
}

// columnsText writes types as an object in their order.
func columnsText(columns []column) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range columns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(jsonText(c.name))
		b.WriteByte(':')
		b.Write(jsonText(c.kind))
	}
	b.WriteByte('}')
	return b.Bytes()
}

func jsonText(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("tracking: text cannot be encoded: " + err.Error()) // text always can
	}
	return b
}

// merge gives the columns that a metric has with an entry added to it. Whole numbers make place for others; any other
// difference is refused, because clients cannot read a metric whose values are not alike.
func merge(sh shape, kind string, columns json.RawMessage) (json.RawMessage, *workspace.Problem) {
	differs := func(cause string) *workspace.Problem {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "MetricTypeMismatch", Target: sh.Name, Message: "metric " + clip(sh.Name) + " was logged otherwise before",
			Cause: cause, Mend: "log it under another name",
		}
	}
	if sh.Kind != kind {
		return nil, differs("it is of type " + clip(kind) + ", and this value of type " + clip(sh.Kind))
	}
	had, err := columnsOf(columns)
	if err != nil {
		return nil, differs("its columns cannot be read")
	}
	kinds := make(map[string]string, len(sh.types))
	for _, c := range sh.types {
		kinds[c.name] = c.kind
	}
	if len(had) != len(kinds) {
		return nil, differs("it has other columns")
	}
	if numeric(kind, had) != sh.numeric() {
		return nil, differs("its values are of type " + clip(had[0].kind) + ", and this one of type " + clip(sh.types[0].kind))
	}
	for i, c := range had {
		now, has := kinds[c.name]
		switch {
		case !has:
			return nil, differs("this value has no column " + clip(c.name))
		case now == c.kind, now == typeInteger && c.kind == typeDouble, now == "null":
		case now == typeDouble && c.kind == typeInteger, c.kind == "null":
			had[i].kind = now
		default:
			return nil, differs("column " + clip(c.name) + " is of type " + clip(c.kind) + ", and in this value of type " + clip(now))
		}
	}
	return columnsText(had), nil
}

// numberOf reads a number. What JSON has no number for comes as text, as the clients' own decoder takes it.
func numberOf(b json.RawMessage) (float64, bool) {
	var n float64
	if json.Unmarshal(b, &n) == nil && string(b) != "null" {
		return n, true
	}
	switch strings.ToLower(strings.Trim(string(b), `"`)) {
	case "nan":
		return math.NaN(), true
	case "inf", "infinity":
		return math.Inf(1), true
	case "-inf", "-infinity":
		return math.Inf(-1), true
	}
	return 0, false
}
