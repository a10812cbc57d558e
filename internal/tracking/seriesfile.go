package tracking

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
)

// SeriesFolder is where below a run's artifacts the metrics are that MLflow's clients have no metric for: lists, rows and
// tables that Azure's clients logged. Each is a table in MLflow's form, which mlflow.load_table reads.
const SeriesFolder = "metrics/"

// SeriesFile is the path of a metric's table. A name that could not be a path is changed, and told apart by a hash.
func SeriesFile(name string) string {
	safe := strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`\%?#:*"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if path.Clean("/"+safe) != "/"+safe {
		safe = strings.ReplaceAll(safe, "/", "_")
	}
	if safe != name {
		sum := sha256.Sum256([]byte(name))
		safe += "-" + hex.EncodeToString(sum[:4])
	}
	return SeriesFolder + safe + ".json"
}

// fileSeries writes the tables of a run that lack values. Two that do so at once write the same.
func (l RunFiles) fileSeries(ctx context.Context, workspaceID, runID string) error {
	run, err := l.Rows.Run(ctx, workspaceID, runID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tracking: metrics of %s: %w", runID, err)
	}
	list, err := l.Rows.UnfiledSeries(ctx, run.Number)
	if err != nil {
		return fmt.Errorf("tracking: metrics of %s: %w", runID, err)
	}
	for _, m := range list {
		if err := l.fileOne(ctx, run, m); err != nil {
			return fmt.Errorf("tracking: metric %s of %s: %w", clip(m.Key), runID, err)
		}
	}
	return nil
}

func (l RunFiles) fileOne(ctx context.Context, run store.Run, m store.MetricSeries) error {
	columns, err := columnsOf(m.Columns)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := writeTable(w, columns, func(fn func(store.SeriesRow) error) error { return l.Rows.EachRow(ctx, m.Number, fn) })
		w.CloseWithError(err)
		done <- err
	}()
	_, err = l.Store.Put(ctx, ArtifactPrefix(run.WorkspaceID, run.ID)+SeriesFile(m.Key), r, -1, blob.Meta{ContentType: "application/json"})
	r.CloseWithError(err) // so that the writer ends, whatever became of the blob
	if wrote := <-done; err == nil {
		err = wrote
	}
	if err != nil {
		return err
	}
	return l.Rows.Write(ctx, func(tx *store.Tx) error { return tx.FiledSeries(ctx, run.Number, m.Key, m.Size) })
}

// writeTable writes {"columns":[…],"data":[[…],…]}.
func writeTable(to io.Writer, columns []column, each func(func(store.SeriesRow) error) error) error {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	head, err := json.Marshal(names)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(to) // keeps its first error until Flush
	line := fmt.Appendf(nil, `{"columns":%s,"data":[`, head)
	err = each(func(r store.SeriesRow) error {
		var cells map[string]json.RawMessage
		if err := json.Unmarshal(r.Data, &cells); err != nil {
			return err
		}
		for i, c := range columns {
			line = append(append(line, "[,"[min(i, 1)]), cells[c.name]...)
		}
		_, err := w.Write(append(line, ']'))
		line = append(line[:0], ',')
		return err
	})
	if err != nil {
		return err
	}
	if line[0] == ',' {
		line = line[:0]
	}
	if _, err := w.Write(append(line, "]}"...)); err != nil {
		return err
	}
	return w.Flush()
}
