package environment

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Definition is an environment as azureml-core writes it (azureml-v1.md §6.1, §12), in the fields that matter to a job.
type Definition struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Variables are set in jobs, below those of the run itself.
	Variables map[string]any `json:"environmentVariables"`
	Python    struct {
		// UserManaged: nothing is installed, and the Python at Interpreter is used.
		UserManaged bool            `json:"userManagedDependencies"`
		Interpreter string          `json:"interpreterPath"`
		Conda       json.RawMessage `json:"condaDependencies"` // a conda file, as JSON
	} `json:"python"`
	Docker struct {
		Enabled  bool   `json:"enabled"`
		Image    string `json:"baseImage"`
		Registry struct {
			Address string `json:"address"` // in which Image is; empty where Image names its own
		} `json:"baseImageRegistry"`
		Dockerfile string `json:"baseDockerfile"` // its text
		Context    *struct {
			Location       string `json:"location"`
			DockerfilePath string `json:"dockerfilePath"`
		} `json:"buildContext"`
	} `json:"docker"`
}

// definitionFields are those of an answer (azureml-v1.md §12). Clients send them in mixed case.
var definitionFields = []string{"environmentVariables", "python", "docker", "spark", "databricks", "r", "inferencingStackVersion"}

// ReadDefinition reads a definition as a client sends it, in whatever case it writes the fields. plain is the same with the fields
// in the case of an answer, without name and version, without null fields, and without a registry's password: it is what
// may be kept and compared. plain is nil for a mere reference, which has a name and a version at most.
func ReadDefinition(body json.RawMessage) (d Definition, plain json.RawMessage, err error) {
	var fields map[string]json.RawMessage
	if err = json.Unmarshal(body, &fields); err == nil {
		err = json.Unmarshal(body, &d)
	}
	if err != nil {
		return d, nil, unreadable(err)
	}
	kept := map[string]any{}
	for name, raw := range fields {
		i := slices.IndexFunc(definitionFields, func(f string) bool { return strings.EqualFold(f, name) })
		if i < 0 || string(bytes.TrimSpace(raw)) == "null" {
			continue
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return d, nil, unreadable(err)
		}
		kept[definitionFields[i]] = v
	}
	if len(kept) == 0 {
		return d, nil, nil
	}
	hidePassword(kept)
	plain, err = json.Marshal(kept) // with sorted keys: equal definitions are equal texts
	if err != nil {
		return d, nil, fmt.Errorf("environment: definition: %w", err)
	}
	if _, err := d.Spec(); err != nil {
		return d, nil, err
	}
	return d, plain, nil
}

func unreadable(err error) error {
	return invalid("environment", "the environment cannot be read", err.Error(), "send it as azureml-core writes it")
}

// hidePassword takes out the password of the image's registry: documents hold no secret. Whoever keeps it seals it.
func hidePassword(fields map[string]any) {
	docker, _ := fields["docker"].(map[string]any)
	registry, _ := docker["baseImageRegistry"].(map[string]any)
	if registry != nil && registry["password"] != nil {
		registry["password"] = nil
	}
}

// Spec is what the definition asks for. Its image counts only when Docker is switched on: without, Azure too makes the
// environment on the machine itself.
func (d Definition) Spec() (Spec, error) {
	s := Spec{Variables: variables(d.Variables)}
	for name := range s.Variables {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return s, invalid("environmentVariables", fmt.Sprintf("%q is not the name of an environment variable", clip(name)), "", "use letters, digits and underscores")
		}
	}
	s.Dockerfile, s.From = d.dockerfile()
	if d.Docker.Enabled && !s.Dockerfile {
		s.Image = d.BaseImage()
	}
	if d.Python.UserManaged {
		s.Interpreter = strings.TrimSpace(d.Python.Interpreter)
		if s.Interpreter == "" {
			s.Interpreter = "python"
		}
		if strings.ContainsAny(s.Interpreter, "\n\r\x00") || strings.HasPrefix(s.Interpreter, "-") {
			return s, invalid("interpreterPath", fmt.Sprintf("%q is not the path of a Python", clip(s.Interpreter)), "", "give a path on the compute, or a name that its PATH finds")
		}
		return s, nil
	}
	var err error
	if s.CondaFile, err = d.condaFile(); err != nil {
		return s, err
	}
	_, err = parseConda(s.CondaFile)
	return s, err
}

// dockerfile is what the image is built from, if it is.
func (d Definition) dockerfile() (is bool, from *Build) {
	switch c := d.Docker.Context; {
	case d.Docker.Dockerfile != "":
		return true, &Build{Text: d.Docker.Dockerfile}
	case c != nil:
		return true, &Build{ContextURI: c.Location, DockerfilePath: c.DockerfilePath}
	}
	return false, nil
}

// BaseImage is the image that the definition names, with its registry; "" for none.
func (d Definition) BaseImage() string {
	host := strings.TrimSuffix(strings.TrimPrefix(d.Docker.Registry.Address, "https://"), "/")
	if host == "" || d.Docker.Image == "" || strings.HasPrefix(d.Docker.Image, host+"/") {
		return d.Docker.Image
	}
	return host + "/" + d.Docker.Image
}

