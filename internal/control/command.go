package control

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// commandJob is our view of the properties of a v2 command job; what it does not name stays in the document
// (azureml-v2.md §9).
type commandJob struct {
	JobType        string               `json:"jobType"`
	DisplayName    string               `json:"displayName"`
	ExperimentName string               `json:"experimentName"`
	ComputeID      string               `json:"computeId"`
	ParentJobName  string               `json:"parentJobName"`
	Command        string               `json:"command"`
	CodeID         string               `json:"codeId"`
	EnvironmentID  string               `json:"environmentId"`
	Variables      textMap              `json:"environmentVariables"`
	Inputs         map[string]jobInput  `json:"inputs"`
	Outputs        map[string]jobOutput `json:"outputs"`
	Tags           textMap              `json:"tags"`
	Properties     textMap              `json:"properties"`
	Resources      jobResources         `json:"resources"`
	Distribution   *jobDistribution     `json:"distribution"`
	Limits         struct {
		Timeout string `json:"timeout"`
	} `json:"limits"`
	QueueSettings struct {
		Priority json.RawMessage `json:"priority"`
	} `json:"queueSettings"`
}

// textMap is an object of texts. Numbers and truth values are taken as JSON writes them, and null as "".
type textMap map[string]string

// UnmarshalJSON reads an object of scalars.
func (t *textMap) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil || all == nil {
		return err
	}
	*t = make(textMap, len(all))
	for name, v := range all {
		var text string
		if json.Unmarshal(v, &text) != nil {
			if v[0] == '{' || v[0] == '[' {
				return fmt.Errorf("%s must be a text, not %.40s", quote(name), v)
			}
			text = string(v)
		}
		(*t)[name] = text
	}
	return nil
}

type jobInput struct {
	Type  string          `json:"jobInputType"`
	Value json.RawMessage `json:"value"`
	URI   string          `json:"uri"`
	Mode  string          `json:"mode"`

	assets int // through how many data assets the URI was found
}

type jobOutput struct {
	Type string `json:"jobOutputType"`
	URI  string `json:"uri"`
	Mode string `json:"mode"`
}

// parseCommandJob reads the properties of a job and refuses what cannot run, naming it.
func parseCommandJob(properties json.RawMessage) (*commandJob, error) {
	var j commandJob
	if err := json.Unmarshal(properties, &j); err != nil {
		return nil, invalid("InvalidJob", "properties", "the job's properties cannot be read", err.Error(), "send them as Azure ML v2 describes a command job")
	}
	if j.JobType == "" {
		return nil, invalid("MissingJobType", "jobType", "the job has no jobType", "", "give one: Command")
	}
	if !strings.EqualFold(j.JobType, "Command") {
		return nil, &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedJobType", Target: "jobType",
			Message: fmt.Sprintf("jobs of type %s cannot run on this server", j.JobType),
			Mend:    "submit a job of type command; a script that starts the work may do in place of it",
		}
	}
	if strings.TrimSpace(j.Command) == "" {
		return nil, invalid("MissingCommand", "command", "the job has no command", "", "give the command that is to run")
	}
	if err := checkVariableNames(j.Variables); err != nil {
		return nil, err
	}
	return &j, nil
}

// checkVariableNames refuses what a process cannot have in its environment.
func checkVariableNames(variables textMap) error {
	for name := range variables {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return invalid("InvalidVariable", "environmentVariables", fmt.Sprintf("%q is not the name of an environment variable", name), "", "use letters, digits and underscores")
		}
	}
	return nil
}

// gpus is how many devices the job wants: resources.properties.gpus, as number or text.
func (j *commandJob) gpus() (int, error) {
	v, ok := j.Resources.Properties["gpus"]
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < 0 {
		return 0, invalid("InvalidGPUs", "resources.properties.gpus", fmt.Sprintf("%v is not a number of GPUs", v), "", "give a whole number, 0 or more")
	}
	return n, nil
}

// isLocal tells whether the client asked for compute="local" (azureml-v2.md §9).
func (j *commandJob) isLocal() bool {
	for k, v := range j.Resources.Properties {
		if strings.EqualFold(k, "IsLocal") {
			return !strings.EqualFold(fmt.Sprint(v), "false")
		}
	}
	return false
}

