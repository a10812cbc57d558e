package yaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// reader takes typed values out of a document and gathers what is wrong with it, so that a person sees all at once.
type reader struct {
	doc      *Document
	problems []flaw
	warnings []workspace.Problem
}

// flaw is a problem with its place in the document.
type flaw struct {
	line, column int
	err          error
}

func (r *reader) fail(n *Node, code, message, mend string) {
	p := &workspace.Problem{Class: workspace.Invalid, Code: code, Target: r.doc.File, Message: message, Mend: mend}
	f := flaw{err: p}
	if n != nil {
		f.line, f.column = n.Line, n.Column
	}
	p.Message = r.doc.where(f.line, f.column) + ": " + message
	r.problems = append(r.problems, f)
}

func (r *reader) warn(line, column int, code, message, mend string) {
	r.warnings = append(r.warnings, workspace.Problem{
		Code: code, Target: r.doc.File, Warning: true,
		Message: r.doc.where(line, column) + ": " + message, Mend: mend,
	})
}

// err is everything that went wrong, in the order of the document, or nil.
func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b flaw) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	errs := make([]error, len(r.problems))
	for i, f := range r.problems {
		errs[i] = f.err
	}
	return errors.Join(errs...)
}

// object is a map whose fields are known by name.
type object struct {
	r    *reader
	n    *Node
	path string // e.g. "resources"; empty for the document itself
}

// object reads n as a map and warns of every field that is not known. A nil or empty node is an object without fields.
func (r *reader) object(n *Node, path string, known ...string) object {
	if n == nil || n.Kind == Null {
		return object{r: r, n: nil, path: path}
	}
	if n.Kind != Map {
		if path == "" {
			r.fail(n, "InvalidYAML", "the document must be a map of fields, not "+n.what(), "begin each line with a field's name and a colon")
		} else {
			r.fail(n, "InvalidField", fmt.Sprintf("%q must be a map of fields, not %s", path, n.what()), "")
		}
		return object{r: r, n: nil, path: path}
	}
	for _, f := range n.Fields {
		if slices.Contains(known, f.Key) {
			continue
		}
		message := fmt.Sprintf("unknown field %q", clip(join(path, f.Key)))
		mend := "it is ignored"
		if near := nearest(f.Key, known); near != "" {
			mend = fmt.Sprintf("it is ignored; did you mean %q?", near)
		}
		r.warn(f.Line, f.Column, "UnknownField", message, mend)
	}
	return object{r: r, n: n, path: path}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (o object) get(key string) *Node {
	n := o.n.Get(key)
	if n != nil && n.Kind == Null {
		return nil
	}
	return n
}

func (o object) has(key string) bool { return o.get(key) != nil }

func (o object) child(key string, known ...string) object {
	return o.r.object(o.get(key), join(o.path, key), known...)
}

// text reads a scalar as text, whatever its type.
func (o object) text(key string) string {
	n := o.get(key)
	if n == nil {
		return ""
	}
	if n.Kind != Scalar {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be text, not %s", join(o.path, key), n.what()), "")
		return ""
	}
	return n.Text
}

// number reads a whole number of at least low.
func (o object) number(key string, low int64) (int64, bool) {
	n := o.get(key)
	if n == nil {
		return 0, false
	}
	var v int64
	ok := false
	switch x := n.Value.(type) {
	case int64:
		v, ok = x, true
	case uint64:
		v, ok = int64(x), x < 1<<62
	case float64:
		v, ok = int64(x), x == float64(int64(x))
	}
	if n.Kind != Scalar || !ok {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be a whole number, not %s", join(o.path, key), n.what()), "")
		return 0, false
	}
	if v < low {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be at least %d, not %d", join(o.path, key), low, v), "")
		return 0, false
	}
	return v, true
}

func (o object) boolean(key string) (value, ok bool) {
	n := o.get(key)
	if n == nil {
		return false, false
	}
	if b, is := n.Value.(bool); is {
		return b, true
	}
	o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be true or false, not %s", join(o.path, key), n.what()), "")
	return false, false
}

// texts reads a map of text to text: scalars of any type, as they are written.
func (o object) texts(key string) map[string]any {
	n := o.get(key)
	if n == nil {
		return nil
	}
	if n.Kind != Map {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be a map of names and values, not %s", join(o.path, key), n.what()), "")
		return nil
	}
	out := make(map[string]any, len(n.Fields))
	for _, f := range n.Fields {
		switch f.Value.Kind {
		case Scalar:
			out[f.Key] = pythonText(f.Value)
		case Null:
			out[f.Key] = ""
		default:
			o.r.fail(f.Value, "InvalidField", fmt.Sprintf("%q must be text, not %s", join(join(o.path, key), f.Key), f.Value.what()), "put it in quotes")
		}
	}
	return out
}

// list reads a list of text; one text alone is a list of one.
func (o object) list(key string) []string {
	n := o.get(key)
	if n == nil {
		return nil
	}
	if n.Kind == Scalar {
		return []string{n.Text}
	}
	var out []string
	for _, item := range n.Items {
		if item.Kind != Scalar {
			o.r.fail(item, "InvalidField", fmt.Sprintf("%q must be a list of texts, not %s", join(o.path, key), item.what()), "")
			continue
		}
		out = append(out, item.Text)
	}
	if n.Kind != List {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q must be a list, not %s", join(o.path, key), n.what()), "")
	}
	return out
}

// choice reads a text that must be one of the keys of table, in any spelling of case, and gives what stands beside it.
func (o object) choice(key string, table map[string]string) string {
	n := o.get(key)
	if n == nil {
		return ""
	}
	text := strings.ToLower(o.text(key))
	if v, ok := table[text]; ok {
		return v
	}
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	mend := "use one of " + strings.Join(names, ", ")
	if near := nearest(text, names); near != "" {
		mend = fmt.Sprintf("did you mean %q? It may be one of %s", near, strings.Join(names, ", "))
	}
	if n.Kind == Scalar {
		o.r.fail(n, "InvalidField", fmt.Sprintf("%q cannot be %s", join(o.path, key), n.what()), mend)
	}
	return ""
}

// pythonText renders a scalar as Azure's v2 client sends it: str() of the value, so true is "True". Numbers stay as
// they are written.
func pythonText(n *Node) string {
	if b, ok := n.Value.(bool); ok {
		if b {
			return "True"
		}
		return "False"
	}
	return n.Text
}
