package yaml

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Set applies one "a.b=value" to the document, as --set gives it. The value is read as YAML, so 3 is a number and "3"
// in quotes is text. Missing maps on the way are made; a step that is a number names an item of a list.
func (d *Document) Set(assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	steps := strings.Split(path, ".")
	for _, s := range steps {
		ok = ok && s != ""
	}
	if !ok {
		return setProblem(assignment, "it is not of the form a.b=value")
	}
	if len(steps) > maxDepth {
		return setProblem(assignment, "the path is too long")
	}
	value, err := tree(text)
	if err != nil || (value.Kind == Null && text != "null" && text != "~" && text != "") {
		value = &Node{}
		value.scalar(text, text)
	}
	if text == "" {
		value = &Node{}
		value.scalar("", "")
	}
	if d.Root.Kind == Null {
		d.Root.Kind = Map
	}
	at := d.Root
	for i, step := range steps {
		last := i == len(steps)-1
		switch at.Kind {
		case Map:
			found := -1
			for j := range at.Fields {
				if at.Fields[j].Key == step {
					found = j
				}
			}
			if found < 0 {
				at.Fields = append(at.Fields, Field{Key: step, Value: &Node{Kind: Map}})
				found = len(at.Fields) - 1
			}
			if last {
				at.Fields[found].Value = value
				return nil
			}
			if at.Fields[found].Value.Kind == Null {
				at.Fields[found].Value = &Node{Kind: Map}
			}
			at = at.Fields[found].Value
		case List:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(at.Items) {
				return setProblem(assignment, fmt.Sprintf("%q is not an item of the list, which has %d", step, len(at.Items)))
			}
			if last {
				at.Items[n] = value
				return nil
			}
			at = at.Items[n]
		default:
			return setProblem(assignment, fmt.Sprintf("%q is %s and holds no fields", strings.Join(steps[:i], "."), at.what()))
		}
	}
	return nil
}

func setProblem(assignment, cause string) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidSet", Target: "--set",
		Message: fmt.Sprintf("--set %q cannot be applied", clip(assignment)), Cause: cause,
		Mend: "write it like --set limits.timeout=600",
	}
}
