package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// maxNesting is how deep the arrays and objects of a JSON body may lie in each other.
const maxNesting = 100

// ReadJSON gives a request's body as one JSON value; an empty body is "{}". The body's size is limited by the router,
// its nesting here. A Problem InvalidJSON names line and column.
func ReadJSON(r *http.Request) (json.RawMessage, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("api: read body: %w", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return json.RawMessage("{}"), nil
	}
	if err := checkJSON(b); err != nil {
		return nil, err
	}
	return b, nil
}

// DecodeJSON reads a request's body into v, which is a pointer. Fields that v lacks are ignored.
func DecodeJSON(r *http.Request, v any) error {
	b, err := ReadJSON(r)
	if err != nil {
		return err
	}
	return Decode(b, v)
}

// Decode reads JSON text into v. A value of a wrong type is a Problem that names the field.
func Decode(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidValue", Target: wrongType.Field,
			Message: fmt.Sprintf("field %q cannot be a %s", wrongType.Field, wrongType.Value), Cause: place(b, wrongType.Offset), Mend: "give a value of type " + wrongType.Type.String(),
		}
	}
	if err != nil {
		return invalidJSON(b, err)
	}
	return nil
}

func checkJSON(b []byte) error {
	if at, deep := tooDeep(b); deep {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidJSON", Message: fmt.Sprintf("the request's body is nested more than %d deep", maxNesting), Cause: place(b, at),
			Mend: "send a flatter document",
		}
	}
	if at := notUTF8(b); at > 0 {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidJSON", Message: "the request's body is not UTF-8", Cause: place(b, at), Mend: "send text encoded as UTF-8"}
	}
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		return invalidJSON(b, err)
	}
	return nil
}

// notUTF8 is the place of the first byte that is no part of a character, counted from 1; 0: there is none.
func notUTF8(b []byte) int64 {
	if utf8.Valid(b) {
		return 0
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return int64(i) + 1
		}
		i += n
	}
	return 0
}

func invalidJSON(b []byte, err error) *workspace.Problem {
	p := &workspace.Problem{Class: workspace.Invalid, Code: "InvalidJSON", Message: "the request's body is not valid JSON", Cause: err.Error(), Mend: "send well-formed JSON"}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		p.Cause = place(b, syntax.Offset) + ": " + err.Error()
	}
	return p
}

// place says where an offset is.
func place(b []byte, offset int64) string {
	before := b[:max(0, min(offset-1, int64(len(b))))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

// tooDeep looks for nesting over the limit without building anything.
func tooDeep(b []byte) (offset int64, deep bool) {
	depth, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return int64(i) + 1, true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return 0, false
}
