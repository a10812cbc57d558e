package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
)

func TestLocalPassesTheExam(t *testing.T) {
	top := t.TempDir()
	folder := func(place string) string { return filepath.Join(top, place) }
	open := func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		settings := fmt.Sprintf(`{"folder": %q, "slots": %d, "gpus": %d}`, folder(w.Place), max(w.Slots, 0), w.GPUs)
		return Driver{Self: []string{os.Args[0], "keeper"}}.Open(ctx, []byte(settings), env)
	}
	shared := t.TempDir()
	computetest.Run(t, open, computetest.Options{
		Limits: Driver{}.Limits(), Folder: folder, Shared: shared, Processes: true,
		Skip: map[string]string{
			"unreachable": "the machine of the server itself cannot be away",
			"refused":     "there are no credentials to one's own machine",
		},
	})
}
