package environment

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// What azureml-core writes into every environment, and what stands for it here.
const (
	// sdkDefaults is the package that its clients add to each environment. Where one of its parts has no build for a machine
	// (a newer Python, another C library), resolvers silently go back to its release of 2019.
	sdkDefaults = "azureml-defaults"
	// sdkCore is the part of it by which a job knows its run. It is pure Python.
	sdkCore = "azureml-core"
	// sdkFloor is the first release of sdkCore in the present numbering of releases; before it there is a gap of two years.
	sdkFloorMajor, sdkFloorMinor = 1, 35
)

// oldIndexHost is where the public package index was until 2018. Clients of v1 still write it into every environment, by
// "--extra-index-url" and "--find-links", and mean the index that anybody would ask.
const oldIndexHost = "pypi.python.org"

// meansDefaultIndex tells whether an option of pip names the public index by its old address, or trusts its host.
func meansDefaultIndex(option string) bool {
	name, value, _ := strings.Cut(option, " ")
	switch name {
	case "--index-url", "--extra-index-url", "--find-links":
		u, err := url.Parse(value)
		return err == nil && strings.EqualFold(u.Hostname(), oldIndexHost)
	case "--trusted-host":
		host, _, _ := strings.Cut(value, ":")
		return strings.EqualFold(host, oldIndexHost)
	}
	return false
}

// sdk gives the requirement that stands for azureml-defaults, and what to say of it. It is false for every other one.
//
// Releases of the two packages do not have the same numbers throughout, so a pinned release becomes the newest sdkCore that
// is not newer. Lower bounds say nothing: the newest is taken anyway.
func sdk(requirement string) (core, say string, ok bool) {
	name, marker, _ := strings.Cut(requirement, " ;")
	spec, ok := strings.CutPrefix(name, sdkDefaults)
	if !ok || spec != "" && !strings.ContainsAny(spec[:1], "[<>=!~ ") {
		return "", "", false
	}
	if _, rest, found := strings.Cut(spec, "]"); found { // extras are of web services
		spec = rest
	}
	clauses := []string{fmt.Sprintf(">=%d.%d", sdkFloorMajor, sdkFloorMinor)}
	for clause := range strings.SplitSeq(spec, ",") {
		op := operator.FindString(clause)
		version := clause[len(op):]
		major, minor, known := release(version)
		if !known {
			continue
		}
		pinned := op == "==" || op == "===" || op == "~=" && strings.Count(version, ".") > 1
		switch bound := op == "<" || op == "<="; {
		case !pinned && !bound:
		case older(major, minor):
			say = "; its release " + version + " is no longer to be had"
		case pinned:
			clauses = append(clauses, fmt.Sprintf("<%d.%d", major, minor+1))
		default:
			clauses = append(clauses, clause)
		}
	}
	core = sdkCore + sortClauses(strings.Join(clauses, ","))
	if marker = strings.TrimSpace(marker); marker != "" {
		core += " ; " + marker
	}
	return core, sdkDefaults + " as " + sdkCore + ", without the native runtime of datasets and the web server" + say, true
}

// release is the first two numbers of a version.
func release(version string) (major, minor int, ok bool) {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err == nil && err2 == nil && minor < 1<<20
}

func older(major, minor int) bool {
	return major < sdkFloorMajor || major == sdkFloorMajor && minor < sdkFloorMinor
}

// WithSDK is the spec with what a script that was written for azureml-core needs besides.
func (s Spec) WithSDK() Spec {
	s.Pip = append(slices.Clone(s.Pip), sdkDefaults)
	return s
}
