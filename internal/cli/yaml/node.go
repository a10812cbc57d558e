// Package yaml reads the YAML documents that people write for Azure ML's v2 client, jobs and computes, and turns them
// into the bodies of the ARM API (azureml-v2.md §14). A field that it does not know is a warning with its line and the
// nearest name that it does know, never an error. It reads files that a document refers to; it never talks to a server.
// Package cli calls it.
package yaml

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Kind is what a node is.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Scalar
	List
	Map
)

// Node is one value of a document, with its place. Aliases and merge keys are already resolved.
type Node struct {
	Kind   Kind
	Line   int // from 1; 0 for what did not come from a file
	Column int
	Text   string // of a scalar: as it was written, without quotes
	Value  any    // of a scalar: string, bool, int64, uint64 or float64
	Fields []Field
	Items  []*Node
}

// Field is one entry of a map.
type Field struct {
	Key    string
	Line   int
	Column int
	Value  *Node
}

// Get is the value under key, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	for _, f := range n.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// Any is the node as JSON knows it: nil, string, bool, a number, []any or map[string]any.
func (n *Node) Any() any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case Scalar:
		if f, ok := n.Value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return n.Text
		}
		return n.Value
	case List:
		out := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			out = append(out, item.Any())
		}
		return out
	case Map:
		out := make(map[string]any, len(n.Fields))
		for _, f := range n.Fields {
			out[f.Key] = f.Value.Any()
		}
		return out
	default:
		return nil
	}
}

// what names a node's form for messages.
func (n *Node) what() string {
	switch n.Kind {
	case Scalar:
		return strconv.Quote(clip(n.Text))
	case List:
		return "a list"
	case Map:
		return "a map"
	default:
		return "nothing"
	}
}

func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// Bounds on what one document may hold; aliases count as often as they are used, so they cannot multiply without end.
const (
	maxBytes = 1 << 20
	maxNodes = 200_000
	maxDepth = 100
)

// builder turns the parser's tree into Nodes.
type builder struct {
	anchors map[string]*Node
	count   int
}

type placeError struct {
	line, column int
	text         string
}

func (e *placeError) Error() string { return e.text }

func at(n ast.Node, format string, args ...any) error {
	e := &placeError{text: fmt.Sprintf(format, args...)}
	e.line, e.column = place(n)
	return e
}

func place(n ast.Node) (line, column int) {
	if n == nil {
		return 0, 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 0, 0
}

func (b *builder) node(n ast.Node, depth int) (*Node, error) {
	b.count++
	if b.count > maxNodes {
		return nil, at(n, "the document holds more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return nil, at(n, "the document is nested deeper than %d levels", maxDepth)
	}
	out := &Node{}
	out.Line, out.Column = place(n)
	switch v := n.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode, *ast.CommentNode:
	case *ast.StringNode:
		out.scalar(v.Value, v.Value)
	case *ast.LiteralNode:
		text := ""
		if v.Value != nil {
			text = v.Value.Value
		}
		out.scalar(text, text)
	case *ast.IntegerNode:
		out.scalar(v.Token.Value, v.Value)
	case *ast.FloatNode:
		out.scalar(v.Token.Value, v.Value)
	case *ast.InfinityNode:
		out.scalar(v.Token.Value, v.Value)
	case *ast.NanNode:
		out.scalar(v.Token.Value, math.NaN())
	case *ast.BoolNode:
		out.scalar(v.Token.Value, v.Value)
	case *ast.SequenceNode:
		out.Kind = List
		for _, item := range v.Values {
			child, err := b.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, child)
		}
	case *ast.MappingNode:
		return out, b.fields(out, v.Values, depth)
	case *ast.MappingValueNode:
		return out, b.fields(out, []*ast.MappingValueNode{v}, depth)
	case *ast.TagNode:
		return b.tagged(v, depth)
	case *ast.AnchorNode:
		child, err := b.node(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		b.anchors[v.Name.String()] = child
		return child, nil
	case *ast.AliasNode:
		child, ok := b.anchors[v.Value.String()]
		if !ok {
			return nil, at(n, "the alias *%s has no anchor before it", clip(v.Value.String()))
		}
		return b.copy(child, n)
	default:
		return nil, at(n, "this form of YAML is not understood here")
	}
	return out, nil
}

func (n *Node) scalar(text string, value any) { n.Kind, n.Text, n.Value = Scalar, text, value }

// copy repeats a node for an alias, counting what it holds.
func (b *builder) copy(n *Node, place ast.Node) (*Node, error) {
	b.count++
	if b.count > maxNodes {
		return nil, at(place, "aliases make the document hold more than %d values", maxNodes)
	}
	c := *n
	c.Fields, c.Items = nil, nil
	for _, f := range n.Fields {
		v, err := b.copy(f.Value, place)
		if err != nil {
			return nil, err
		}
		f.Value = v
		c.Fields = append(c.Fields, f)
	}
	for _, item := range n.Items {
		v, err := b.copy(item, place)
		if err != nil {
			return nil, err
		}
		c.Items = append(c.Items, v)
	}
	return &c, nil
}

// fields fills a map. What a merge key brings is overridden by the map's own fields, wherever they stand.
func (b *builder) fields(out *Node, values []*ast.MappingValueNode, depth int) error {
	out.Kind = Map
	if len(values) > 0 {
		out.Line, out.Column = place(values[0].Key)
	}
	var merged []*Node
	for _, v := range values {
		child, err := b.node(v.Value, depth+1)
		if err != nil {
			return err
		}
		if v.Key.IsMergeKey() {
			merged = append(merged, child)
			continue
		}
		key, err := keyText(v.Key)
		if err != nil {
			return err
		}
		f := Field{Key: key, Value: child}
		f.Line, f.Column = place(v.Key)
		out.Fields = append(out.Fields, f)
	}
	for _, m := range merged {
		sources := []*Node{m}
		if m.Kind == List {
			sources = m.Items
		}
		for _, s := range sources {
			if s.Kind != Map {
				return &placeError{s.Line, s.Column, "a merge key takes a map or a list of maps"}
			}
			for _, f := range s.Fields {
				if out.Get(f.Key) == nil {
					out.Fields = append(out.Fields, f)
				}
			}
		}
	}
	return nil
}

func keyText(k ast.MapKeyNode) (string, error) {
	switch v := k.(type) {
	case *ast.StringNode:
		return v.Value, nil
	case *ast.MappingKeyNode:
		if inner, ok := v.Value.(ast.MapKeyNode); ok {
			return keyText(inner)
		}
	case *ast.AnchorNode:
		if inner, ok := v.Value.(ast.MapKeyNode); ok {
			return keyText(inner)
		}
	case *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		if t := v.GetToken(); t != nil {
			return t.Value, nil
		}
	}
	return "", at(k, "a key must be plain text")
}

// tagged reads a value with an explicit type. !!str keeps the text; other tags leave the value as it is written.
func (b *builder) tagged(v *ast.TagNode, depth int) (*Node, error) {
	child, err := b.node(v.Value, depth+1)
	if err != nil || child.Kind != Scalar {
		return child, err
	}
	if strings.TrimPrefix(v.Start.Value, "!!") == "str" {
		child.Value = child.Text
	}
	return child, nil
}
