package tracking

import (
	"context"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
)

// logFolders are the folders of a run in which Azure's clients look for logs (azureml-v1.md §6.3, §25).
var logFolders = []string{"azureml-logs/", "logs/", "system_logs/", "user_logs/"}

// maxLogFiles bounds the logs of one folder that are listed; a script may write a file a step.
const maxLogFiles = 500

// LogFiles gives the paths of a run's logs among its artifacts.
func (t *Tracking) LogFiles(ctx context.Context, run store.Run) ([]string, error) {
	root := ArtifactPrefix(run.WorkspaceID, run.ID)
	var paths []string
	for _, folder := range logFolders {
		page, err := t.blob.List(ctx, root+folder, "", "", maxLogFiles)
		if err != nil {
			return nil, fmt.Errorf("tracking: logs of %s: %w", run.ID, err)
		}
		for _, b := range page.Blobs {
			paths = append(paths, strings.TrimPrefix(b.Name, root))
		}
	}
	return paths, nil
}
