package environment

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Tools is what the server has for making environments.
type Tools struct {
	// Uv gives the uv program for a platform, e.g. ("linux", "arm64"). nil: there is none, and only a uv that the
	// target has itself will do.
	Uv func(ctx context.Context, goos, goarch string) (compute.Tool, error)
	// Index is the operator's choice of package index. The zero value leaves it to each target's own configuration.
	Index Index
	// Python is what to do where the Python that is asked for is not there.
	Python Policy
}

// Plan says how a target makes what spec asks for. facts are the Details of the target's Probe: "os", "arch", "python",
// the paths of "micromamba", "mamba", "conda", "pixi", "uv", "docker" and "podman" where it has them, and
//
//   - "containers": "docker" or "kubernetes" where each job is in a container, of facts["image"] if its environment names
//     none; "machine" where the machine's own engine, facts["engine"], runs those jobs whose environment names an image;
//     "none" and "never" where such a machine has no engine that can be used, for the reason in facts["engine_problem"], or
//     the compute's settings switch it off; nothing where the kind runs no containers.
//
// The curated table goes before: an image of Azure's that it maps to nothing counts as none named. Where the job is in a
// container, packages are installed there, by uv with the image's Python, and the hash is of the image too. Elsewhere an image
// is not used, and said not to be, and why. The Say line tells which way was taken and why.
//
// A build context is a Problem Unsupported: who can build it has put its image in its place before. An unknown curated name
// is a Problem that lists the nearest ones. What the target's package manager will refuse is not foreseen: its own words end the job in Preparing.
func Plan(ctx context.Context, spec Spec, facts map[string]string, tools Tools, curated Curated) (Planned, error) {
	at := placeOf(facts)
	if spec.Build != nil {
		return Planned{}, buildUnsupported()
	}
	spec, curatedSay, err := curated.resolve(spec, at.can)
	if err != nil {
		return Planned{}, err
	}
	r, err := spec.normalise()
	if err != nil {
		return Planned{}, err
	}
	var say []string
	if curatedSay != "" {
		say = append(say, curatedSay)
	}
	image, imageSay := at.choose(r)
	say = append(append(say, r.Say...), imageSay...)
	var p Planned
	if image != "" {
		p.Image = &compute.Image{Name: image}
	}
	inside := at.always || image != ""
	if !r.packages() && r.Interpreter == "" && len(say) == 0 && len(spec.Variables) == 0 {
		return p, nil
	}
	e, err := plan(ctx, r, facts, tools, inside)
	if err != nil {
		return Planned{}, err
	}
	if inside {
		within(image, e)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		e.Env = append(e.Env, name+"="+spec.Variables[name])
	}
	if e.Say != "" {
		say = append(say, e.Say)
	}
	e.Say = strings.Join(say, "; ")
	p.Environment = e
	return p, nil
}

// plan picks the way to what a recipe asks for, on the target itself or inside a container there.
func plan(ctx context.Context, r recipe, facts map[string]string, tools Tools, inside bool) (*compute.Environment, error) {
	if inside {
		facts = insideFacts(facts)
	}
	switch w := condaWay(r, facts); {
	case r.Interpreter != "":
		return ownPython(r), nil
	case !r.packages() && inside:
		return &compute.Environment{}, nil
	case !r.packages():
		return machinesPython(), nil
	case w != nil:
		return w.plan(r, tools.Index), nil
	}
	return uvPlan(ctx, r, facts, tools, inside)
}

func buildUnsupported() error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "BuildContextUnsupported", Target: "environment",
		Message: "the environment is a build context, and this kind of compute builds no images",
		Cause:   "it has no container engine that Moorage uses",
		Mend:    "list the packages in a conda_file instead of a Dockerfile",
	}
}

// way is a conda tool on the target.
type way struct {
	name, path string
	args       func(tool string) [][]string // the commands, given the tool's path
	folder     string                       // of the environment, below {{env}}
}

