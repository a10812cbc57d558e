package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The parts of a job's files that are not named outputs: the folders ./outputs and ./logs of its working directory.
var unnamedParts = []string{"outputs", "logs"}

func newJobDownload(n *connection) *cobra.Command {
	var to, output string
	var all bool
	cmd := &cobra.Command{
		Use: "download NAME", Short: "Bring home what a job wrote",
		Long: `Bring home what a job wrote: its folders ./outputs and ./logs, and its log. --output-name takes one named output, --all
takes everything. Files that are here already with their size are not fetched again, and a broken transfer goes on
where it was.`,
		Example: `  moorage job download calm_anchor_k2f9 -p results
  moorage job download -n calm_anchor_k2f9 --output-name model -p results
  moorage job download -n calm_anchor_k2f9 --all`,
		ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.Flags().StringVarP(&to, "download-path", "p", ".", "folder to write to; a folder with the job's name is made in it")
	cmd.Flags().StringVar(&output, "output-name", "", "only this named output")
	cmd.Flags().BoolVar(&all, "all", false, "also the named outputs")
	_ = cmd.MarkFlagDirname("download-path")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if all && output != "" {
			return usage("--all and --output-name exclude each other")
		}
		c, err := n.open()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		files, err := c.Files(ctx, *name)
		if err != nil {
			return err
		}
		d := &download{c: c, job: *name, dir: filepath.Join(to, *name)}
		for _, f := range files {
			plain := slices.Contains(unnamedParts, f.Output) || f.Output == ""
			if all || (output == "" && plain) || f.Output == output {
				d.files = append(d.files, f)
			}
		}
		if output != "" && len(d.files) == 0 {
			return noOutput(*name, output, files)
		}
		bar := show.NewProgress(cmd.ErrOrStderr(), "downloading", 1<<20, n.clock.Now)
		defer bar.End()
		if err := d.run(ctx, bar); err != nil {
			return err
		}
		bar.End()
		log := ""
		if output == "" {
			if log, err = d.log(ctx); err != nil {
				return err
			}
		}
		var size int64
		for _, f := range d.files {
			size += f.Size
		}
		count := fmt.Sprintf("%d files", len(d.files))
		if len(d.files) == 1 {
			count = "1 file"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s, %s, in %s%s\n", count, show.Size(size), d.dir, log)
		return nil
	}
	return cmd
}

func noOutput(job, output string, files []client.File) error {
	var names []string
	for _, f := range files {
		if !slices.Contains(names, f.Output) {
			names = append(names, f.Output)
		}
	}
	p := &workspace.Problem{
		Class: workspace.NotFound, Code: "NoSuchOutput", Target: output, Message: fmt.Sprintf("job %s has no output %q with files", job, output),
		Mend: "it has written nothing yet",
	}
	if len(names) > 0 {
		p.Mend = "it has " + strings.Join(names, ", ")
	}
	return p
}

// download is the files of one job on their way to a folder.
type download struct {
	c     *client.Client
	job   string
	dir   string
	files []client.File
}

const downloadsAtOnce = 6

func (d *download) run(ctx context.Context, bar *show.Progress) error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return cannotWrite(d.dir, err)
	}
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return cannotWrite(d.dir, err)
	}
	defer func() { _ = root.Close() }() // only a handle
	var total int64
	places := make([]string, len(d.files))
	seen := make(map[string]bool, len(d.files))
	for i, f := range d.files {
		if places[i], err = place(f); err != nil {
			return err
		}
		if seen[places[i]] {
			return unsafe(f, "two files have this path")
		}
		seen[places[i]] = true
		total += f.Size
	}
	bar.Total(total)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(downloadsAtOnce)
	for i, f := range d.files {
		group.Go(func() error { return d.fetch(ctx, root, places[i], f, bar) })
	}
	return group.Wait()
}

// place is where a file goes below the job's folder. Whatever would leave it is refused; os.Root refuses links that do.
func place(f client.File) (string, error) {
	output := f.Output
	switch {
	case slices.Contains(unnamedParts, output) || output == "":
	case strings.ContainsAny(output, "/\\") || output == "." || output == "..":
		return "", unsafe(f, "the output's name is not plain")
	default:
		output = "named-outputs/" + output
	}
	if strings.ContainsRune(f.Path, 0) || strings.Contains(f.Path, "\\") && filepath.Separator == '\\' {
		return "", unsafe(f, "the path is not plain")
	}
	if f.Path != "" && (path.Clean(f.Path) != f.Path || !filepath.IsLocal(f.Path)) {
		return "", unsafe(f, "the path leaves its folder")
	}
	at := path.Join(output, f.Path)
	if at == "" || at == "." {
		return "", unsafe(f, "the path is empty")
	}
	return at, nil
}

func unsafe(f client.File, cause string) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "UnsafePath", Target: f.Path, Message: fmt.Sprintf("the file %q of output %q is refused", f.Path, f.Output), Cause: cause,
		Mend: "nothing was written outside the folder; rename the file in the job",
	}
}

