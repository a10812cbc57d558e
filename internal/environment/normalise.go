package environment

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// recipe is a Spec, normalised: equal needs have equal recipes, however they were written. What has no order is
// sorted; channels and pip's options keep theirs, because the first wins.
type recipe struct {
	Image    string
	Python   string // "3.11", "3.8.13", or PEP 440 clauses ">=3.10,<3.13"; "": any
	Channels []string
	Conda    []condaPackage // without python
	Pip      []string
	Options  []string // of a requirements file, e.g. "--extra-index-url https://…"

	Dockerfile  bool
	Interpreter string
	// Say tells what stands for something else here. It follows from the rest, and is no part of the key.
	Say []string
}

// packages tells whether anything has to be installed or a certain Python is needed.
func (r recipe) packages() bool { return r.Python != "" || len(r.Conda) > 0 || len(r.Pip) > 0 }

// onlyPip tells whether nothing but pip's own companions is asked of conda.
func (r recipe) onlyPip() bool {
	return !slices.ContainsFunc(r.Conda, func(p condaPackage) bool {
		return p.Name != "pip" && p.Name != "setuptools" && p.Name != "wheel"
	})
}

// key is a text that two recipes share exactly when they are equal.
func (r recipe) key() string {
	conda := make([]string, 0, len(r.Conda))
	for _, p := range r.Conda {
		conda = append(conda, p.String())
	}
	return hash(r.Python, hash(r.Channels...), hash(conda...), hash(r.Pip...), hash(r.Options...))
}

// normalise reads a spec without a curated name and without a build context.
func (s Spec) normalise() (recipe, error) {
	f, err := parseConda(s.CondaFile)
	if err != nil {
		return recipe{}, err
	}
	r := recipe{Image: strings.TrimSpace(s.Image), Dockerfile: s.Dockerfile, Interpreter: s.Interpreter}
	if r.Python, err = pythonRange(s.Python); err != nil {
		return recipe{}, err
	}
	for _, p := range f.Packages {
		if p.Name != "python" {
			p.Name, p.Version = strings.ToLower(p.Name), sortClauses(p.Version)
			r.Conda = append(r.Conda, p)
			continue
		}
		version, err := pythonRange(p.Version)
		if err != nil {
			return recipe{}, err
		}
		if r.Python != "" && version != "" && version != r.Python {
			return recipe{}, invalid("condaFile", fmt.Sprintf("the environment asks for Python %s and for Python %s", r.Python, version), "", "name one version")
		}
		r.Python = cmp.Or(version, r.Python)
	}
	if len(r.Conda) > 0 {
		r.Channels = unique(f.Channels)
	}
	slices.SortFunc(r.Conda, func(a, b condaPackage) int { return strings.Compare(a.String(), b.String()) })
	r.Conda = slices.Compact(r.Conda)
	for _, line := range slices.Concat(f.Pip, s.Pip) {
		option, requirement, err := pipLine(line)
		if err != nil {
			return recipe{}, err
		}
		if meansDefaultIndex(option) {
			r.Say = append(r.Say, "the public index by its old address means the default index")
			option = ""
		}
		if option != "" {
			r.Options = append(r.Options, option)
		}
		if core, say, ok := sdk(requirement); ok {
			requirement, r.Say = core, append(r.Say, say)
		}
		if requirement != "" {
			r.Pip = append(r.Pip, requirement)
		}
	}
	r.Say = unique(r.Say)
	r.Options = unique(r.Options)
	slices.Sort(r.Pip)
	r.Pip = slices.Compact(r.Pip)
	return r, nil
}

// String is the package in conda's grammar.
func (p condaPackage) String() string {
	s := p.Name + p.Version
	if p.Channel != "" {
		s = p.Channel + "::" + s
	}
	if p.Build == "" {
		return s
	}
	if v, ok := strings.CutPrefix(p.Version, "=="); ok {
		return strings.TrimSuffix(s, p.Version) + "=" + v + "=" + p.Build
	}
	if strings.HasPrefix(p.Version, "=") {
		return s + "=" + p.Build
	}
	s = strings.TrimSuffix(s, p.Version)
	if p.Version != "" {
		return s + "[version='" + p.Version + "',build='" + p.Build + "']"
	}
	return s + "[build='" + p.Build + "']"
}

// sortClauses puts the clauses of ">=1,<2" in one order.
func sortClauses(version string) string {
	if !strings.Contains(version, ",") || strings.Contains(version, "|") {
		return version
	}
	clauses := strings.Split(version, ",")
	slices.Sort(clauses)
	return strings.Join(slices.Compact(clauses), ",")
}

var pythonClause = regexp.MustCompile(`^(==|!=|<=|>=|<|>|~=)\d+(\.\d+){0,2}(\.\*)?$`)

// pythonRange turns conda's or PEP 440's way of asking for a Python into "3.11", "3.8.13" or clauses.
func pythonRange(version string) (string, error) {
	version = strings.ReplaceAll(strings.TrimSpace(version), " ", "")
	if version == "" || version == "*" || version == "==*" {
		return "", nil
	}
	if operator.FindString(version) == "" {
		version = "=" + strings.TrimSuffix(version, ".*")
	}
	converted, ok := toPEP440(version)
	for clause := range strings.SplitSeq(converted, ",") {
		ok = ok && pythonClause.MatchString(clause)
	}
	if !ok {
		return "", invalid("python", fmt.Sprintf("Python %q is not understood", clip(version)), "", "write a version like 3.11 or a range like >=3.10,<3.13")
	}
	if v, single := strings.CutPrefix(converted, "=="); single && !strings.Contains(v, ",") {
		return strings.TrimSuffix(v, ".*"), nil
	}
	return sortClauses(converted), nil
}

