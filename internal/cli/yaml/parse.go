package yaml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Document is one parsed file.
type Document struct {
	File string // as it was named, for messages
	Dir  string // against which relative paths are resolved
	Root *Node
	text string
}

// Load reads the file at path.
func Load(path string) (*Document, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxBytes {
		return nil, tooLarge(path)
	}
	if err == nil && info.IsDir() {
		return nil, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidYAML", Target: path,
			Message: path + " is a folder", Mend: "name the YAML file in it",
		}
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fileProblem(path, err)
	}
	return Parse(text, path)
}

// Parse reads a document; file names it in messages, and its folder is the base of relative paths.
func Parse(text []byte, file string) (*Document, error) {
	if len(text) > maxBytes {
		return nil, tooLarge(file)
	}
	d := &Document{File: file, Dir: filepath.Dir(file), text: string(text)}
	root, err := tree(d.text)
	if err != nil {
		return nil, d.syntax(err)
	}
	d.Root = root
	return d, nil
}

// tree parses text. The parser panics on some malformed texts; that is a syntax error like any other.
func tree(text string) (root *Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &placeError{text: fmt.Sprintf("the text cannot be read as YAML (%v)", r)}
		}
	}()
	tokens := lexer.Tokenize(text)
	if err := nesting(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, err
	}
	b := &builder{anchors: map[string]*Node{}}
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, at(doc.Body, "a second document begins here; one file holds one document")
		}
		if root, err = b.node(doc.Body, 0); err != nil {
			return nil, err
		}
	}
	if root == nil {
		root = &Node{}
	}
	return root, nil
}

// nesting refuses what would make the parser recurse without bound: open brackets, and openings without a line break.
func nesting(tokens token.Tokens) error {
	open, line, inLine := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open = max(0, open-1)
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			inLine++
		case token.MappingValueType:
			if open == 0 {
				inLine++
			}
		}
		if open > maxDepth || inLine > maxDepth {
			return &placeError{t.Position.Line, t.Position.Column, fmt.Sprintf("the document is nested deeper than %d levels", maxDepth)}
		}
	}
	return nil
}

// syntax turns a parser's error into a problem with file, line, column and the line's text.
func (d *Document) syntax(err error) error {
	var line, column int
	cause := err.Error()
	var spot *placeError
	var marked interface {
		GetToken() *token.Token
		GetMessage() string
	}
	switch {
	case errors.As(err, &spot):
		line, column = spot.line, spot.column
	case errors.As(err, &marked):
		cause = marked.GetMessage()
		if t := marked.GetToken(); t != nil && t.Position != nil {
			line, column = t.Position.Line, t.Position.Column
		}
	}
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidYAML", Target: d.File,
		Message: d.where(line, column) + " is not valid YAML",
		Cause:   cause,
		Mend:    "correct the file at that place",
	}
	lines := strings.Split(d.text, "\n")
	if line >= 1 && line <= len(lines) {
		source := lines[line-1]
		p.Cause += fmt.Sprintf(", at %q", clip(strings.TrimSpace(source)))
		if strings.HasPrefix(strings.TrimLeft(source, " "), "\t") {
			p.Mend = "indent with spaces: YAML does not take tabs"
		}
	}
	return p
}

// where renders a place as editors understand it.
func (d *Document) where(line, column int) string {
	if line == 0 {
		return d.File
	}
	return fmt.Sprintf("%s:%d:%d", d.File, line, column)
}

// Path resolves a path written in the document: "~" is the home folder, relative ones start at the document's folder.
func (d *Document) Path(p string) string { return resolve(d.Dir, p) }

func resolve(dir, p string) string {
	p = strings.TrimPrefix(p, "file://")
	p = strings.TrimPrefix(p, "file:")
	if p == "~" || strings.HasPrefix(p, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, strings.TrimPrefix(p, "~"))
		}
	}
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, filepath.FromSlash(p))
}

func tooLarge(file string) error {
	return &workspace.Problem{
		Class: workspace.TooLarge, Code: "TooLarge", Target: file,
		Message: fmt.Sprintf("%s is larger than %d MB", file, maxBytes>>20),
		Mend:    "a YAML document of this kind is small; check that this is the right file",
	}
}

func fileProblem(path string, err error) error {
	p := &workspace.Problem{Class: workspace.Invalid, Code: "FileNotReadable", Target: path, Message: path + " cannot be read", Cause: reason(err)}
	switch {
	case errors.Is(err, os.ErrNotExist):
		p.Message, p.Cause = path+" is not there", ""
		p.Mend = "check the path; relative paths start at the folder of the YAML file that names them"
	case errors.Is(err, os.ErrPermission):
		p.Mend = "give yourself the right to read it"
	}
	return p
}

// reason is an error without the path that the message names already.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
