package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/cli/yaml"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func newJobCreate(n *connection) *cobra.Command {
	var f format
	var file, name, compute, experiment string
	var set []string
	var follow, wait bool
	cmd := &cobra.Command{
		Use: "create -f FILE", Short: "Submit a job written in Azure ML's v2 YAML", Args: cobra.NoArgs,
		Long: `Submit a command job written in Azure ML's v2 YAML, as it is. Relative paths in it start at the folder of the file. Of the
code folder only what the server lacks is sent; .amlignore and .gitignore say what is left out.

It prints the job's name. With --stream it follows the log until the job's end, and with --wait it waits without it.
` + outcomeHelp,
		Example: `  moorage job create -f job.yml --stream
  name=$(moorage job create -f job.yml --compute gpu --set inputs.lr=0.01)
  moorage job create -f job.yml --wait && moorage job download "$name" -p out`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("-f is missing: name the job's YAML file")
			}
			j, err := readJob(cmd, file, set, name, compute, experiment)
			if err != nil {
				return err
			}
			c, err := n.open()
			if err != nil {
				return err
			}
			if j.Name == "" {
				if j.Name, err = jobName(n.clock); err != nil {
					return err
				}
			}
			s := &submission{cmd: cmd, c: c, n: n, job: j, warned: map[string]bool{}}
			ctx, stop := interruptible(cmd.Context())
			err = s.submit(ctx)
			stopped := ctx.Err() != nil
			stop()
			if err != nil {
				if stopped {
					fmt.Fprintln(cmd.ErrOrStderr(), "\nstopped; the job was not submitted")
					return Exit(exitCanceled)
				}
				return err
			}
			return s.after(&f, follow, wait)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "the job's YAML; - is standard input")
	flags.StringVarP(&name, "name", "n", "", "name of the job, instead of the file's or a made one")
	flags.StringVar(&compute, "compute", "", "compute to run on, instead of the file's")
	flags.StringVarP(&experiment, "experiment-name", "e", "", "experiment, instead of the file's")
	flags.StringArrayVar(&set, "set", nil, "change a field of the file, a.b=value; may be repeated")
	flags.BoolVar(&follow, "stream", false, "follow the job's log until its end")
	flags.BoolVar(&wait, "wait", false, "wait for the job's end, without its log")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("compute", n.completeFlag(n.completeComputes))
	f.register(flags)
	return cmd
}

// readJob reads the file with the changes of the command line.
func readJob(cmd *cobra.Command, file string, set []string, name, compute, experiment string) (*yaml.Job, error) {
	doc, err := load(cmd, file)
	if err != nil {
		return nil, err
	}
	for _, s := range set {
		if err := doc.Set(s); err != nil {
			return nil, err
		}
	}
	j, err := yaml.ParseJob(doc)
	if err != nil {
		return nil, err
	}
	for _, w := range j.Warnings {
		show.Warning(cmd.ErrOrStderr(), w)
	}
	if name != "" {
		if bad := workspace.CheckName("job", name); bad != nil {
			return nil, bad
		}
		j.Name = name
	}
	if compute != "" {
		j.Compute = strings.TrimPrefix(compute, "azureml:")
	}
	if experiment != "" {
		j.Properties["experimentName"] = experiment
	}
	return j, nil
}

// submission is one job on its way to the server.
type submission struct {
	cmd    *cobra.Command
	c      *client.Client
	n      *connection
	job    *yaml.Job
	packs  []*snapshot.Local
	warned map[string]bool // paths whose size was told
}

// submit fills in what the file left open, and hands the job over. Warm, that is one request: the job names its code by
// hash, and only if the server lacks it is anything sent.
func (s *submission) submit(ctx context.Context) error {
	if s.job.Code != "" || len(s.job.Local) > 0 { // the server is reached while folders are read
		var warming sync.WaitGroup
		warmth, done := context.WithCancel(ctx)
		defer warming.Wait()
		defer done()
		warming.Go(func() { s.c.Warm(warmth) })
	}
	for try := 0; ; try++ {
		if err := s.complete(ctx); err != nil {
			return err
		}
		err := s.put(ctx)
		if !errors.Is(err, &workspace.Problem{Code: client.Changed}) || try == 2 {
			return err
		}
	}
}

func (s *submission) put(ctx context.Context) error {
	for try := 0; ; try++ {
		err := s.c.PutJob(ctx, s.job.Name, s.job.Properties)
		if !errors.Is(err, &workspace.Problem{Code: "SnapshotMissing"}) || try == 3 {
			return err
		}
		if err := s.upload(ctx); err != nil {
			return err
		}
	}
}

// upload sends what the server lacks of all packs, as one.
func (s *submission) upload(ctx context.Context) error {
	bar := show.NewProgress(s.cmd.ErrOrStderr(), "uploading", 1<<20, s.n.clock.Now)
	defer bar.End()
	root := s.packs[0].Root
	if len(s.packs) > 1 {
		root = ""
	}
	return s.c.Upload(ctx, root, objects(s.packs), bar.Total, bar.Add)
}