func (j *commandJob) priority() int {
	text := strings.Trim(string(j.QueueSettings.Priority), `"`)
	switch strings.ToLower(text) {
	case "low":
		return 1
	case "high":
		return 3
	case "", "null", "medium":
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 2
	}
	return n
}

var (
	reference = regexp.MustCompile(`\$\{\{\s*(\w+)\.([\w.-]+)\s*\}\}`)
	optional  = regexp.MustCompile(`\$\[\[(.*?)\]\]`)
)

// fill puts literal inputs into the command and leaves references to files, inputs and outputs, for the target. Blocks
// in $[[ ]] stay only when all inputs in them are given.
func (j *commandJob) fill() (string, error) {
	var failure error
	replace := func(text string) string {
		return reference.ReplaceAllStringFunc(text, func(ref string) string {
			m := reference.FindStringSubmatch(ref)
			kind, name := m[1], m[2]
			switch kind {
			case "inputs":
				in, ok := j.Inputs[name]
				if ok && in.literal() {
					return in.text()
				}
				if ok {
					return "${{inputs." + name + "}}"
				}
			case "outputs":
				if _, ok := j.Outputs[name]; ok {
					return "${{outputs." + name + "}}"
				}
			}
			if failure == nil {
				failure = invalid("UnknownReference", "command", fmt.Sprintf("the command refers to %s, which the job does not declare", ref), "",
					"declare it under inputs or outputs, or take it out of the command")
			}
			return ref
		})
	}
	command := optional.ReplaceAllStringFunc(j.Command, func(block string) string {
		for _, m := range reference.FindAllStringSubmatch(block, -1) {
			if _, given := j.Inputs[m[2]]; m[1] == "inputs" && !given {
				return ""
			}
		}
		return strings.TrimSuffix(strings.TrimPrefix(block, "$[["), "]]")
	})
	return replace(command), failure
}

func (in jobInput) literal() bool {
	return strings.EqualFold(in.Type, "literal") || in.Type == "" && in.URI == ""
}

// text is a literal's value as the command sees it: strings without quotes, everything else as JSON writes it, and
// truth values as Python does, because that is what the v2 client sends them for.
func (in jobInput) text() string {
	var s string
	if json.Unmarshal(in.Value, &s) == nil {
		return s
	}
	switch t := string(in.Value); t {
	case "true":
		return "True"
	case "false":
		return "False"
	case "null":
		return ""
	default:
		return t
	}
}

func (in jobInput) folder() bool {
	return !strings.EqualFold(in.Type, "uri_file")
}

func (out jobOutput) folder() bool {
	return !strings.EqualFold(out.Type, "uri_file")
}

// inputModes and outputModes are the modes that these kinds of compute can keep. The first is the default.
var (
	inputModes  = []string{"", "Download", "ReadOnlyMount", "Direct", "EvalDownload", "EvalMount"}
	outputModes = []string{"", "Upload", "ReadWriteMount"}
)

func checkMode(what, name, mode string, modes []string) error {
	if slices.ContainsFunc(modes, func(m string) bool { return strings.EqualFold(m, strings.ReplaceAll(mode, "_", "")) }) || strings.EqualFold(mode, "ro_mount") || strings.EqualFold(mode, "rw_mount") {
		return nil
	}
	return invalid("UnsupportedMode", what, fmt.Sprintf("%s %q has mode %q, which is not known", what, name, mode), "",
		"use download or ro_mount for inputs, upload or rw_mount for outputs")
}

var isoDuration = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseDuration reads an ISO 8601 duration of days, hours, minutes and seconds; "" is none.
func parseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	m := isoDuration.FindStringSubmatch(text)
	if m == nil || text == "P" || strings.HasSuffix(text, "T") {
		return 0, invalid("InvalidTimeout", "limits.timeout", fmt.Sprintf("%q is not a length of time", text), "", "write it as ISO 8601 does, e.g. PT30M")
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil || n > 1e6 {
			return 0, invalid("InvalidTimeout", "limits.timeout", fmt.Sprintf("%q is too long a time", text), "", "give a shorter one")
		}
		d += time.Duration(n * float64(unit))
	}
	return d, nil
}

func invalid(code, target, message, cause, mend string) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: code, Target: target, Message: message, Cause: cause, Mend: mend}
}
