package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute/all"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/server"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// serveFlags are the flags of serve; each is also a variable MOORAGE_… and a field of the YAML file.
type serveFlags struct {
	config string
	server.Config
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until it is told to stop (Ctrl-C, SIGTERM). Jobs go on while it is away.

Settings come from a YAML file (--config), then from variables named after the flags (MOORAGE_LISTEN for --listen),
then from flags; the later wins.`,
		Example: `  moorage serve --data ~/moorage
  moorage serve --data /srv/moorage --database postgres://moorage@db/moorage --listen 0.0.0.0:8443 --allow-remote`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd.Flags())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *serveFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "YAML file with settings")
	flags.StringVar(&f.Data, "data", "", "folder for everything the server keeps (default ~/.local/share/moorage)")
	flags.StringVar(&f.Listen, "listen", "", "address to listen on (default 127.0.0.1:8443)")
	flags.BoolVar(&f.AllowRemote, "allow-remote", false, "allow an address that other machines can reach")
	flags.StringSliceVar(&f.Names, "name", nil, "further host names or addresses for the certificate")
	flags.StringVar(&f.Database, "database", "", "postgres://… instead of SQLite in the data folder")
	flags.StringVar(&f.Blobs, "blobs", "", "folder of logs, outputs and snapshots, shared by servers on one database (default blobs in the data folder)")
	flags.StringVar(&f.MasterKeyFile, "master-key-file", "", "file with the master key (default keys/master.key in the data folder)")
	flags.StringVar(&f.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	flags.StringVar(&f.LogFormat, "log-format", "", "text or json (default text)")
	flags.StringVar(&f.DefaultCompute, "default-compute", "", "compute of jobs that name none (default local)")
	flags.BoolVar(&f.NoLocal, "no-local", false, "do not attach this machine as compute local at the first start")
	flags.StringVar(&f.Curated, "curated-environments", "", "YAML file with a table of curated environments")
	flags.StringVar(&f.PackageIndex, "package-index", "", "simple package index from which environments are made")
	flags.StringVar((*string)(&f.Python), "python-policy", "", "exact or compatible: whether another Python may serve where an environment's own cannot be had (default compatible)")
	flags.DurationVar(&f.Jobs.UnreachableAfter, "jobs-unreachable-after", 0, "give up a job whose compute is silent for so long (default 24h)")
	flags.DurationVar(&f.Jobs.Keep, "jobs-keep", 0, "keep an ended job's folder on its compute for so long (default 30s)")
	flags.DurationVar(&f.Jobs.Grace, "jobs-grace", 0, "time between asking a job to end and ending it (default 10s)")
	flags.DurationVar(&f.Jobs.Retention, "jobs-retention", 0, "delete an ended job with its files after so long (default never)")
	flags.DurationVar(&f.Tokens.Life, "tokens-life", 0, "how long a token is good for that a client gets for its secret (default 1h)")
	flags.DurationVar(&f.Tokens.JobLife, "tokens-job-life", 0, "how long the token is good for that azureml-core finds in a job, which ends with the job in any case (default 9600h)")
	flags.DurationVar(&f.AuditRetention, "audit-retention", 0, "delete an entry of the audit log after so long (default 9600h, 400 days)")
	flags.Var(&f.MinFree, "min-free", "room that must be free on the disk for new work to be taken, e.g. 2GB; none: no matter (default 500MB)")
	flags.BoolVar(&f.AzureStrict, "azure-strict", false, "attach only what Azure would: machines with Ubuntu and a public address, HDInsight clusters with a public address")
	flags.StringVar(&f.Azure.TenantID, "azure-tenant-id", "", "tenant in which Azure is asked for the addresses of resource ids")
	flags.StringVar(&f.Azure.ClientID, "azure-client-id", "", "application, or one of this machine's identities, that asks it")
	flags.StringVar(&f.Azure.ClientSecretFile, "azure-client-secret-file", "", "file with the application's secret (or the variable MOORAGE_AZURE_CLIENT_SECRET holds it)")
	flags.StringVar(&f.Azure.ClientCertificateFile, "azure-client-certificate-file", "", "file with the application's certificate and private key")
	flags.BoolVar(&f.Azure.ManagedIdentity, "azure-managed-identity", false, "ask Azure as this machine's managed identity")
	flags.StringVar(&f.Azure.Cloud, "azure-cloud", "", "public, government or china (default public)")
	flags.DurationVar(&f.Jobs.Lease, "jobs-lease", 0, "how long a compute stays with a server that is silent (default 10s)")
}

// resolve lays flags over variables over the file.
func (f *serveFlags) resolve(flags *pflag.FlagSet) (server.Config, error) {
	file := f.config
	if file == "" {
		file = os.Getenv("MOORAGE_CONFIG")
	}
	cfg := server.Config{}
	if file != "" {
		var err error
		if cfg, err = server.ReadConfig(file); err != nil {
			return cfg, err
		}
	}
	var overlay serveFlags
	over := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	overlay.Config = cfg
	overlay.addKeeping(over)
	var failure error
	flags.VisitAll(func(flag *pflag.Flag) {
		if over.Lookup(flag.Name) == nil || failure != nil {
			return
		}
		name := "MOORAGE_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if flag.Changed {
			value, set, name = flag.Value.String(), true, "--"+flag.Name
			if s, ok := flag.Value.(pflag.SliceValue); ok {
				value = strings.Join(s.GetSlice(), ",")
			}
		}
		if !set {
			return
		}
		if err := over.Set(flag.Name, value); err != nil {
			failure = &workspace.Problem{Class: workspace.Invalid, Code: "InvalidSetting", Message: fmt.Sprintf("%s cannot be %q", name, value), Cause: err.Error(), Mend: "see moorage serve --help"}
		}
	})
	return overlay.Config, failure
}

// addKeeping adds the flags without overwriting what is set: a flag's default is the value that it finds.
func (f *serveFlags) addKeeping(flags *pflag.FlagSet) {
	was := f.Config
	f.add(flags)
	f.Config = was
}

// serve runs a server until ctx ends, a signal comes, or it fails.
func serve(ctx context.Context, cfg server.Config, stdout, stderr io.Writer) error {
	log, err := logger(cfg, stderr)
	if err != nil {
		return err
	}
	points, err := fault.Parse(os.Getenv("MOORAGE_FAULT"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := server.Start(ctx, cfg, server.Options{Log: log, Clock: clock.System(), Drivers: all.Drivers(), Version: version, Fault: points})
	if err != nil {
		return err
	}
	go lean(ctx) // ends with the process
	fmt.Fprintf(stdout, "moorage: ready at %s, data in %s\n", s.URL(), s.Data())
	defer s.Close(ctx)
	select {
	case <-ctx.Done():
		stop() // a second Ctrl-C ends the process at once
		log.Info("stopping; jobs go on where they run")
		return nil
	case err := <-s.Failed():
		return err
	}
}

func logger(cfg server.Config, w io.Writer) (*slog.Logger, error) {
	level := slog.LevelInfo
	if cfg.LogLevel != "" {
		if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
			return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidLogLevel", Message: fmt.Sprintf("%q is not a log level", cfg.LogLevel), Mend: "use debug, info, warn or error"}
		}
	}
	switch cfg.LogFormat {
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), nil
	case "", "text":
		f, terminal := w.(*os.File)
		terminal = terminal && term.IsTerminal(int(f.Fd()))
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: !terminal})), nil
	}
	return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidLogFormat", Message: fmt.Sprintf("%q is not a log format", cfg.LogFormat), Mend: "use text or json"}
}