// condaFile is the text of the conda file; "" when there is none.
func (d Definition) condaFile() (string, error) {
	conda := bytes.TrimSpace(d.Python.Conda)
	if len(conda) == 0 || string(conda) == "null" {
		return "", nil
	}
	if len(conda) > maxCondaFile {
		return "", invalid("condaDependencies", fmt.Sprintf("the conda dependencies have %d bytes", len(conda)), "", fmt.Sprintf("keep them below %d bytes", maxCondaFile))
	}
	text, err := yaml.JSONToYAML(conda)
	if err != nil || conda[0] != '{' {
		return "", invalid("condaDependencies", "the conda dependencies cannot be read", "", "give an object with channels and dependencies")
	}
	return string(text), nil
}

// variables are values as a process gets them.
func variables(in map[string]any) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := map[string]string{}
	for name, v := range in {
		switch v := v.(type) {
		case nil:
			out[name] = ""
		case string:
			out[name] = v
		default:
			b, _ := json.Marshal(v) // it was JSON when it came
			out[name] = string(b)
		}
	}
	return out
}

// ARM gives the properties by which clients of v2 know the environment (azureml-v2.md §11): image, condaFile, build.
func (d Definition) ARM() (json.RawMessage, error) {
	p := map[string]any{"osType": "Linux"}
	switch {
	case d.Docker.Context != nil:
		p["build"] = map[string]string{"contextUri": d.Docker.Context.Location, "dockerfilePath": d.Docker.Context.DockerfilePath}
	case d.Docker.Dockerfile == "" && d.Docker.Image != "":
		p["image"] = d.BaseImage()
	}
	if !d.Python.UserManaged {
		text, err := d.condaFile()
		if err != nil {
			return nil, err
		}
		if text != "" {
			p["condaFile"] = text
		}
	}
	return json.Marshal(p)
}

// DefinitionOf writes a spec, which a client of v2 registered or a table of curated names gave, as azureml-core reads it:
// with python, docker and spark, which it needs (azureml-v1.md §25).
func DefinitionOf(s Spec) (json.RawMessage, error) {
	conda, err := condaJSON(s)
	if err != nil {
		return nil, err
	}
	python := map[string]any{
		"userManagedDependencies": conda == nil, "interpreterPath": "python", "condaDependenciesFile": nil, "baseCondaEnvironment": nil,
	}
	if conda != nil {
		python["condaDependencies"] = conda
	}
	docker := map[string]any{
		"enabled": s.Image != "" || s.Build != nil, "baseImage": nil, "baseDockerfile": nil, "buildContext": nil, "sharedVolumes": true, "shmSize": nil, "arguments": []string{},
		"baseImageRegistry": map[string]any{"address": nil, "username": nil, "password": nil, "registryIdentity": nil},
		"platform":          map[string]string{"os": "Linux", "architecture": "amd64"},
	}
	if s.Image != "" {
		docker["baseImage"] = s.Image
	}
	if s.Build != nil {
		docker["buildContext"] = map[string]string{"locationType": locationType(s.Build.ContextURI), "location": s.Build.ContextURI, "dockerfilePath": dockerfile(s.Build)}
	}
	vars := s.Variables
	if vars == nil {
		vars = map[string]string{}
	}
	return json.Marshal(map[string]any{
		"environmentVariables": vars, "python": python, "docker": docker,
		"spark": map[string]any{"repositories": []string{}, "packages": []string{}, "precachePackages": true},
	})
}

func locationType(uri string) string {
	if strings.HasPrefix(uri, "git") || strings.HasSuffix(strings.TrimSuffix(uri, "/"), ".git") {
		return "git"
	}
	return "storageAccount"
}

func dockerfile(b *Build) string {
	if b.DockerfilePath == "" {
		return "Dockerfile"
	}
	return b.DockerfilePath
}

// condaJSON is the conda file of a spec as JSON; nil when it asks for no packages.
func condaJSON(s Spec) (map[string]any, error) {
	doc := map[string]any{}
	if s.CondaFile != "" {
		if _, err := parseConda(s.CondaFile); err != nil {
			return nil, err
		}
		if err := readYAML([]byte(s.CondaFile), &doc); err != nil {
			return nil, condaSyntax(err)
		}
	}
	dependencies, _ := doc["dependencies"].([]any)
	if s.Python != "" {
		dependencies = append([]any{condaPython(s.Python)}, dependencies...)
	}
	if len(s.Pip) > 0 {
		dependencies = append(dependencies, map[string]any{"pip": s.Pip})
	}
	if len(dependencies) == 0 {
		return nil, nil
	}
	if !slices.ContainsFunc(dependencies, isPython) { // the client writes no file without it
		dependencies = append([]any{"python"}, dependencies...)
	}
	out := maps.Clone(doc)
	out["dependencies"] = dependencies
	if out["channels"] == nil {
		out["channels"] = []string{"conda-forge"}
	}
	if out["name"] == nil {
		out["name"] = "project_environment"
	}
	return out, nil
}

// SameCondaFile tells whether two conda files say the same, however they are written: each client has its own way.
func SameCondaFile(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	return readYAML([]byte(a), &x) == nil && readYAML([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

func isPython(dependency any) bool {
	text, _ := dependency.(string)
	p, err := parseCondaPackage(text)
	return err == nil && p.Name == "python"
}

// CuratedName tells whether a name is kept for curated environments: "AzureML-…". Nobody registers another under it.
func CuratedName(name string) bool {
	_, curated := cutPrefixFold(name, "AzureML-")
	return curated
}

// Listed are the names under which clients see the table's environments: those that are no patterns.
func (c Curated) Listed() []string {
	var names []string
	for _, n := range c.Names() {
		if !strings.ContainsAny(n, `*?[\`) {
			names = append(names, "AzureML-"+curatedName(n))
		}
	}
	return names
}
