package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/test/engine"
)

// ran is what notebook.py prints of a cell.
var ran = regexp.MustCompile(`(?m)^cell \d+ ran, .*$`)

// TestExampleNotebooksRun runs the notebooks that the documentation links to, cell by cell, where MOORAGE_NOTEBOOKS names a
// checkout of the public repository Azure/MachineLearningNotebooks; nothing of it is in this one. What only a reader can know
// is filled in: the resource id, user and key of a machine. Nothing else of a cell is changed.
func TestExampleNotebooksRun(t *testing.T) {
	checkout := os.Getenv("MOORAGE_NOTEBOOKS")
	if checkout == "" {
		t.Skip("MOORAGE_NOTEBOOKS names no checkout of Azure/MachineLearningNotebooks: set it and run `make setup`, then `make test`")
	}
	python := engine.PythonWith(t, "MOORAGE_PYTHON_NOTEBOOKS", "requirements-notebooks.txt")
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	server := started(t, filepath.Join(t.TempDir(), "data"))
	resource := map[string]string{"id": vmID, "address": "ssh://" + machine.Addr}
	if _, err := server.call(t.Context(), "PUT", "/native/v1/resources", resource, nil); err != nil {
		t.Fatal(err)
	}
	for _, notebook := range []struct {
		name string
		args []string
	}{
		{"train-on-local", nil},
		{"train-on-remote-vm", []string{
			"--fill", "<resource_id>", vmID, "--fill", "username='username'", "username='" + machine.User + "'", "--fill", "./.ssh/id_rsa", machine.KeyFile,
		}},
		{"using-environments", nil},
	} {
		t.Run(notebook.name, func(t *testing.T) {
			p := newPerson(t, server, python)
			if err := os.CopyFS(p.project, os.DirFS(filepath.Join(checkout, "how-to-use-azureml", "training", notebook.name))); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			// A computer without Docker: the images that the cells would build on are in a registry that no test reaches.
			nothing := t.TempDir()
			if err := os.WriteFile(filepath.Join(nothing, "docker"), []byte("#!/bin/sh\nexit 127\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			args := append([]string{filepath.Join(p.project, notebook.name+".ipynb")}, notebook.args...)
			cmd := p.command(ctx, python, v1Script(t, "notebook.py"), args...)
			cmd.Env = append(cmd.Env, "PATH="+nothing+":"+filepath.Dir(python)+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, clip(string(out)))
			}
			t.Log(strings.Join(ran.FindAllString(string(out), -1), "; "))
		})
	}
}
