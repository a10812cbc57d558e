package environment

import (
	_ "embed"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/moorage-ml/moorage/internal/workspace"
)

//go:embed curated.yaml
var curatedDefault []byte

// Curated maps the names of Azure's curated environments to packages. The zero value knows none.
type Curated struct {
	recipes []curatedRecipe
}

type curatedRecipe struct {
	// Names are matched in lower case without "azureml-"; "*" stands for any text.
	Names []string `yaml:"names"`
	// Images are patterns of images, without tag and digest, that the entry stands for; "*" stands for any text without a "/".
	Images []string `yaml:"images"`
	// Image is what stands for the entry where jobs run in containers, instead of its packages.
	Image    string   `yaml:"image"`
	Python   string   `yaml:"python"`
	Channels []string `yaml:"channels"`
	Conda    []string `yaml:"conda"`
	Pip      []string `yaml:"pip"`
	Note     string   `yaml:"note"`
}

// DefaultCurated is the table that comes with the server.
func DefaultCurated() (Curated, error) { return parseCurated(curatedDefault, "the built-in table") }

// LoadCurated reads an operator's table, in the format of curated.yaml, and puts it before the default one: its names win.
func LoadCurated(file string) (Curated, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Curated{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidCuratedTable", Target: file,
			Message: "the table of curated environments cannot be read", Cause: err.Error(), Mend: "give the path of a YAML file",
		}
	}
	own, err := parseCurated(b, file)
	if err != nil {
		return Curated{}, err
	}
	rest, err := DefaultCurated()
	return Curated{recipes: append(own.recipes, rest.recipes...)}, err
}

func parseCurated(b []byte, file string) (Curated, error) {
	bad := func(cause string) (Curated, error) {
		return Curated{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidCuratedTable", Target: file,
			Message: "the table of curated environments cannot be used", Cause: cause,
			Mend: "give it the key environments with a list of {names, images, image, python, channels, conda, pip, note}",
		}
	}
	var doc struct {
		Environments []curatedRecipe `yaml:"environments"`
	}
	if err := readYAML(b, &doc, yaml.Strict()); err != nil {
		return bad(yamlCause(err))
	}
	for i, r := range doc.Environments {
		if len(r.Names)+len(r.Images) == 0 {
			return bad(fmt.Sprintf("entry %d has no names", i+1))
		}
		for _, n := range slices.Concat(r.Names, r.Images) {
			if _, err := path.Match(n, ""); err != nil {
				return bad(fmt.Sprintf("the name %q is not a pattern", n))
			}
		}
		if _, err := r.spec().normalise(); err != nil {
			return bad(fmt.Sprintf("entry %s: %v", slices.Concat(r.Names, r.Images)[0], err))
		}
	}
	return Curated{recipes: doc.Environments}, nil
}

// Names lists the names of the table, patterns as they stand.
func (c Curated) Names() []string {
	var names []string
	for _, r := range c.recipes {
		names = append(names, r.Names...)
	}
	return unique(names)
}

// Find gives the packages of a curated name, with or without "AzureML-", in any case.
func (c Curated) Find(name string) (Spec, bool) {
	r := c.find(name)
	if r == nil {
		return Spec{}, false
	}
	return r.spec(), true
}

func (c Curated) find(name string) *curatedRecipe {
	name = curatedName(name)
	for i := range c.recipes {
		for _, pattern := range c.recipes[i].Names {
			if ok, _ := path.Match(curatedName(pattern), name); ok {
				return &c.recipes[i]
			}
		}
	}
	return nil
}

func curatedName(name string) string {
	name, _ = strings.CutPrefix(strings.ToLower(strings.TrimSpace(name)), "azureml-")
	return name
}

