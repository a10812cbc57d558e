package yaml

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Environment is what a job asks for around its code: a reference, or a definition that is registered before the job.
type Environment struct {
	Ref        string         // azureml:name:version, azureml:name@label, a registry URI or an ARM id; else:
	Name       string         // under which the definition is registered
	Version    string         // a hash of the definition, when it has none of its own
	Properties map[string]any // of the ARM environment version
	Build      string         // path of the build context, which must be uploaded; "" if there is none
}

// Anonymous is the name of environments that have none, as in Azure's v2 client (azureml-v2.md §11).
const Anonymous = "CliV2AnonymousEnvironment"

var environmentFields = []string{
	"$schema", "name", "version", "image", "conda_file", "build", "os_type", "description", "tags", "properties", "inference_config", "id", "datastore",
	"creation_context", "auto_increment_version", "latest_version",
}

func readEnvironment(o object) *Environment {
	n := o.get("environment")
	if n == nil {
		return nil
	}
	r := o.r
	if n.Kind == Scalar {
		ref := n.Text
		if !strings.HasPrefix(ref, "file:") && !strings.HasSuffix(ref, ".yml") && !strings.HasSuffix(ref, ".yaml") {
			if !strings.HasPrefix(ref, "azureml:") && !strings.HasPrefix(ref, "/subscriptions/") {
				ref = "azureml:" + ref
			}
			return &Environment{Ref: ref}
		}
		path := r.doc.Path(ref)
		doc, err := Load(path)
		if err != nil {
			r.problems = append(r.problems, flaw{n.Line, n.Column, err})
			return nil
		}
		inner := &reader{doc: doc}
		e := inner.environment(inner.object(doc.Root, "", environmentFields...))
		if err := inner.err(); err != nil {
			r.problems = append(r.problems, flaw{n.Line, n.Column, err})
		}
		r.warnings = append(r.warnings, inner.warnings...)
		return e
	}
	return r.environment(o.child("environment", environmentFields...))
}

func (r *reader) environment(o object) *Environment {
	if o.n == nil {
		return nil
	}
	e := &Environment{Name: o.text("name"), Version: o.text("version")}
	p := map[string]any{"isAnonymous": e.Name == "", "isArchived": false}
	if v := o.text("image"); v != "" {
		p["image"] = strings.TrimPrefix(v, "docker://")
	}
	if v := o.choice("os_type", map[string]string{"linux": "Linux", "windows": "Windows"}); v != "" {
		p["osType"] = v
	}
	if v := o.text("description"); v != "" {
		p["description"] = v
	}
	for _, key := range []string{"tags", "properties"} {
		if v := o.texts(key); v != nil {
			p[key] = v
		}
	}
	if v := o.get("inference_config"); v != nil {
		p["inferenceConfig"] = v.Any()
	}
	if n := o.get("conda_file"); n != nil {
		if text := r.conda(n); text != "" {
			p["condaFile"] = text
		}
	}
	if b := o.child("build", "path", "dockerfile_path"); b.n != nil {
		build := map[string]any{}
		if v := b.text("dockerfile_path"); v != "" {
			build["dockerfilePath"] = v
		}
		switch path := b.text("path"); {
		case path == "":
			r.fail(b.n, "MissingField", `"build.path" is missing`, "name the folder with the Dockerfile")
		case remote(path):
			build["contextUri"] = path
		default:
			e.Build = r.doc.Path(path)
			if _, err := os.Stat(e.Build); err != nil {
				r.fail(b.get("path"), "BuildNotFound", fmt.Sprintf("the build context %s cannot be read: %s", e.Build, reason(err)), "relative paths start at the folder of the YAML file")
			}
		}
		p["build"] = build
		if p["image"] != nil {
			r.fail(b.n, "InvalidField", `an environment has either "image" or "build"`, "remove one of them")
		}
	}
	if p["image"] == nil && p["condaFile"] == nil && p["build"] == nil {
		r.fail(o.n, "MissingField", "the environment names neither an image, nor a conda_file, nor a build context", "for example environment: {conda_file: conda.yml}")
		return nil
	}
	e.Properties = p
	return e
}

// conda is the conda file's text: of the named file, or of what stands in the document itself, as JSON, which is YAML.
func (r *reader) conda(n *Node) string {
	if n.Kind == Map {
		text, err := json.MarshalIndent(n.Any(), "", "  ")
		if err != nil {
			r.fail(n, "InvalidField", "the conda_file cannot be encoded: "+err.Error(), "")
		}
		return string(text)
	}
	if n.Kind != Scalar {
		r.fail(n, "InvalidField", `"conda_file" must be a path or a map, not `+n.what(), "")
		return ""
	}
	path := r.doc.Path(n.Text)
	doc, err := Load(path)
	if err != nil {
		r.problems = append(r.problems, flaw{n.Line, n.Column, err})
		return ""
	}
	if doc.Root.Kind != Map {
		r.fail(n, "InvalidField", fmt.Sprintf("%s is not a conda file: it must be a map with dependencies", path), "")
		return ""
	}
	return doc.text
}

// Seal gives the environment its name and version, once Properties are complete: what has none is named by its hash,
// so equal definitions are one environment.
func (e *Environment) Seal() error {
	if e.Name == "" {
		e.Name = Anonymous
	}
	if e.Version == "" {
		text, err := json.Marshal(e.Properties)
		if err != nil {
			return fmt.Errorf("yaml: environment: %w", err)
		}
		sum := sha256.Sum256(text)
		e.Version = hex.EncodeToString(sum[:])
	}
	return nil
}
