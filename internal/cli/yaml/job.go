package yaml

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Job is a command job read from YAML. What needs the server or the content of folders is not in Properties yet; the
// fields beside it say what to fill in.
type Job struct {
	Name        string
	Properties  map[string]any // of the ARM body: without codeId, computeId, environmentId and the uris of Local
	Compute     string         // as written, without "azureml:"; "" is the server's choice
	Code        string         // path of the source folder or file; "" if there is none or CodeRef is set
	CodeRef     string         // a reference to code that the server has: azureml:… or an ARM id
	Local       []LocalInput   // inputs that must be uploaded
	Refs        []RefInput     // inputs that name a data asset of the workspace
	Environment *Environment   // nil: none asked for
	Warnings    []workspace.Problem
}

// LocalInput is an input whose path is a file or folder here.
type LocalInput struct {
	Name   string
	Path   string
	Folder bool
}

// RefInput is an input that names a data asset: azureml:name:version or azureml:name@label.
type RefInput struct {
	Name string
	Ref  string
}

// The fields of the v2 documents (azureml-v2.md §14).
var (
	jobFields = []string{
		"$schema", "type", "command", "code", "environment", "environment_variables", "inputs", "outputs", "compute", "resources", "distribution",
		"limits", "queue_settings", "services", "identity", "name", "display_name", "experiment_name", "description", "tags", "properties",
		"parent_job_name", "id", "creation_context", "status", "log_files",
	}
	resourceFields = []string{"instance_count", "instance_type", "shm_size", "docker_args", "locations", "max_instance_count", "properties"}
)

var (
	jobTiers      = map[string]string{"spot": "Spot", "basic": "Basic", "standard": "Standard", "premium": "Premium", "null": "Null"}
	jobPriorities = map[string]string{"low": "1", "medium": "2", "high": "3"}
	identities    = map[string]string{
		"managed": "Managed", "managed_identity": "Managed", "aml_token": "AMLToken", "amltoken": "AMLToken",
		"user_identity": "UserIdentity", "user": "UserIdentity",
	}
)

// otherTypes are job types that v2 knows and that are not command jobs.
var otherTypes = []string{"pipeline", "sweep", "spark", "automl", "parallel", "import", "data_transfer", "finetuning", "distillation", "base"}

// ParseJob reads a command job. All that is wrong is in the error, each with its line and column.
func ParseJob(d *Document) (*Job, error) {
	r := &reader{doc: d}
	if err := jobType(r); err != nil {
		return nil, err
	}
	o := r.object(d.Root, "", jobFields...)
	j := &Job{Name: o.text("name"), Properties: map[string]any{"jobType": "Command", "isArchived": false}}
	p := j.Properties
	if c := o.text("command"); c != "" {
		p["command"] = c
	} else if !o.has("command") {
		r.fail(nil, "MissingField", `the field "command" is missing`, `add it: command: python train.py`)
	}
	if p := o.get("name"); p != nil && p.Kind == Scalar {
		if bad := workspace.CheckName("job", j.Name); bad != nil {
			r.fail(p, bad.Code, bad.Message, bad.Mend)
		}
	}
	for key, wire := range map[string]string{
		"display_name": "displayName", "experiment_name": "experimentName", "description": "description", "parent_job_name": "parentJobName",
	} {
		if o.has(key) {
			p[wire] = o.text(key)
		}
	}
	for key, wire := range map[string]string{"tags": "tags", "properties": "properties", "environment_variables": "environmentVariables"} {
		if o.has(key) {
			p[wire] = o.texts(key)
		}
	}
	j.Compute = strings.TrimPrefix(o.text("compute"), "azureml:")
	j.code(o)
	j.inputs(o)
	outputs(o, p)
	resources(o, p)
	distribution(o, p)
	j.Environment = readEnvironment(o)
	if l := o.child("limits", "timeout", "type"); l.n != nil {
		if n, ok := l.number("timeout", 1); ok {
			p["limits"] = map[string]any{"jobLimitsType": "Command", "timeout": isoDuration(n)}
		}
	}
	if q := o.child("queue_settings", "job_tier", "priority"); q.n != nil {
		settings := map[string]any{}
		if v := q.choice("job_tier", jobTiers); v != "" {
			settings["jobTier"] = v
		}
		if v := q.choice("priority", jobPriorities); v != "" {
			settings["priority"] = int(v[0] - '0')
		}
		p["queueSettings"] = settings
	}
	if id := o.child("identity", "type", "client_id", "object_id", "msi_resource_id"); id.n != nil {
		if v := id.choice("type", identities); v != "" {
			p["identity"] = map[string]any{"identityType": v}
		}
	}
	if s := o.get("services"); s != nil {
		r.warn(s.Line, s.Column, "Ignored", `"services" are not offered here`, "they are ignored; the job runs without them")
	}
	j.Warnings = r.warnings
	return j, r.err()
}

