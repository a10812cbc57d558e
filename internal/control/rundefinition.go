package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// runDefinition is our view of a run's configuration; what it does not name is kept and given back as it came
// (azureml-v1.md §6.1).
type runDefinition struct {
	Script                string
	Command               string
	Arguments             []scalar
	Target                string
	Framework             string
	Communicator          string
	MaxRunDurationSeconds *float64
	NodeCount             *float64
	EnvironmentVariables  textMap
	Environment           json.RawMessage
	Docker                struct {
		UseDocker *bool
		Arguments []string
		ShmSize   string
	}
	runFrameworks
	KubernetesCompute struct {
		InstanceType string
	}
	Data           map[string]runInput
	OutputData     map[string]runOutput
	DataReferences map[string]dataReference

	env runEnvironment // Environment
}

// runEnvironment is what a run's own settings need of its environment; KeepEnvironment reads the rest.
type runEnvironment struct {
	Docker struct {
		Enabled   bool
		Arguments []string
		ShmSize   string
	}
}

// scalar is a text. The client sends numbers as it has them.
type scalar string

// UnmarshalJSON reads a text, a number or a truth value; null is "".
func (s *scalar) UnmarshalJSON(b []byte) error {
	var text string
	switch err := json.Unmarshal(b, &text); {
	case err == nil:
	case b[0] == '{' || b[0] == '[':
		return fmt.Errorf("what must be a text is %.40s", b)
	case string(b) == "true":
		text = "True" // as Python writes it
	case string(b) == "false":
		text = "False"
	default:
		text = string(b)
	}
	*s = scalar(text)
	return nil
}

// parseRunDefinition reads a configuration and refuses what can run nowhere, naming it.
func parseRunDefinition(definition json.RawMessage) (*runDefinition, error) {
	var d runDefinition
	err := json.Unmarshal(definition, &d)
	if err == nil && len(d.Environment) > 0 {
		err = json.Unmarshal(d.Environment, &d.env)
	}
	if err != nil {
		return nil, invalid("InvalidRunDefinition", "Configuration", "the run's definition cannot be read", err.Error(), "send it as azureml-core does")
	}
	d.Script = strings.ReplaceAll(d.Script, `\`, "/")
	if strings.TrimSpace(d.Command) == "" && d.Script == "" {
		return nil, invalid("MissingScript", "script", "the run has neither a script nor a command", "", "give one of them")
	}
	if s := path.Clean("/" + d.Script); d.Script != "" && "/"+d.Script != s && "/"+strings.TrimPrefix(d.Script, "./") != s {
		return nil, invalid("InvalidScript", "script", "script "+quote(d.Script)+" is not in the run's folder", "", "name it by its path in source_directory")
	}
	if err := checkVariableNames(d.EnvironmentVariables); err != nil {
		return nil, err
	}
	return &d, nil
}

// sparkKinds are the kinds that run scripts of the framework pyspark.
var sparkKinds = map[string]bool{"synapsespark": true, "hdinsight": true, "databricks": true}

// fits refuses what the compute cannot do.
func (d *runDefinition) fits(on store.Compute) error {
	if !strings.EqualFold(d.Framework, "pyspark") || sparkKinds[on.Kind] {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedFramework", Target: "framework", Message: fmt.Sprintf("compute %q is of kind %s, which runs no Spark", on.Name, on.Kind),
		Mend: `choose a Spark cluster, or set framework="Python"; a script may start a Spark of its own`,
	}
}

// variables are the environment variables that the user asked for; the run's own win over its environment's.
func (d *runDefinition) variables(wanted environment.Spec) map[string]string {
	all := map[string]string{}
	maps.Copy(all, wanted.Variables)
	maps.Copy(all, d.EnvironmentVariables)
	return all
}

// inContainer tells whether the run asks for Docker: by its own settings, or as older clients do by its environment's.
func (d *runDefinition) inContainer() bool {
	if d.Docker.UseDocker != nil {
		return *d.Docker.UseDocker
	}
	return d.env.Docker.Enabled
}

// seconds is the run's limit of time; 0 for none.
func (d *runDefinition) seconds() int64 {
	if d.MaxRunDurationSeconds == nil || *d.MaxRunDurationSeconds < 0 {
		return 0
	}
	return int64(*d.MaxRunDurationSeconds)
}

// arguments are those of the script; never nil.
func (d *runDefinition) arguments() []string {
	list := make([]string, len(d.Arguments))
	for i, a := range d.Arguments {
		list[i] = string(a)
	}
	return list
}

// text is what the target's shell runs.
func (d *runDefinition) text(line *commandLine) string {
	if strings.TrimSpace(d.Command) != "" {
		return line.command(d.Command)
	}
	return line.script(d.Script, d.arguments())
}

// brief is the command as people read it, without what is done around it.
func (d *runDefinition) brief(line *commandLine) string {
	if strings.TrimSpace(d.Command) != "" {
		return d.Command
	}
	words := []string{"python", shellWord(d.Script)}
	for _, a := range d.arguments() {
		words = append(words, line.word(a))
	}
	return strings.Join(words, " ")
}
