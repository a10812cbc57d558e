package yaml

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// The fields of a job's inputs and outputs, and what their words are on the wire.
var (
	inputFields  = []string{"type", "path", "mode", "value", "default", "description", "optional", "path_on_compute", "datastore", "pattern"}
	outputFields = []string{"type", "path", "mode", "name", "version", "description", "path_on_compute", "early_available"}

	dataTypes = map[string]string{
		"uri_file": "uri_file", "uri_folder": "uri_folder", "mltable": "mltable",
		"custom_model": "custom_model", "mlflow_model": "mlflow_model", "triton_model": "triton_model",
	}
	inputModes = map[string]string{
		"mount": "ReadOnlyMount", "ro_mount": "ReadOnlyMount", "rw_mount": "ReadWriteMount", "download": "Download", "direct": "Direct",
		"eval_mount": "EvalMount", "eval_download": "EvalDownload",
	}
	outputModes = map[string]string{"mount": "ReadWriteMount", "rw_mount": "ReadWriteMount", "upload": "Upload", "direct": "Direct"}
)

var ioName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkIOName(r *reader, f Field, what string) {
	if !ioName.MatchString(f.Key) {
		r.fail(&Node{Line: f.Line, Column: f.Column}, "InvalidName", fmt.Sprintf("%q cannot name an %s", clip(f.Key), what),
			"use letters, digits and underscores, not beginning with a digit")
	}
}

func (j *Job) inputs(o object) {
	n := o.get("inputs")
	if n == nil {
		return
	}
	if n.Kind != Map {
		o.r.fail(n, "InvalidField", `"inputs" must be a map of names and values, not `+n.what(), "")
		return
	}
	out := map[string]any{}
	for _, f := range n.Fields {
		checkIOName(o.r, f, "input")
		switch f.Value.Kind {
		case Null:
		case Scalar:
			out[f.Key] = literal(f.Value)
		case Map:
			if in := j.input(o.r, f); in != nil {
				out[f.Key] = in
			}
		default:
			o.r.fail(f.Value, "InvalidField", fmt.Sprintf("the input %q cannot be a list", f.Key), "join it to one text, or put it in a file")
		}
	}
	j.Properties["inputs"] = out
}

func literal(n *Node) map[string]any {
	return map[string]any{"jobInputType": "literal", "value": pythonText(n)}
}

func (j *Job) input(r *reader, f Field) map[string]any {
	o := r.object(f.Value, "inputs."+f.Key, inputFields...)
	for _, key := range []string{"value", "default"} {
		if v := o.get(key); v != nil && !o.has("path") {
			if v.Kind == Scalar {
				return literal(v)
			}
			r.fail(v, "InvalidField", fmt.Sprintf("the value of %q must be text or a number, not %s", f.Key, v.what()), "")
			return nil
		}
	}
	path := o.text("path")
	if path == "" {
		r.fail(f.Value, "MissingField", fmt.Sprintf("the input %q has neither a value nor a path", f.Key), "")
		return nil
	}
	if strings.HasPrefix(strings.TrimSpace(path), "${{") {
		return map[string]any{"jobInputType": "literal", "value": path}
	}
	in := map[string]any{}
	if v := o.choice("mode", inputModes); v != "" {
		in["mode"] = v
	}
	kind := o.choice("type", dataTypes)
	if description := o.text("description"); description != "" {
		in["description"] = description
	}
	switch {
	case remote(path):
		in["uri"] = path
	case strings.HasPrefix(path, "azureml:"):
		j.Refs = append(j.Refs, RefInput{Name: f.Key, Ref: path})
	default:
		local := LocalInput{Name: f.Key, Path: r.doc.Path(path)}
		info, err := os.Stat(local.Path)
		if err != nil {
			r.fail(o.get("path"), "InputNotFound", fmt.Sprintf("the input %s cannot be read: %s", local.Path, reason(err)), "relative paths start at the folder of the YAML file")
			return nil
		}
		local.Folder = info.IsDir()
		if kind == "" && !o.has("type") {
			kind = map[bool]string{true: "uri_folder", false: "uri_file"}[local.Folder]
		}
		if kind == "uri_file" && local.Folder {
			r.fail(o.get("path"), "InvalidField", fmt.Sprintf("the input %q is a uri_file, and %s is a folder", f.Key, local.Path), "use type: uri_folder, or name a file in it")
		}
		if kind == "uri_folder" && !local.Folder {
			r.fail(o.get("path"), "InvalidField", fmt.Sprintf("the input %q is a uri_folder, and %s is a file", f.Key, local.Path), "use type: uri_file, or name its folder")
		}
		j.Local = append(j.Local, local)
	}
	if kind == "" {
		kind = "uri_folder"
	}
	in["jobInputType"] = kind
	return in
}

// remote tells whether an input's path is a URL or an id that goes to the server as it is.
func remote(path string) bool {
	scheme, _, ok := strings.Cut(path, "://")
	return ok && scheme != "file" || strings.HasPrefix(path, "/subscriptions/")
}

func outputs(o object, p map[string]any) {
	n := o.get("outputs")
	if n == nil {
		return
	}
	if n.Kind != Map {
		o.r.fail(n, "InvalidField", `"outputs" must be a map of names, not `+n.what(), "")
		return
	}
	out := map[string]any{}
	for _, f := range n.Fields {
		checkIOName(o.r, f, "output")
		fields := o.r.object(f.Value, "outputs."+f.Key, outputFields...)
		wire := map[string]any{"jobOutputType": "uri_folder"}
		if v := fields.choice("type", dataTypes); v != "" {
			wire["jobOutputType"] = v
		}
		if v := fields.choice("mode", outputModes); v != "" {
			wire["mode"] = v
		}
		for key, name := range map[string]string{"path": "uri", "name": "assetName", "version": "assetVersion", "description": "description"} {
			if v := fields.text(key); v != "" {
				wire[name] = v
			}
		}
		out[f.Key] = wire
	}
	p["outputs"] = out
}