// complete hashes the folders that the job names and puts references in their place.
func (s *submission) complete(ctx context.Context) error {
	j, p, ws := s.job, s.job.Properties, s.c.Workspace()
	s.packs = nil
	switch {
	case j.Code != "":
		k, err := s.pack(ctx, "code", j.Code)
		if err != nil {
			return err
		}
		p["codeId"] = ws + "/codes/" + string(k.Root) + "/versions/1"
	case j.CodeRef != "":
		p["codeId"] = versioned(ws, "codes", j.CodeRef)
	}
	inputs, _ := p["inputs"].(map[string]any)
	for _, in := range j.Local {
		k, err := s.pack(ctx, "input "+in.Name, in.Path)
		if err != nil {
			return err
		}
		uri := "moorage://snapshots/" + string(k.Root)
		if !in.Folder {
			uri += "/" + filepath.Base(in.Path)
		}
		inputs[in.Name].(map[string]any)["uri"] = uri
	}
	for _, in := range j.Refs {
		inputs[in.Name].(map[string]any)["uri"] = versioned(ws, "data", in.Ref)
	}
	s.defaults()
	return s.environment(ctx)
}

// defaults are those of Azure's v2 client: the experiment is named by the current folder.
func (s *submission) defaults() {
	j, p := s.job, s.job.Properties
	if p["displayName"] == nil {
		p["displayName"] = j.Name
	}
	if p["experimentName"] == nil {
		name := "Default"
		if dir, err := os.Getwd(); err == nil {
			base := filepath.Base(dir)
			if base = strings.ReplaceAll(strings.TrimSuffix(base, filepath.Ext(base)), " ", ""); base != "" && base != "/" {
				name = base
			}
		}
		p["experimentName"] = name
	}
	switch {
	case j.Compute == "" || strings.EqualFold(j.Compute, "serverless"):
	case strings.EqualFold(j.Compute, "local"):
		res, _ := p["resources"].(map[string]any)
		if res == nil {
			res = map[string]any{}
		}
		props, _ := res["properties"].(map[string]any)
		if props == nil {
			props = map[string]any{}
		}
		props["IsLocal"] = map[string]any{"IsLocal": true}
		res["properties"], p["resources"] = props, res
	case strings.HasPrefix(j.Compute, "/"):
		p["computeId"] = j.Compute
	default:
		p["computeId"] = s.c.Workspace() + "/computes/" + j.Compute
	}
}

func (s *submission) environment(ctx context.Context) error {
	e := s.job.Environment
	if e == nil {
		return nil
	}
	if e.Ref != "" {
		s.job.Properties["environmentId"] = versioned(s.c.Workspace(), "environments", e.Ref)
		return nil
	}
	if e.Build != "" {
		k, err := s.pack(ctx, "build context", e.Build)
		if err != nil {
			return err
		}
		e.Properties["build"].(map[string]any)["contextUri"] = "moorage://snapshots/" + string(k.Root)
	}
	if err := e.Seal(); err != nil {
		return err
	}
	s.job.Properties["environmentId"] = s.c.Workspace() + "/environments/" + e.Name + "/versions/" + e.Version
	return s.c.PutEnvironment(ctx, e.Name, e.Version, e.Properties)
}

// versioned is the ARM id of azureml:name:version. Curated and registry names and labels (@latest) go to the server as
// they are, as Azure's v2 client sends them.
func versioned(ws, collection, ref string) string {
	rest, ok := strings.CutPrefix(ref, "azureml:")
	if !ok || strings.HasPrefix(rest, "//") || strings.HasPrefix(rest, "AzureML-") {
		return ref
	}
	if strings.HasPrefix(rest, "/") {
		return rest
	}
	name, version, ok := strings.Cut(rest, ":")
	if !ok || strings.Contains(rest, "@") {
		return ref
	}
	return ws + "/" + collection + "/" + name + "/versions/" + version
}

// after prints what the person asked for once the job is accepted.
func (s *submission) after(f *format, follow, wait bool) error {
	cmd, name := s.cmd, s.job.Name
	if follow {
		fmt.Fprintf(cmd.ErrOrStderr(), "job %s\n", name)
		return stream(cmd, s.n, s.c, name, 0, true)
	}
	if wait {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		j, err := waitShowing(ctx, cmd, s.n, s.c, name, waiter{known: true, say: cmd.ErrOrStderr()})
		if err != nil {
			return interrupted(ctx, cmd, name, err)
		}
		if err := f.print(cmd, j.Raw, func() error { fmt.Fprintln(cmd.OutOrStdout(), name); return printEnd(cmd.ErrOrStderr(), j) }); err != nil {
			return err
		}
		return ended(j)
	}
	if f.value == "table" {
		fmt.Fprintln(cmd.OutOrStdout(), name)
		if show.Terminal(cmd.OutOrStdout()) {
			fmt.Fprintf(cmd.ErrOrStderr(), "  watch it:  moorage job stream %[1]s\n  end it:    moorage job cancel %[1]s\n", name)
		}
		return nil
	}
	j, err := s.c.Job(cmd.Context(), name)
	if err != nil {
		return err
	}
	return f.print(cmd, j.Raw, nil)
}

// largeSnapshot is from where on the largest files are named.
const largeSnapshot = 300 << 20

// pack hashes a folder or file, and says when it is large and why.
func (s *submission) pack(ctx context.Context, what, path string) (*snapshot.Local, error) {
	l, err := walk(ctx, s.n.clock, path, s.cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	s.packs = append(s.packs, l)
	if l.Size > largeSnapshot && !s.warned[path] {
		s.warned[path] = true
		fmt.Fprintf(s.cmd.ErrOrStderr(), "the %s %s holds %s; the largest files:\n", what, path, show.Size(l.Size))
		for _, f := range l.Largest(5) {
			fmt.Fprintf(s.cmd.ErrOrStderr(), "  %9s  %s\n", show.Size(f.Size), show.Plain(f.Name))
		}
		fmt.Fprintln(s.cmd.ErrOrStderr(), "  name what the job does not need in .amlignore")
	}
	return l, nil
}
