package environment

import (
	"fmt"
	"regexp"
	"strings"
)

// condaFile is a conda environment file, read.
type condaFile struct {
	Channels []string
	Packages []condaPackage
	Pip      []string
}

// condaPackage is one package that conda should install. Version is in conda's own grammar without spaces: "",
// "=1.26", "==1.26.4", ">=1.2,<2". Build is conda's build string, which only conda understands.
type condaPackage struct {
	Channel, Name, Version, Build string
}

// The largest conda file read, in bytes; real ones have a few kilobytes.
const maxCondaFile = 256 << 10

// parseConda reads the text of a conda environment file. Empty text is an empty file. It is safe on bytes from outside.
func parseConda(text string) (condaFile, error) {
	var f condaFile
	if strings.TrimSpace(text) == "" {
		return f, nil
	}
	if len(text) > maxCondaFile {
		return f, invalid("condaFile", fmt.Sprintf("the conda file has %d bytes", len(text)), "", fmt.Sprintf("keep it below %d bytes", maxCondaFile))
	}
	var doc struct {
		Channels     []string `yaml:"channels"`
		Dependencies []any    `yaml:"dependencies"`
	}
	if err := readYAML([]byte(text), &doc); err != nil {
		return f, condaSyntax(err)
	}
	for _, c := range doc.Channels {
		if c = strings.TrimSpace(c); c == "" || strings.ContainsAny(c, "\n\r\x00") {
			return f, invalid("condaFile", fmt.Sprintf("the conda file has channel %q", c), "", "name channels as conda does, e.g. conda-forge")
		}
		f.Channels = append(f.Channels, c)
	}
	for i, d := range doc.Dependencies {
		if err := f.add(i, d); err != nil {
			return condaFile{}, err
		}
	}
	return f, nil
}

func (f *condaFile) add(i int, dependency any) error {
	switch d := dependency.(type) {
	case string:
		p, err := parseCondaPackage(d)
		if err != nil {
			return err
		}
		f.Packages = append(f.Packages, p)
	case map[string]any:
		for key, value := range d {
			lines, ok := value.([]any)
			if key != "pip" || (!ok && value != nil) {
				return invalid("condaFile", fmt.Sprintf("dependency %d of the conda file is a mapping with the key %q", i+1, key), "",
					"write \"pip:\" with a list below it, or the package as \"name=version\"")
			}
			for n, line := range lines {
				s, ok := line.(string)
				if !ok {
					return invalid("condaFile", fmt.Sprintf("line %d of the conda file's pip section is not text", n+1), "",
						"write each requirement as text, e.g. - numpy==1.26.4")
				}
				f.Pip = append(f.Pip, s)
			}
		}
	default:
		return invalid("condaFile", fmt.Sprintf("dependency %d of the conda file is not text", i+1), "",
			"write each dependency as text, e.g. - numpy=1.26")
	}
	return nil
}

var (
	// channel::name, then a version that begins with an operator or after a space, then a build after a second "=".
	condaName    = regexp.MustCompile(`^(?:([A-Za-z0-9_./:%-]+?)::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)`)
	condaVersion = regexp.MustCompile(`^(?:[<>!~=]=?=?)?[A-Za-z0-9_.*+!]+$`)
	condaBuild   = regexp.MustCompile(`^[A-Za-z0-9_.*+-]+$`)
	operator     = regexp.MustCompile(`^[<>!~=]+`)
)

// parseCondaPackage reads one match specification: "numpy", "numpy=1.26", "numpy 1.26.*", "conda-forge::numpy>=1.2,<2",
// "numpy=1.26.4=py311h64a7726_0", "numpy[version='>=1.2']".
func parseCondaPackage(text string) (condaPackage, error) {
	bad := func(cause string) (condaPackage, error) {
		return condaPackage{}, invalid("condaFile", fmt.Sprintf("the conda file asks for %q", clip(text)), cause,
			"write it as conda does, e.g. numpy, numpy=1.26 or numpy>=1.26,<2")
	}
	s := strings.TrimSpace(text)
	s, _, _ = strings.Cut(s, " #")
	m := condaName.FindStringSubmatch(s)
	if m == nil {
		return bad("it does not begin with the name of a package")
	}
	p := condaPackage{Channel: m[1], Name: strings.ToLower(m[2])}
	rest := strings.TrimSpace(s[len(m[0]):])
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return bad("the bracket is not closed")
		}
		return p.brackets(inner, bad)
	}
	version, build := splitBuild(rest)
	p.Version, p.Build = strings.ReplaceAll(version, " ", ""), build
	return p.checked(bad)
}

// splitBuild parts "=1.26.4=py311_0" and "1.26.4 py311_0" into version and build.
func splitBuild(s string) (version, build string) {
	if i := strings.LastIndexByte(s, '='); i > 0 && !strings.ContainsAny(s[i-1:i], "<>!~=") && strings.HasPrefix(s, "=") {
		return s[:i], s[i+1:]
	}
	fields := strings.Fields(s)
	if len(fields) == 2 && operator.FindString(fields[0]) == "" && operator.FindString(fields[1]) == "" {
		return fields[0], fields[1]
	}
	return s, ""
}

// exactOrFuzzy gives a bare version the operator that conda reads into it.
func exactOrFuzzy(clause string) string {
	if operator.FindString(clause) != "" {
		return clause
	}
	if base, ok := strings.CutSuffix(clause, ".*"); ok {
		return "=" + base
	}
	return "==" + clause
}

func (p condaPackage) brackets(inner string, bad func(string) (condaPackage, error)) (condaPackage, error) {
	for part := range splitOutsideQuotes(inner) {
		key, value, _ := strings.Cut(part, "=")
		value = strings.Trim(strings.TrimSpace(value), `'"`)
		switch strings.TrimSpace(key) {
		case "version":
			p.Version = strings.ReplaceAll(value, " ", "")
		case "build":
			p.Build = value
		case "channel":
			p.Channel = value
		default:
			return bad(fmt.Sprintf("%q in brackets is not understood", clip(key)))
		}
	}
	return p.checked(bad)
}

// splitOutsideQuotes yields the parts of s between commas that are not inside quotes.
func splitOutsideQuotes(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		var quote rune
		start := 0
		for i, r := range s {
			switch {
			case quote != 0:
				if r == quote {
					quote = 0
				}
			case r == '\'' || r == '"':
				quote = r
			case r == ',':
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(s[start:])
	}
}

// checked completes the version and refuses what conda would not understand.
func (p condaPackage) checked(bad func(string) (condaPackage, error)) (condaPackage, error) {
	if p.Build != "" && !condaBuild.MatchString(p.Build) {
		return bad("its build is not understood")
	}
	if p.Version == "" {
		return p, nil
	}
	var alternatives []string
	for alternative := range strings.SplitSeq(p.Version, "|") {
		var clauses []string
		for clause := range strings.SplitSeq(alternative, ",") {
			if !condaVersion.MatchString(clause) {
				return bad("its version is not understood")
			}
			clauses = append(clauses, exactOrFuzzy(clause))
		}
		alternatives = append(alternatives, strings.Join(clauses, ","))
	}
	p.Version = strings.Join(alternatives, "|")
	return p, nil
}

func condaSyntax(err error) error {
	return invalid("condaFile", "the conda file is not valid YAML for a conda environment", yamlCause(err),
		"give it the keys channels and dependencies, each with a list")
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