// The conda tools, best first.
var condaWays = []way{
	{name: "micromamba", folder: "conda", args: func(t string) [][]string {
		return [][]string{{t, "create", "-y", "-p", "{{env}}/conda", "-f", "{{env}}/spec.yml"}}
	}},
	{name: "mamba", folder: "conda", args: func(t string) [][]string {
		return [][]string{{t, "env", "create", "-p", "{{env}}/conda", "-f", "{{env}}/spec.yml"}}
	}},
	{name: "conda", folder: "conda", args: func(t string) [][]string {
		return [][]string{{t, "env", "create", "-p", "{{env}}/conda", "-f", "{{env}}/spec.yml"}}
	}},
	{name: "pixi", folder: "pixi/.pixi/envs/default", args: func(t string) [][]string {
		return [][]string{
			{t, "init", "--import", "{{env}}/spec.yml", "{{env}}/pixi"},
			{t, "install", "--manifest-path", "{{env}}/pixi/pixi.toml"},
		}
	}},
}

// condaWay picks the conda tool to use, or nil for uv: there is none, or nothing is asked that needs one, which is
// when all packages come from PyPI and the target's own Python will do.
func condaWay(r recipe, facts map[string]string) *way {
	if r.onlyPip() && r.Python == "" {
		return nil
	}
	for _, w := range condaWays {
		if path := facts[w.name]; path != "" {
			w.path = path
			return &w
		}
	}
	return nil
}

func (w *way) plan(r recipe, index Index) *compute.Environment {
	e := &compute.Environment{
		Hash: hash(w.name, r.key(), index.key()),
		Path: []string{w.folder + "/bin"},
		Env:  []string{"CONDA_PREFIX={{env}}/" + w.folder, "CONDA_DEFAULT_ENV={{env}}/" + w.folder},
		Say:  fmt.Sprintf("environment by %s, found at %s", w.name, w.path),
	}
	files := index.files()
	files["spec.yml"] = r.condaFile()
	for _, args := range w.args(w.path) {
		e.Steps = append(e.Steps, compute.Step{Args: index.env("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", args), Files: files})
		files = nil
	}
	return e
}

// condaFile is the recipe as a conda environment file.
func (r recipe) condaFile() string {
	var b strings.Builder
	channels := r.Channels
	if len(channels) == 0 {
		channels = []string{"conda-forge"}
	}
	b.WriteString("channels:\n")
	for _, c := range channels {
		fmt.Fprintf(&b, "  - %q\n", c)
	}
	b.WriteString("dependencies:\n")
	fmt.Fprintf(&b, "  - %q\n", condaPython(r.Python))
	hasPip := false
	for _, p := range r.Conda {
		hasPip = hasPip || p.Name == "pip"
		fmt.Fprintf(&b, "  - %q\n", p.String())
	}
	if len(r.Pip) == 0 {
		return b.String()
	}
	if !hasPip {
		b.WriteString("  - \"pip\"\n")
	}
	b.WriteString("  - pip:\n")
	for _, line := range append(r.Options, r.Pip...) {
		fmt.Fprintf(&b, "    - %q\n", line)
	}
	return b.String()
}

// condaPython is the package of a Python version or range in conda's grammar.
func condaPython(version string) string {
	if version == "" || strings.ContainsAny(version, "<>!~=") {
		return "python" + version
	}
	return "python=" + version
}

// uvScript runs uv with the settings that pip would use on the target.
//
//go:embed uv.sh
var uvScript string