func (r *curatedRecipe) spec() Spec {
	s := Spec{Python: r.Python, Pip: r.Pip}
	if len(r.Conda) == 0 {
		return s
	}
	var b strings.Builder
	b.WriteString("channels:\n")
	for _, c := range r.Channels {
		fmt.Fprintf(&b, "  - %q\n", c)
	}
	b.WriteString("dependencies:\n")
	for _, p := range r.Conda {
		fmt.Fprintf(&b, "  - %q\n", p)
	}
	s.CondaFile = b.String()
	return s
}

// findImage gives the entry that stands for an image.
func (c Curated) findImage(image string) *curatedRecipe {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	if image == "" {
		return nil
	}
	for i := range c.recipes {
		for _, pattern := range c.recipes[i].Images {
			if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(image)); ok {
				return &c.recipes[i]
			}
		}
	}
	return nil
}

// instead is a spec with what the entry says in place of its image.
func (r *curatedRecipe) instead(s Spec) (Spec, string, error) {
	was := s.Image
	s.Image, s.Pip = r.Image, slices.Concat(r.Pip, s.Pip)
	if s.Python == "" && s.CondaFile == "" {
		s.Python = r.Python
	}
	if r.Image == "" {
		return s, "image " + was + " is one of Azure's bases, for which any Python serves", nil
	}
	return s, "image " + r.Image + " in place of " + was, nil
}

// curatedImage is where Azure keeps the images of its curated environments.
const curatedImage = "mcr.microsoft.com/azureml/curated/"

// resolve replaces a curated name, or a curated image without a conda file, by packages, or by an image where contained
// tells that one can be used; and an image that the table stands for by what it says. say tells of it.
func (c Curated) resolve(s Spec, contained bool) (resolved Spec, say string, err error) {
	if r := c.findImage(s.Image); r != nil {
		return r.instead(s)
	}
	name := s.Curated
	if name == "" && s.CondaFile == "" {
		if image, ok := strings.CutPrefix(s.Image, curatedImage); ok {
			image, _, _ = strings.Cut(image, "@")
			image, _, _ = strings.Cut(image, ":")
			if c.find(image) == nil {
				return s, "", nil
			}
			name = image
		}
	}
	if name == "" {
		return s, "", nil
	}
	r := c.find(name)
	if r == nil {
		return s, "", c.Unknown(name)
	}
	if resolved = r.spec(); contained && r.Image != "" {
		return Spec{Image: r.Image, Pip: s.Pip, Variables: s.Variables}, fmt.Sprintf("curated environment %s as image %s", name, r.Image), nil
	}
	resolved.Pip, resolved.Variables = append(slices.Clone(resolved.Pip), s.Pip...), s.Variables
	say = fmt.Sprintf("curated environment %s as packages", name)
	if r.Note != "" {
		say += " (" + r.Note + ")"
	}
	return resolved, say, nil
}

// Unknown is the problem of a name that the table lacks; it names the nearest.
func (c Curated) Unknown(name string) *workspace.Problem {
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "UnknownCuratedEnvironment", Target: "environment",
		Message: fmt.Sprintf("the curated environment %q is not known", clip(name)),
		Mend:    "use an environment with a conda_file, or ask the operator to add the name to the server's table of curated environments",
	}
	if near := c.nearest(name, 3); len(near) > 0 {
		p.Cause = "the nearest known names are " + strings.Join(near, ", ")
	}
	return p
}

// nearest gives up to n names of the table, the most similar first.
func (c Curated) nearest(name string, n int) []string {
	name = curatedName(name)
	names := c.Names()
	slices.SortStableFunc(names, func(a, b string) int {
		return distance(name, strings.ReplaceAll(curatedName(a), "*", "")) - distance(name, strings.ReplaceAll(curatedName(b), "*", ""))
	})
	var near []string
	seen := map[string]bool{}
	for _, each := range names {
		if stem := strings.TrimRight(curatedName(each), "-.*"); len(near) < n && !seen[stem] { // a name and its pattern are one
			seen[stem] = true
			near = append(near, each)
		}
	}
	return near
}

// distance is the number of letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	if len(a) > 100 {
		a = a[:100]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
