package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute/all"
	"github.com/moorage-ml/moorage/internal/server"
)

// demo is one showing: a server in this process, and the command line that talks to it over HTTP as a user's would.
type demo struct {
	data, example, listen string
	once                  bool
	out, err              io.Writer
}

func demoCommand() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a server, train an example on this machine, and show what came of it",
		Example: `  moorage demo                  # from a checkout; keeps serving until Ctrl-C
  moorage demo --once           # ends after the job`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&d.data, "data", "moorage-demo", "folder for everything the server keeps")
	cmd.Flags().StringVar(&d.example, "example", filepath.Join("examples", "digits", "job.yml"), "the job to train")
	cmd.Flags().StringVar(&d.listen, "listen", "", "address to listen on (default 127.0.0.1:8443, or a free port)")
	cmd.Flags().BoolVar(&d.once, "once", false, "end after the job")
	return cmd
}

func (d *demo) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, err := logger(server.Config{LogLevel: "warn"}, d.err)
	if err != nil {
		return err
	}
	s, err := server.Start(ctx, server.Config{Data: d.data, Listen: d.address()}, server.Options{Log: log, Clock: clock.System(), Drivers: all.Drivers(), Version: version})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	fmt.Fprintf(d.out, "Server ready at %s, data in %s. Training %s on this machine.\n\n", s.URL(), s.Data(), d.example)
	name := "digits-" + time.Now().UTC().Format("20060102-150405")
	code := cli.Main(ctx, []string{"job", "create", "--data", s.Data(), "-f", d.example, "--name", name, "--stream"}, cli.Streams{In: os.Stdin, Out: d.out, Err: d.err})
	if code != 0 {
		return cli.Exit(code)
	}
	if err := d.show(ctx, s, name); err != nil {
		return err
	}
	if d.once {
		return nil
	}
	fmt.Fprintf(d.out, "\nStill serving. Ctrl-C ends the server; jobs go on where they run.\n")
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.Failed():
		return err
	}
}

// address is the usual one, or any free port where something listens there already.
func (d *demo) address() string {
	if d.listen != "" {
		return d.listen
	}
	const usual = "127.0.0.1:8443"
	l, err := net.Listen("tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close() // it was only asked for
	return usual
}

// show prints the metrics as plots, and where to go from here.
func (d *demo) show(ctx context.Context, s *server.Server, name string) error {
	metrics, err := d.metrics(ctx, s, name)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	for _, m := range metrics {
		fmt.Fprintln(d.out, plot(m.name, m.points, 50, 6))
	}
	program, data := shown(os.Args[0]), shown(s.Data())
	where := "by the server. To go on in another terminal:"
	if d.once { // nothing serves any more when this is read
		where = fmt.Sprintf("in %s. To go on:\n  %s serve --data %s &", data, program, data)
	}
	fmt.Fprintf(d.out, `The model and all outputs are kept %[1]s
  eval "$(%[2]s env --data %[3]s)"
  %[2]s job download %[4]s      # to ./%[4]s
  %[2]s job list
`, where, program, data, name)
	return nil
}

func shown(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") && filepath.IsAbs(path) {
			return "./" + rel
		}
	}
	return path
}

type metric struct {
	name   string
	points []point
}

// metrics reads a run's metrics as any MLflow client would.
func (d *demo) metrics(ctx context.Context, s *server.Server, run string) ([]metric, error) {
	const api = "/mlflow/api/2.0/mlflow/"
	var answer struct {
		Run struct {
			Data struct {
				Metrics []struct{ Key string }
			}
		}
	}
	if err := ask(ctx, s.Data(), http.MethodGet, api+"runs/get?run_id="+url.QueryEscape(run), &answer); err != nil {
		return nil, err
	}
	var metrics []metric
	for _, m := range answer.Run.Data.Metrics {
		var history struct {
			Metrics []struct {
				Step  float64
				Value json.RawMessage
			}
		}
		if err := ask(ctx, s.Data(), http.MethodGet, api+"metrics/get-history?run_id="+url.QueryEscape(run)+"&metric_key="+url.QueryEscape(m.Key), &history); err != nil {
			return nil, err
		}
		one := metric{name: m.Key}
		for _, p := range history.Metrics {
			var v float64
			if json.Unmarshal(p.Value, &v) == nil { // "NaN" is text, and cannot be drawn
				one.points = append(one.points, point{p.Step, v})
			}
		}
		metrics = append(metrics, one)
	}
	slices.SortFunc(metrics, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return metrics, nil
}