// jobType refuses what is not a command job, by name.
func jobType(r *reader) error {
	root := r.doc.Root
	kind, where := "", root
	if t := root.Get("type"); t != nil && t.Kind == Scalar {
		kind, where = strings.ToLower(t.Text), t
	} else if s := root.Get("$schema"); s != nil && s.Kind == Scalar {
		where = s
		base := s.Text[strings.LastIndexByte(s.Text, '/')+1:]
		kind = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(base, ".json"), ".schema"))
		if !strings.HasSuffix(kind, "job") && !strings.HasSuffix(kind, "component") {
			if _, compute := computeSchemas[kind]; compute {
				kind = "compute"
			} else {
				kind = ""
			}
		}
		kind = strings.TrimSuffix(kind, "job")
	}
	if kind == "" {
		for field, means := range map[string]string{"jobs": "pipeline", "trial": "sweep", "entry": "spark"} {
			if root.Get("command") == nil && root.Get(field) != nil {
				kind, where = means, root.Get(field)
			}
		}
	}
	switch {
	case kind == "" || kind == "command":
		return nil
	case kind == "compute" || computeTypes[kind] != "":
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "NotAJob", Target: r.doc.File,
			Message: r.doc.where(where.Line, where.Column) + ": this is a compute, not a job",
			Mend:    "moorage compute attach -f " + r.doc.File,
		}
	}
	p := &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedJobType", Target: r.doc.File,
		Message: fmt.Sprintf("%s: jobs of type %q are not run by Moorage yet", r.doc.where(where.Line, where.Column), clip(kind)),
		Mend:    "write its steps as command jobs (type: command)",
	}
	if !slices.Contains(otherTypes, kind) {
		p.Class, p.Message = workspace.Invalid, fmt.Sprintf("%s: %q is not a type of job", r.doc.where(where.Line, where.Column), clip(kind))
		p.Mend = "use type: command"
		if near := nearest(kind, append([]string{"command"}, otherTypes...)); near != "" {
			p.Mend = fmt.Sprintf("did you mean %q?", near)
		}
	}
	return p
}

func (j *Job) code(o object) {
	n := o.get("code")
	if n == nil {
		return
	}
	text := o.text("code")
	switch {
	case text == "":
	case strings.HasPrefix(text, "git+") || strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://"):
		o.r.fail(n, "Unsupported", fmt.Sprintf("code cannot be taken from %q", clip(text)), "clone it here, and name the folder: code: ./src")
	case strings.HasPrefix(text, "azureml:") || strings.HasPrefix(text, "/subscriptions/"):
		j.CodeRef = text
	default:
		j.Code = o.r.doc.Path(text)
		if _, err := os.Stat(j.Code); err != nil {
			o.r.fail(n, "CodeNotFound", fmt.Sprintf("the code %s cannot be read: %s", j.Code, reason(err)), "relative paths start at the folder of the YAML file")
		}
	}
}

func resources(o object, p map[string]any) {
	res := o.child("resources", resourceFields...)
	if res.n == nil {
		return
	}
	wire := map[string]any{}
	for key, name := range map[string]string{"instance_count": "instanceCount", "max_instance_count": "maxInstanceCount"} {
		if n, ok := res.number(key, 1); ok {
			wire[name] = n
		}
	}
	for key, name := range map[string]string{"instance_type": "instanceType", "shm_size": "shmSize"} {
		if v := res.text(key); v != "" {
			wire[name] = v
		}
	}
	if args := res.get("docker_args"); args != nil {
		o.r.warn(args.Line, args.Column, "Ignored", `of "docker_args" only --shm-size, --memory and --cpus are heeded`, "the job's property moorage.note tells what was not used")
	}
	if args := res.get("docker_args"); args != nil && args.Kind == List {
		wire["dockerArgsList"] = res.list("docker_args")
	} else if args != nil {
		wire["dockerArgs"] = res.text("docker_args")
	}
	if v := res.list("locations"); v != nil {
		wire["locations"] = v
	}
	if v := res.get("properties"); v != nil {
		if v.Kind != Map {
			o.r.fail(v, "InvalidField", `"resources.properties" must be a map, not `+v.what(), "for example properties: {gpus: 1}")
		} else {
			wire["properties"] = v.Any()
		}
	}
	p["resources"] = wire
}

func distribution(o object, p map[string]any) {
	d := o.child("distribution", "type", "process_count_per_instance", "worker_count", "parameter_server_count", "port", "address",
		"include_dashboard", "dashboard_port", "head_node_additional_args", "worker_node_additional_args")
	if d.n == nil {
		return
	}
	kind := d.choice("type", map[string]string{"pytorch": "PyTorch", "tensorflow": "TensorFlow", "mpi": "Mpi", "ray": "Ray"})
	if kind == "" {
		if !d.has("type") {
			o.r.fail(d.n, "MissingField", `"distribution.type" is missing`, "use pytorch, tensorflow, mpi or ray")
		}
		return
	}
	wire := map[string]any{"distributionType": kind}
	for key, name := range map[string]string{
		"process_count_per_instance": "processCountPerInstance", "worker_count": "workerCount", "parameter_server_count": "parameterServerCount",
		"port": "port", "dashboard_port": "dashboardPort",
	} {
		if n, ok := d.number(key, 0); ok {
			wire[name] = n
		}
	}
	for key, name := range map[string]string{
		"address": "address", "head_node_additional_args": "headNodeAdditionalArgs", "worker_node_additional_args": "workerNodeAdditionalArgs",
	} {
		if v := d.text(key); v != "" {
			wire[name] = v
		}
	}
	if v, ok := d.boolean("include_dashboard"); ok {
		wire["includeDashboard"] = v
	}
	p["distribution"] = wire
}

// isoDuration renders seconds as Azure's v2 client does: 90061 is P1DT1H1M1S.
func isoDuration(seconds int64) string {
	var b strings.Builder
	b.WriteString("P")
	if d := seconds / 86400; d > 0 {
		fmt.Fprintf(&b, "%dD", d)
	}
	rest := seconds % 86400
	if rest > 0 {
		b.WriteString("T")
	}
	for _, unit := range []struct {
		size int64
		name string
	}{{3600, "H"}, {60, "M"}, {1, "S"}} {
		if n := rest / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
		}
		rest %= unit.size
	}
	return b.String()
}