// toPEP440 turns conda's grammar of versions into Python's. It is false for alternatives ("1.8|1.9"), which Python's
// grammar lacks.
func toPEP440(version string) (string, bool) {
	if strings.Contains(version, "|") {
		return "", false
	}
	var out []string
	for clause := range strings.SplitSeq(version, ",") {
		op := operator.FindString(clause)
		v := clause[len(op):]
		base, star := strings.CutSuffix(v, ".*")
		switch {
		case clause == "" || v == "*":
			continue
		case op == "=", op == "" && star:
			out = append(out, "=="+base+".*")
		case op == "":
			out = append(out, "=="+v)
		case star && op != "==" && op != "!=":
			out = append(out, op+base)
		default:
			out = append(out, op+v)
		}
	}
	return strings.Join(out, ","), true
}

// pipOptions are the options of a requirements file that a person may give, by their short and long names. What names
// a file is not among them: the job's code is not there yet when an environment is made.
var pipOptions = map[string]string{
	"-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
	"-f": "--find-links", "--find-links": "--find-links", "--no-index": "--no-index", "--pre": "--pre",
	"--no-binary": "--no-binary", "--only-binary": "--only-binary", "--trusted-host": "--trusted-host",
}

var (
	separators  = regexp.MustCompile(`[-_.]+`)
	requirement = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([A-Za-z0-9._,\s-]*)\])?\s*(.*)$`)
	pipClause   = regexp.MustCompile(`^(===|==|!=|<=|>=|<|>|~=)[A-Za-z0-9_.*+!-]+$`)
	pipHashes   = regexp.MustCompile(`^(--hash=[a-z0-9]+:[0-9a-f]+\s*)+$`)
	webAddress  = regexp.MustCompile(`^((git|hg|svn|bzr)\+)?(https?|ssh)://[^\s]+$`)
)

// pypiName is a package's name as the index compares it (PEP 503).
func pypiName(name string) string { return strings.ToLower(separators.ReplaceAllString(name, "-")) }

// pipLine reads one line of a requirements file: an option, or a requirement in canonical form, or neither for an
// empty line and a comment.
func pipLine(line string) (option, canonical string, err error) {
	s := strings.TrimSpace(line)
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	if s == "" || strings.HasPrefix(s, "#") {
		return "", "", nil
	}
	if strings.ContainsAny(s, "\n\r\x00") {
		return "", "", badRequirement(line, "it spans several lines")
	}
	if strings.HasPrefix(s, "-") {
		option, err = pipOption(s)
		return option, "", err
	}
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "file:") {
		return "", "", needsFile(line)
	}
	if webAddress.MatchString(s) {
		return "", s, nil
	}
	canonical, err = pipRequirement(s)
	return "", canonical, err
}

func pipOption(s string) (string, error) {
	name, value, _ := strings.Cut(s, " ")
	if n, v, ok := strings.Cut(name, "="); ok {
		name, value = n, v+value
	}
	value = strings.TrimSpace(value)
	switch name {
	case "-r", "--requirement", "-c", "--constraint", "-e", "--editable":
		return "", needsFile(s)
	}
	long, known := pipOptions[name]
	if !known {
		return "", badRequirement(s, "this option cannot be used here")
	}
	if value == "" {
		if long != "--no-index" && long != "--pre" {
			return "", badRequirement(s, "the option lacks its value")
		}
		return long, nil
	}
	if strings.HasSuffix(long, "-url") || long == "--find-links" {
		if u, err := url.Parse(value); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return "", badRequirement(s, "it does not name an https address")
		}
	}
	return long + " " + value, nil
}

func pipRequirement(s string) (string, error) {
	s, hashes, _ := strings.Cut(s, " --hash=")
	if hashes != "" {
		hashes = "--hash=" + hashes
		if !pipHashes.MatchString(hashes) {
			return "", badRequirement(s, "its hashes are not understood")
		}
		hashes = " " + strings.Join(strings.Fields(hashes), " ")
	}
	s, marker, _ := strings.Cut(s, ";")
	m := requirement.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return "", badRequirement(s, "it does not begin with the name of a package")
	}
	out := pypiName(m[1]) + extras(m[2])
	rest := strings.TrimSpace(m[3])
	if address, ok := strings.CutPrefix(rest, "@"); ok {
		address = strings.TrimSpace(address)
		if !webAddress.MatchString(address) {
			return "", needsFile(s)
		}
		out += " @ " + address
	} else if rest != "" {
		rest = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(rest, "("), ")"), " ", "")
		for clause := range strings.SplitSeq(rest, ",") {
			if !pipClause.MatchString(clause) {
				return "", badRequirement(s, "its version is not understood")
			}
		}
		out += sortClauses(rest)
	}
	if marker = strings.Join(strings.Fields(marker), " "); marker != "" {
		out += " ; " + marker
	}
	return out + hashes, nil
}

func extras(list string) string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, pypiName(name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "[" + strings.Join(slices.Compact(names), ",") + "]"
}

func badRequirement(line, cause string) error {
	return invalid("condaFile", fmt.Sprintf("the pip requirement %q cannot be used", clip(line)), cause, "write it as pip does, e.g. numpy==1.26.4")
}

func needsFile(line string) error {
	return invalid("condaFile", fmt.Sprintf("the pip requirement %q names a file", clip(line)),
		"an environment is made before the job's code is placed, and is shared by jobs",
		"list the packages themselves, or install the file in the job's command")
}

// unique drops repetitions and keeps the order.
func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
