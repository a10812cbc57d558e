package environment

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// maxYAMLDepth is how deep lists and mappings may nest; environments need four levels.
const maxYAMLDepth = 16

// DecodeYAML decodes YAML from outside, as environments are read, for other files of the operator's. The error is one
// line, with line and column.
func DecodeYAML(b []byte, v any, options ...yaml.DecodeOption) error {
	if err := readYAML(b, v, options...); err != nil {
		return errors.New(yamlCause(err))
	}
	return nil
}

// readYAML decodes bytes from outside. Aliases are refused, because a short text of them can have endless content, and
// so is deep nesting, which would end the server by its stack. The library panics on some texts that are not YAML; that
// is an error here.
func readYAML(b []byte, v any, options ...yaml.DecodeOption) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the text is not YAML")
		}
	}()
	flow, entries, line := 0, 0, 0
	for _, t := range lexer.Tokenize(string(b)) {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.AliasType, token.MergeKeyType:
			return fmt.Errorf("line %d, column %d: aliases are not taken", t.Position.Line, t.Position.Column)
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			entries++
		}
		if flow+entries > maxYAMLDepth {
			return fmt.Errorf("line %d, column %d: lists and mappings nest too deep", t.Position.Line, t.Position.Column)
		}
	}
	return yaml.UnmarshalWithOptions(b, v, options...)
}

// yamlCause is where and why a text is not the YAML that it should be, on one line.
func yamlCause(err error) string {
	cause := err.Error()
	var y yaml.Error
	if errors.As(err, &y) {
		if t := y.GetToken(); t != nil && t.Position != nil {
			cause = fmt.Sprintf("line %d, column %d: %s", t.Position.Line, t.Position.Column, y.GetMessage())
		}
	}
	cause, _, _ = strings.Cut(cause, "\n")
	return cause
}
