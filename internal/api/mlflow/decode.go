package mlflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// handle makes a handler of a function of a decoded request. A nil answer is {}.
func handle[T any](h *handlers, limit int64, fn func(context.Context, tracking.Scope, *T) (any, error)) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := h.scope(r)
		if err != nil {
			return err
		}
		req := new(T)
		if err := decode(w, r, limit, req); err != nil {
			return err
		}
		out, err := fn(r.Context(), s, req)
		if err != nil {
			return err
		}
		if out == nil {
			out = struct{}{}
		}
		return api.WriteJSON(w, http.StatusOK, out)
	}
}

// decode reads a request into a struct by the names of its JSON fields: of a GET from the query, else from the body.
func decode(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return invalid("the query is malformed: %v", err)
		}
		b, err := queryJSON(q, reflect.TypeOf(into).Elem())
		if err != nil {
			return err
		}
		return unmarshal(b, into)
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	b, err := api.ReadJSON(r)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return invalid("Batched logging API requests must be at most %d bytes. The request's body is over %d bytes", large.Limit, large.Limit)
	}
	if err != nil {
		return err
	}
	if hasZero(b) {
		return invalid("the request holds a zero character (\\u0000), which no text may hold")
	}
	return unmarshal(b, into)
}

// queryJSON writes a query as JSON: every value is a string, which all field types take.
func queryJSON(q url.Values, t reflect.Type) ([]byte, error) {
	fields := make(map[string]any, len(q))
	for key, values := range q {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return nil, invalid("Invalid value for parameter '%s' supplied: it is not valid text", key)
			}
		}
		fields[key] = values[len(values)-1]
		for f := range t.Fields() {
			if f.Type.Kind() == reflect.Slice && f.Tag.Get("json") == key {
				fields[key] = values
			}
		}
	}
	return json.Marshal(fields)
}

func unmarshal(b []byte, into any) error {
	err := json.Unmarshal(b, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		value := wrong.Value
		if token := tokenBefore(b, wrong.Offset); token != "" {
			value = token
		}
		field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
		return invalid("Invalid value %s for parameter '%s' supplied: it cannot be read as a %s. See the API docs for more information about request parameters.", value, field, wrong.Type)
	}
	if err != nil {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidJSON", Message: "the request's body is not a JSON object", Cause: err.Error()}
	}
	return nil
}

// tokenBefore is the number or word that ends at an offset of valid JSON, empty for anything longer.
func tokenBefore(b []byte, end int64) string {
	if end < 0 || end > int64(len(b)) {
		return ""
	}
	head := b[:end]
	token := head[bytes.LastIndexAny(head, ":,[{ \t\r\n")+1:]
	if len(token) > 40 || bytes.ContainsAny(token, `"]}`) {
		return ""
	}
	return string(token)
}

// hasZero finds \u0000 in the strings of JSON; the databases refuse it, or worse, end the text there.
func hasZero(b []byte) bool {
	for {
		i := bytes.Index(b, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		back := 0
		for back < i && b[i-1-back] == '\\' {
			back++
		}
		if back%2 == 0 {
			return true
		}
		b = b[i+1:]
	}
}

func invalid(format string, args ...any) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidParameter", Message: fmt.Sprintf(format, args...)}
}

func missing(name string) error {
	return invalid("Missing value for required parameter '%s'. See the API docs for more information about request parameters.", name)
}

// integer is an int64 as clients send it: a number or decimal text.
type integer int64

// UnmarshalJSON reads a number, also one written as a fraction without a rest, or its text.
func (n *integer) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text := strings.Trim(string(b), `"`)
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		*n = integer(v)
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return &json.UnmarshalTypeError{Value: clip(string(b)), Type: reflect.TypeFor[int64]()}
	}
	*n = integer(f)
	return nil
}

// double is a float64 as clients send it: a number, its text, or "NaN", "Infinity", "-Infinity".
type double float64

// UnmarshalJSON reads one of these.
func (d *double) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text := strings.Trim(string(b), `"`)
	v, err := strconv.ParseFloat(text, 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // v is the infinity of the right sign, or the nearest number
	}
	if err != nil || strings.ContainsAny(text, "xX_") {
		return &json.UnmarshalTypeError{Value: clip(string(b)), Type: reflect.TypeFor[float64]()}
	}
	*d = double(v)
	return nil
}

// MarshalJSON writes NaN and infinities as the text that clients read.
func (d double) MarshalJSON() ([]byte, error) {
	switch v := float64(d); {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return json.Marshal(v)
	}
}

// word is an enumeration's value: its name, or its number as text.
type word string

// UnmarshalJSON reads a name or a number.
func (e *word) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*e = word(strings.Trim(string(b), `"`))
	}
	return nil
}

// oneOf gives the name of a value, which may be given as the place in the list, from 1. Empty is the fallback.
func (e word) oneOf(field, fallback string, names ...string) (string, error) {
	if e == "" {
		return fallback, nil
	}
	for i, n := range names {
		if string(e) == n || string(e) == strconv.Itoa(i+1) {
			return n, nil
		}
	}
	return "", invalid("Invalid value %q for parameter '%s' supplied: it must be one of %s", clip(string(e)), field, strings.Join(names, ", "))
}

func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
