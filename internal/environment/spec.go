// Package environment turns what a job needs around its code into a plan that a target can carry out: an ARM
// environment version becomes a Spec, a Spec and the facts of a target become the steps of a compute.Environment.
//
// Planning does no I/O but for asking Tools for a program to place. Package control reads specs with it, package
// reconcile plans with it; no driver imports it.
package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Spec is what a job needs around its code. The zero value is "nothing": the target's own Python. It holds no secret
// and may be kept as JSON.
type Spec struct {
	// Curated is a name like "sklearn-1.5", looked up in a Curated table when the plan is made.
	Curated string `json:"curated,omitempty"`
	Image   string `json:"image,omitempty"`
	// CondaFile is the text of a conda environment file.
	CondaFile string `json:"conda_file,omitempty"`
	// Python is a version ("3.11") or a range (">=3.10,<3.13"), in addition to the one that CondaFile may name.
	Python string `json:"python,omitempty"`
	// Pip are lines of a requirements file, in addition to those in CondaFile.
	Pip   []string `json:"pip,omitempty"`
	Build *Build   `json:"build,omitempty"`
	// Dockerfile: its image is to be built from a Dockerfile, by From, if the job runs in a container at all.
	Dockerfile bool   `json:"dockerfile,omitempty"`
	From       *Build `json:"dockerfile_from,omitempty"`
	// Interpreter is the Python to use as it is, a path or a name on the target; nothing is installed then.
	Interpreter string `json:"interpreter,omitempty"`
	// Variables are set in the job, unless the job sets them itself.
	Variables map[string]string `json:"variables,omitempty"`
}

// Build is a context for building an image.
type Build struct {
	ContextURI     string `json:"context_uri,omitempty"`
	DockerfilePath string `json:"dockerfile_path,omitempty"`
	// Text is that of the Dockerfile, where it is no file of a context.
	Text string `json:"dockerfile_text,omitempty"`
	// Tree and Prefix are where the context was found: the root hash of a snapshot, or a place in the blob store.
	Tree   string `json:"tree,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// Empty tells whether the spec asks for nothing.
func (s Spec) Empty() bool {
	return s.Curated == "" && s.Image == "" && s.CondaFile == "" && s.Python == "" && len(s.Pip) == 0 && s.Build == nil &&
		!s.Dockerfile && s.Interpreter == "" && len(s.Variables) == 0
}

// FromARM reads the properties of an ARM environment version (azureml-v2.md §11): image, condaFile, build. Fields that
// say nothing about packages are ignored. A conda file that cannot be read is a Problem naming line and column.
func FromARM(properties json.RawMessage) (Spec, error) {
	var p struct {
		Image     string `json:"image"`
		CondaFile string `json:"condaFile"`
		Build     *struct {
			ContextURI     string `json:"contextUri"`
			DockerfilePath string `json:"dockerfilePath"`
		} `json:"build"`
	}
	if len(properties) > 0 {
		if err := json.Unmarshal(properties, &p); err != nil {
			return Spec{}, invalid("properties", "the environment cannot be read", err.Error(),
				"give image and condaFile as strings and build as an object")
		}
	}
	s := Spec{Image: strings.TrimSpace(p.Image), CondaFile: p.CondaFile}
	if p.Build != nil {
		s.Build = &Build{ContextURI: p.Build.ContextURI, DockerfilePath: p.Build.DockerfilePath}
	}
	if strings.TrimSpace(s.CondaFile) == "" {
		s.CondaFile = ""
	}
	if _, err := parseConda(s.CondaFile); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// FromReference reads a reference to a curated environment, as clients send it unresolved: "azureml:AzureML-NAME@latest",
// "azureml://registries/azureml/environments/NAME/versions/3" or "…/labels/latest". The second result is false for
// anything else. Whether the name is known is decided when the plan is made.
func FromReference(ref string) (Spec, bool) {
	if rest, ok := cutPrefixFold(ref, "azureml://registries/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		rest, ok = cutPrefixFold(rest, "environments/")
		name, _, _ := strings.Cut(rest, "/")
		if !ok || name == "" {
			return Spec{}, false
		}
		return Spec{Curated: name}, true
	}
	rest, _ := cutPrefixFold(ref, "azureml:")
	if _, ok := cutPrefixFold(rest, "AzureML-"); !ok {
		return Spec{}, false
	}
	name, _, _ := strings.Cut(rest, "@")
	name, _, _ = strings.Cut(name, ":")
	return Spec{Curated: name}, true
}

// Check says what is wrong with the spec whatever the target and its tools: a build context, a conda file or requirement
// that cannot be read, a curated name that the table lacks. It is what to ask when a job is accepted: nil if nothing is.
func Check(s Spec, curated Curated) error {
	if s.Build != nil {
		return buildUnsupported()
	}
	s, _, err := curated.resolve(s, false)
	if err != nil {
		return err
	}
	_, err = s.normalise()
	return err
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// hash names what parts say. Two lists have one hash only if they are equal.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func invalid(target, message, cause, mend string) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidEnvironment", Target: target,
		Message: message, Cause: cause, Mend: mend,
	}
}
