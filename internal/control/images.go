package control

import (
	"context"
	"regexp"
	"sync"

	"github.com/moorage-ml/moorage/internal/store"
)

// collectImages takes away the images of the server's registry that no tag, job or environment needs.
func (c *Control) collectImages(ctx context.Context, g *Garbage) error {
	if c.Images == nil {
		return nil
	}
	needed, err := c.digestsNamed(ctx)
	if err != nil {
		return err
	}
	swept, err := c.Images.Sweep(ctx, needed, g.Dry)
	g.Images += swept.Manifests
	g.Bytes += swept.Bytes
	return err
}

// digest is compiled when it is first needed: counted repetitions would cost every start of the program.
var digest = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})`) })

// digestsNamed are all digests in jobs that are kept, in environments, and in what was made of these, however they are
// meant: rather keep too much.
func (c *Control) digestsNamed(ctx context.Context) (map[string]bool, error) {
	named := map[string]bool{}
	look := func(text []byte) {
		for _, d := range digest().FindAll(text, -1) {
			named[string(d)] = true
		}
	}
	err := c.documents(ctx, []string{environments}, func(d store.Document) error {
		look(d.Body)
		return nil
	})
	if err != nil {
		return nil, err
	}
	prepared, err := c.Store.PreparedTexts(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range prepared {
		look([]byte(text))
	}
	for after := ""; ; {
		page, err := c.Store.JobSpecs(ctx, store.Page{After: after, Limit: 1000})
		if err != nil || len(page) == 0 {
			return named, err
		}
		for _, row := range page {
			after = row.JobID
			look(row.Spec)
		}
	}
}