func cannotWrite(target string, err error) error {
	return &workspace.Problem{
		Class: workspace.Denied, Code: "CannotWrite", Target: target, Message: target + " cannot be written", Cause: short(err), Mend: "name another folder with -p",
	}
}

// partial is the name of a file that is not complete yet.
func partial(at string) string { return path.Join(path.Dir(at), "."+path.Base(at)+".part") }

// fetch brings one file home, going on where an earlier try ended. It becomes visible under its name when it is whole.
func (d *download) fetch(ctx context.Context, root *os.Root, at string, f client.File, bar *show.Progress) error {
	if info, err := root.Stat(at); err == nil && info.Mode().IsRegular() && info.Size() == f.Size {
		bar.Add(f.Size)
		return nil
	}
	if dir := path.Dir(at); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return cannotWrite(filepath.Join(d.dir, at), err)
		}
	}
	temp := partial(at)
	for try := 0; ; try++ {
		err := d.once(ctx, root, temp, f, bar)
		if err == nil {
			break
		}
		var p *workspace.Problem
		expired := errors.As(err, &p) && (p.Class == workspace.Denied || p.Class == workspace.Unauthenticated)
		if ctx.Err() != nil || try == 6 || !transient(err) && !expired {
			return err
		}
		if expired { // signed URLs live shortly; a long download outlives them
			if f, err = d.again(ctx, f); err != nil {
				return err
			}
		}
		if err := client.Pause(ctx, backoff(try)); err != nil {
			return err
		}
	}
	if f.Mode&0o111 != 0 {
		if err := root.Chmod(temp, 0o755); err != nil {
			return cannotWrite(filepath.Join(d.dir, at), err)
		}
	}
	if err := root.Rename(temp, at); err != nil {
		return cannotWrite(filepath.Join(d.dir, at), err)
	}
	return nil
}

// again asks for a fresh URL of f.
func (d *download) again(ctx context.Context, f client.File) (client.File, error) {
	files, err := d.c.Files(ctx, d.job)
	if err != nil {
		return f, err
	}
	for _, g := range files {
		if g.Output == f.Output && g.Path == f.Path {
			if g.Size != f.Size {
				break
			}
			return g, nil
		}
	}
	return f, &workspace.Problem{
		Class: workspace.Conflict, Code: "FileChanged", Target: f.Path, Message: fmt.Sprintf("%q changed while it was being downloaded", f.Path), Mend: "download again when the job is over",
	}
}

func (d *download) once(ctx context.Context, root *os.Root, temp string, f client.File, bar *show.Progress) error {
	out, err := root.OpenFile(temp, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return cannotWrite(filepath.Join(d.dir, temp), err)
	}
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		return cannotWrite(filepath.Join(d.dir, temp), err)
	}
	have := info.Size()
	if have > f.Size || (have == f.Size && have > 0) {
		have = 0 // of another version of the file
	}
	got := int64(0)
	if f.Size > 0 {
		err = d.c.Fetch(ctx, f.URL, have, func(offset int64) (io.Writer, error) {
			if err := out.Truncate(offset); err != nil {
				return nil, cannotWrite(filepath.Join(d.dir, temp), err)
			}
			if _, err := out.Seek(offset, io.SeekStart); err != nil {
				return nil, cannotWrite(filepath.Join(d.dir, temp), err)
			}
			bar.Add(offset)
			got = offset
			return writer(func(b []byte) (int, error) {
				n, err := out.Write(b)
				got += int64(n)
				bar.Add(int64(n))
				if err != nil {
					err = cannotWrite(filepath.Join(d.dir, temp), err)
				}
				return n, err
			}), nil
		})
		if err != nil {
			bar.Add(-got)
			return err
		}
	}
	if got != f.Size {
		_ = out.Truncate(0) // nothing of it can be trusted
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "SizeDiffers", Target: f.Path,
			Message: fmt.Sprintf("%q has %d bytes, not the %d that were announced", f.Path, got, f.Size), Mend: "download again when the job is over",
		}
	}
	return out.Close()
}

// writer is a function as io.Writer.
type writer func([]byte) (int, error)

// Write calls the function.
func (w writer) Write(b []byte) (int, error) { return w(b) }

// log writes the job's log, where Azure's clients put it, and says so.
func (d *download) log(ctx context.Context) (string, error) {
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return "", cannotWrite(d.dir, err)
	}
	defer func() { _ = root.Close() }() // only a handle
	const at = "user_logs/std_log.txt"
	if err := root.MkdirAll("user_logs", 0o755); err != nil {
		return "", cannotWrite(d.dir, err)
	}
	f, err := root.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return "", cannotWrite(filepath.Join(d.dir, at), err)
	}
	defer f.Close()
	from := int64(0)
	for try := 0; ; try++ {
		from, err = d.c.Log(ctx, d.job, "", from, false, f)
		if err == nil {
			break
		}
		if !client.Lost(err) || try == 6 || ctx.Err() != nil {
			return "", err
		}
		if err := client.Pause(ctx, backoff(try)); err != nil {
			return "", err
		}
	}
	if err := f.Close(); err != nil {
		return "", cannotWrite(filepath.Join(d.dir, at), err)
	}
	return ", and the log in " + at, nil
}
