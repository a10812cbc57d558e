package image

import (
	"archive/tar"
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Bases lists the images that a Dockerfile names, as far as can be told without a builder: those for which its builder may need
// a login.
func (d Dockerfile) Bases(ctx context.Context) ([]string, error) {
	text := d.Text
	if text == "" && d.Context != nil {
		err := FileBuild{Dockerfile: d}.entries(ctx, func(name string, h *tar.Header, r io.Reader) error {
			if name != d.path() || h.Typeflag != tar.TypeReg {
				return nil
			}
			b, err := io.ReadAll(io.LimitReader(r, maxText))
			text = string(b)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return bases(text, d.Args), nil
}

// bases finds the images after FROM and after from= of COPY and RUN. Build arguments are filled in, stages left out.
func bases(text string, given map[string]string) []string {
	args, stages, found := map[string]string{}, map[string]bool{"scratch": true}, map[string]bool{}
	add := func(image string) {
		image = os.Expand(image, func(name string) string {
			name, standard, _ := strings.Cut(name, ":-")
			if v, ok := args[name]; ok && v != "" {
				return v
			}
			return standard
		})
		if image != "" && !stages[strings.ToLower(image)] && strings.Trim(image, "0123456789") != "" {
			found[image] = true
		}
	}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		options := 1
		for options < len(words) && strings.HasPrefix(words[options], "--") {
			options++
		}
		switch strings.ToUpper(words[0]) {
		case "ARG":
			name, value, _ := strings.Cut(words[1], "=")
			if v, ok := given[name]; ok {
				value = v
			}
			if value != "" || args[name] == "" {
				args[name] = strings.Trim(value, `"'`)
			}
		case "FROM":
			if options < len(words) {
				add(words[options])
			}
			if options+2 < len(words) && strings.EqualFold(words[options+1], "AS") {
				stages[strings.ToLower(words[options+2])] = true
			}
		case "COPY", "RUN":
			for _, option := range words[1:options] {
				for part := range strings.SplitSeq(strings.TrimPrefix(option, "--"), ",") {
					if image, ok := strings.CutPrefix(strings.TrimPrefix(part, "mount="), "from="); ok {
						add(image)
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
