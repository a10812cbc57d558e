package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// showPreparing is how long preparing may take before it is worth telling.
const showPreparing = 100 * time.Millisecond

// ready makes all that the command finds: environment, code, inputs, folders for outputs, way back, CA bundle.
func (s *supervisor) ready(ctx context.Context) error {
	job := s.spec.Job
	late := time.AfterFunc(showPreparing, func() { s.preparing("") })
	defer s.placed()
	defer late.Stop()
	if s.given.Say != "" {
		s.note("%s", s.given.Say)
	}
	defer func() {
		if s.prepare != nil {
			_ = s.prepare.Close()
		}
	}()
	if exists(filepath.Join(s.dir, fileContainer)) { // of an attempt that was killed
		removeContainers(s.dir)
		if err := errors.Join(os.RemoveAll(filepath.Join(s.dir, dirContained)), os.Remove(filepath.Join(s.dir, fileContainer))); err != nil {
			return err
		}
	}
	if job.Image != nil {
		if err := s.fetchImage(ctx); err != nil {
			return err
		}
	}
	if job.Environment != nil {
		if err := s.environment(ctx, *job.Environment); err != nil {
			return err
		}
	}
	if err := s.code(ctx, job.Code); err != nil {
		return err
	}
	for _, in := range job.Inputs {
		if err := s.input(ctx, in); err != nil {
			return err
		}
	}
	for _, out := range job.Outputs {
		if err := s.output(out); err != nil {
			return err
		}
	}
	if err := s.doors(job); err != nil {
		return err
	}
	return s.nameBack(ctx, job)
}

// note writes a line to the log of preparing.
func (s *supervisor) note(text string, args ...any) {
	if f, err := s.prepareLog(); err == nil {
		_, _ = fmt.Fprintf(f, text+"\n", args...)
	}
}

func (s *supervisor) prepareLog() (*os.File, error) {
	if s.prepare == nil {
		f, err := os.OpenFile(filepath.Join(s.dir, filePrepare), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		s.prepare = f
	}
	return s.prepare, nil
}

// promised are the folders that Azure ML promises in the working directory.
var promised = []string{"logs", "outputs"}

// code places the snapshot as the working directory.
func (s *supervisor) code(ctx context.Context, tree snapshot.Hash) error {
	dir := filepath.Join(s.dir, dirCode)
	if err := os.RemoveAll(dir); err != nil { // of an attempt that was killed halfway
		return err
	}
	if tree == "" {
		if takeUntouched(s.root, dir) {
			return nil
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	} else if !s.takeSpare(ctx, tree, dir) {
		if err := s.place(ctx, tree, dir, false); err != nil {
			return err
		}
	}
	for _, name := range promised {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (s *supervisor) place(ctx context.Context, tree snapshot.Hash, dir string, link bool) error {
	runtime.GOMAXPROCS(runtime.NumCPU()) // started with one, see agent.start
	err := snapshot.Place(ctx, s.root.objects(), tree, dir, snapshot.PlaceOptions{Link: link})
	if err != nil && ctx.Err() == nil {
		s.noteLost(tree)
		return fmt.Errorf("placing files: %w", err)
	}
	return err
}

// input places one input and remembers its path.
func (s *supervisor) input(ctx context.Context, in Input) error {
	if !plainOutput(in.Name) {
		return badName("input", in.Name)
	}
	key := "inputs." + in.Name
	if in.Path != "" {
		if _, err := os.Stat(in.Path); err != nil {
			return &workspace.Problem{
				Class: workspace.Invalid, Code: "InputNotFound", Message: fmt.Sprintf("input %s is not on the target", in.Name), Cause: err.Error(),
				Target: in.Name, Mend: "correct the path, or put the files there",
			}
		}
		s.paths[key] = in.Path
		return nil
	}
	base := filepath.Join(s.dir, dirInputs)
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	dir := filepath.Join(base, in.Name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if in.URL != "" {
		path, err := s.fetch(ctx, in, dir)
		s.paths[key] = path
		return err
	}
	if err := s.place(ctx, in.Tree, dir, in.Link); err != nil {
		return err
	}
	s.paths[key] = dir
	if !in.Folder {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(entries) != 1 || entries[0].IsDir() {
			return fmt.Errorf("input %s is to be one file and has %d entries", in.Name, len(entries))
		}
		s.paths[key] = filepath.Join(dir, entries[0].Name())
	}
	return nil
}

func (s *supervisor) output(out Output) error {
	if !plainOutput(out.Name) {
		return badName("output", out.Name)
	}
	path := filepath.Join(s.dir, dirOutputs, out.Name)
	s.paths["outputs."+out.Name] = path
	if out.Folder {
		return os.MkdirAll(path, 0o755)
	}
	return os.MkdirAll(filepath.Dir(path), 0o755)
}

// plainOutput tells whether a name may be that of an input or output: one segment of a path, hidden or not.
func plainOutput(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 200 && !strings.ContainsAny(name, "/\x00")
}

// substitute fills in ${{inputs.NAME}} and ${{outputs.NAME}}. A path with characters that mean something to the shell is
// quoted as its place in the text demands. What is not known stays.
func substitute(text string, paths map[string]string) string {
	var b strings.Builder
	var quote byte // 0, '\'' or '"'
	for i := 0; i < len(text); {
		if strings.HasPrefix(text[i:], "${{") {
			if end := strings.Index(text[i:], "}}"); end > 0 {
				if path, ok := paths[strings.TrimSpace(text[i+3:i+end])]; ok {
					b.WriteString(quoted(path, quote))
					i += end + 2
					continue
				}
			}
		}
		c := text[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			b.WriteByte(c)
			i++
			c = text[i]
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == c:
			quote = 0
		}
		b.WriteByte(c)
		i++
	}
	return b.String()
}

func quoted(path string, quote byte) string {
	switch quote {
	case '"':
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(path)
	case '\'':
		return strings.ReplaceAll(path, `'`, `'\''`)
	}
	for _, r := range path {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r < 0x80 && !strings.ContainsRune("/._-+=:,@%", r) {
			return `'` + strings.ReplaceAll(path, `'`, `'\''`) + `'`
		}
	}
	return path
}