func uvPlan(ctx context.Context, r recipe, facts map[string]string, tools Tools, inside bool) (*compute.Environment, error) {
	program, placed, why, err := uvProgram(ctx, facts, tools)
	if err != nil {
		return nil, err
	}
	if inside {
		why = "it is made inside the container"
	}
	fromConda, warnings := onPyPI(r.Conda)
	requirements := unique(append(fromConda, r.Pip...))
	files := tools.Index.files()
	files["uv.sh"], files["venv.sh"] = uvScript, venvScript
	files["requirements.txt"] = strings.Join(append(uvOptions(r.Options), requirements...), "\n") + "\n"
	run := func(args ...string) []string {
		return tools.Index.env("UV_DEFAULT_INDEX", "UV_INDEX", append([]string{"sh", "{{env}}/uv.sh", "{{env}}", program}, args...))
	}
	policy := cmp.Or(tools.Python, Compatible)
	venv := []string{"sh", "{{env}}/venv.sh", "{{env}}", program, string(policy)}
	if r.Python != "" {
		venv = append(venv, r.Python)
		warnings = append(warnings, pythonSay(r.Python, policy))
	}
	venv = tools.Index.env("UV_DEFAULT_INDEX", "UV_INDEX", venv)
	e := &compute.Environment{
		Hash:  hash("uv", r.key(), tools.Index.key(), string(policy)),
		Steps: []compute.Step{{Args: venv, Files: files}},
		Tools: placed,
		Path:  []string{"venv/bin"},
		Env:   []string{"VIRTUAL_ENV={{env}}/venv"},
		Say:   strings.Join(append([]string{"environment by uv, because " + why}, warnings...), "; "),
	}
	if len(requirements) > 0 {
		install := run("pip", "install", "--python", "{{env}}/venv/bin/python", "-r", "{{env}}/requirements.txt")
		e.Steps = append(e.Steps, compute.Step{Args: append(install, uvFlags(r.Options)...)})
	}
	return e, nil
}

func pythonSay(python string, policy Policy) string {
	if policy == Exact {
		return "Python " + python + " and no other"
	}
	return "Python " + python + ", or the nearest that can be had"
}

// uvOptions are the lines of a requirements file that uv takes.
func uvOptions(options []string) []string {
	var lines []string
	for _, o := range options {
		if o != "--pre" && !strings.HasPrefix(o, "--trusted-host ") {
			lines = append(lines, o)
		}
	}
	return lines
}

// uvFlags are the options that uv takes on its command line only.
func uvFlags(options []string) []string {
	var flags []string
	for _, o := range options {
		if host, ok := strings.CutPrefix(o, "--trusted-host "); ok {
			flags = append(flags, "--allow-insecure-host", host)
		}
		if o == "--pre" {
			flags = append(flags, "--prerelease", "allow")
		}
	}
	return flags
}

// uvProgram gives what stands for uv in a command: the placed program, or the target's own if the server has none.
func uvProgram(ctx context.Context, facts map[string]string, tools Tools) (program string, placed []compute.Tool, why string, err error) {
	why = "all its packages are on PyPI"
	if !hasCondaTool(facts) {
		why = "the machine has no conda tool"
	}
	if tools.Uv != nil {
		var t compute.Tool
		if t, err = tools.Uv(ctx, goos(facts["os"]), goarch(facts["arch"])); err == nil {
			return "{{tool." + t.Name + "}}", []compute.Tool{t}, why, nil
		}
	}
	if own := facts["uv"]; own != "" {
		return own, nil, why + ", with the machine's own uv", nil
	}
	if err != nil {
		return "", nil, "", fmt.Errorf("environment: plan: %w", err)
	}
	return "", nil, "", &workspace.Problem{
		Class: workspace.Unavailable, Code: "NoPackageTool", Target: "environment",
		Message: "packages cannot be installed on this compute",
		Cause:   "it has none of micromamba, conda, pixi and uv, and this server has no uv to place there",
		Mend:    "install uv or micromamba on it, or set the server's package index",
	}
}

func hasCondaTool(facts map[string]string) bool {
	for _, w := range condaWays {
		if facts[w.name] != "" {
			return true
		}
	}
	return false
}

func goos(name string) string {
	if name == "" {
		return "linux"
	}
	return strings.ToLower(name)
}

func goarch(name string) string {
	switch strings.ToLower(name) {
	case "x86_64", "":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return strings.ToLower(name)
}
