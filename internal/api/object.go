package api

import (
	"encoding/json"
	"net/http"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Object is a JSON object of which only some fields are looked at; the others travel as they came.
type Object map[string]json.RawMessage

// AsObject reads an object. Anything else, null too, is an empty one.
func AsObject(b json.RawMessage) Object {
	o := Object{}
	if len(b) > 0 && json.Unmarshal(b, &o) != nil || o == nil {
		return Object{}
	}
	return o
}

// ReadObject reads a request's body, which must be an object. Its properties, which every document of ARM has, must be
// one too if they are there.
func ReadObject(r *http.Request) (Object, error) {
	b, err := ReadJSON(r)
	if err != nil {
		return nil, err
	}
	var o Object
	if err := Decode(b, &o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidRequestContent", Message: "the request's body is not an object", Mend: "send a JSON object"}
	}
	if o.Has("properties") && o["properties"][0] != '{' {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidRequestContent", Target: "properties", Message: "the body's properties are not an object", Mend: "send properties as a JSON object"}
	}
	return o, nil
}

// Set lays a value over a field. Values of ours always encode.
func (o Object) Set(field string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("api: a field of ours cannot be encoded: " + err.Error())
	}
	o[field] = b
}

// Fill sets a field that is absent or null.
func (o Object) Fill(field string, v any) {
	if !o.Has(field) {
		o.Set(field, v)
	}
}

// Has tells whether a field is there and not null.
func (o Object) Has(field string) bool { return len(o[field]) > 0 && string(o[field]) != "null" }

// Child is a field that is an object.
func (o Object) Child(field string) Object { return AsObject(o[field]) }

// Text is a field that is text, or "".
func (o Object) Text(field string) string {
	var s string
	_ = json.Unmarshal(o[field], &s) // another type is as good as none
	return s
}

// JSON gives the object as text.
func (o Object) JSON() json.RawMessage {
	b, err := json.Marshal(o)
	if err != nil {
		panic("api: an object of raw fields cannot be encoded: " + err.Error()) // each was valid when it came
	}
	return b
}
