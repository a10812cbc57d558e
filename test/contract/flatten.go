package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// flattener copies what a file references in its neighbours into the file itself, under names that are free there, so
// that one document stands alone: the library follows Azure's chains of files badly.
type flattener struct {
	root  string
	files map[string]map[string]any // by absolute path
	names map[string]string         // "path#section/name" → name in the root's section
	added map[string]map[string]any // section → name → copy
	taken map[string]bool           // "section/name"
}

// flatten gives the document of a file without references to others.
func flatten(file string) (map[string]any, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	f := &flattener{
		root: file, files: map[string]map[string]any{}, names: map[string]string{}, taken: map[string]bool{},
		added: map[string]map[string]any{"definitions": {}, "parameters": {}, "responses": {}},
	}
	doc, err := f.read(file)
	if err != nil {
		return nil, err
	}
	for section := range f.added {
		for name := range object(doc[section]) {
			f.taken[section+"/"+name] = true
		}
	}
	copied, err := f.walk(file, doc)
	if err != nil {
		return nil, err
	}
	root := object(copied)
	for section, added := range f.added {
		if own := object(root[section]); own != nil {
			maps.Copy(own, added)
		} else if len(added) > 0 {
			root[section] = added
		}
	}
	return root, nil
}

func (f *flattener) read(file string) (map[string]any, error) {
	if doc, ok := f.files[file]; ok {
		return doc, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	f.files[file] = doc
	return doc, nil
}

// walk copies a node of a file; references in the copy point into the root.
func (f *flattener) walk(file string, node any) (any, error) {
	switch n := node.(type) {
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok {
			return f.follow(file, ref)
		}
		out := make(map[string]any, len(n))
		for key, v := range n {
			if key == "x-ms-examples" {
				continue
			}
			w, err := f.walk(file, v)
			if err != nil {
				return nil, err
			}
			out[key] = w
		}
		return out, nil
	case []any:
		out := make([]any, len(n))
		for i, v := range n {
			w, err := f.walk(file, v)
			if err != nil {
				return nil, err
			}
			out[i] = w
		}
		return out, nil
	}
	return node, nil
}

func (f *flattener) follow(file, ref string) (any, error) {
	path, pointer, ok := strings.Cut(ref, "#/")
	section, name, ok2 := strings.Cut(pointer, "/")
	if !ok || !ok2 || f.added[section] == nil {
		return nil, fmt.Errorf("%s: reference %q", file, ref)
	}
	home := file
	if path != "" {
		home = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
	}
	if home == f.root {
		return map[string]any{"$ref": "#/" + pointer}, nil
	}
	key := home + "#" + pointer
	own, known := f.names[key]
	if !known {
		doc, err := f.read(home)
		if err != nil {
			return nil, err
		}
		node, ok := object(doc[section])[name]
		if !ok {
			return nil, fmt.Errorf("%s: nothing is at %q", file, ref)
		}
		own = name
		for i := 2; f.taken[section+"/"+own]; i++ {
			own = fmt.Sprintf("%s_%d", name, i)
		}
		f.taken[section+"/"+own], f.names[key] = true, own // before walking: definitions refer to themselves
		if f.added[section][own], err = f.walk(home, node); err != nil {
			return nil, err
		}
	}
	return map[string]any{"$ref": "#/" + section + "/" + own}, nil
}

// closeObjects makes an unknown property an error in every definition that lists its properties. Those that take part in
// inheritance stay open, because each part of a composition is checked alone.
func closeObjects(root map[string]any) {
	definitions := object(root["definitions"])
	bases := map[string]bool{}
	findBases(definitions, bases)
	for name, v := range definitions {
		d := object(v)
		if d == nil || bases[name] || d["allOf"] != nil || d["discriminator"] != nil || d["properties"] == nil || d["additionalProperties"] != nil {
			continue
		}
		d["additionalProperties"] = false
	}
}

func findBases(node any, bases map[string]bool) {
	switch n := node.(type) {
	case map[string]any:
		parts, _ := n["allOf"].([]any)
		for _, part := range parts {
			if ref, ok := object(part)["$ref"].(string); ok {
				bases[strings.TrimPrefix(ref, "#/definitions/")] = true
			}
		}
		for _, v := range n {
			findBases(v, bases)
		}
	case []any:
		for _, v := range n {
			findBases(v, bases)
		}
	}
}

// object gives a node as a JSON object, nil for anything else.
func object(node any) map[string]any {
	m, _ := node.(map[string]any)
	return m
}
