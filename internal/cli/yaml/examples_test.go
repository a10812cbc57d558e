package yaml

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Every command job and compute of a checkout of Azure/azureml-examples is understood without a warning about a field.
func TestPublicExamplesAreUnderstood(t *testing.T) {
	dir := os.Getenv("AZUREML_EXAMPLES")
	if dir == "" {
		t.Skip("AZUREML_EXAMPLES does not name a checkout of Azure/azureml-examples")
	}
	jobs, computes := 0, 0
	err := filepath.WalkDir(filepath.Join(dir, "cli"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".yml") {
			return err
		}
		doc, err := Load(path)
		if err != nil {
			if !strings.Contains(err.Error(), "a second document") {
				t.Errorf("%v", err)
			}
			return nil
		}
		schema := doc.Root.Get("$schema")
		if schema == nil {
			return nil
		}
		var warnings []workspace.Problem
		switch {
		case strings.HasSuffix(schema.Text, "commandJob.schema.json"):
			jobs++
			j, err := ParseJob(doc)
			if err != nil {
				t.Errorf("%v", err)
				return nil
			}
			warnings = j.Warnings
		case strings.HasSuffix(schema.Text, "Job.schema.json"):
			if _, err := ParseJob(doc); !errors.Is(err, &workspace.Problem{Code: "UnsupportedJobType"}) {
				t.Errorf("%s: %v", path, err)
			}
		case strings.Contains(strings.ToLower(schema.Text), "compute"):
			computes++
			c, err := ParseCompute(doc)
			if err != nil {
				t.Errorf("%v", err)
				return nil
			}
			warnings = c.Warnings
		}
		for _, w := range warnings {
			if w.Code == "UnknownField" {
				t.Errorf("%s. %s", w.Message, w.Mend)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d command jobs and %d computes", jobs, computes)
}
