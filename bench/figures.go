package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// measurement makes one line of the table.
type measurement struct {
	name  string
	goal  float64
	must  float64
	unit  string
	run   func(ctx context.Context, r *rig, f *figure) error
	least bool // goal and must are the least, not the most
}

func measurements() []measurement {
	return []measurement{
		{name: "warm submit → Completed, native API", goal: 1.0, must: 1.5, unit: "×", run: submitNative},
		{name: "warm submit → Completed, command line", goal: 1.6, must: 2.2, unit: "×", run: submitCLI},
		{name: "the same with 50 ms between server and target, round trips", goal: 2, must: 3, unit: "", run: roundTrips},
		{name: "1,000 tiny jobs, one SSH compute, 2 slots", goal: 1.3, must: 2.0, unit: "×", run: tinyJobs},
		{name: "resubmit 1,000 files / 50 MB unchanged", goal: 1.5, must: 3, unit: "×", run: resubmitUnchanged},
		{name: "resubmit 1,000 files / 50 MB, one line edited", goal: 0.5, must: 1.0, unit: "×", run: resubmitEdited},
		{name: "log line printed → seen, p95", goal: 4, must: 10, unit: "ms", run: logLatency},
		{name: "100 MB of log through job stream", goal: 1.3, must: 2, unit: "×", run: logThroughput},
		{name: "attach with pre-flight, plain host", goal: 1, must: 2, unit: "×", run: attach},
		{name: "cancel → whole tree gone", goal: 10, must: 30, unit: "×", run: cancelTree},
		{name: "azureml-core: warm submit → seen complete, our share, × command line", goal: 2, must: 2, unit: "×", run: submitV1},
		{name: "azureml-core: 10,000 metrics from inside a job, net of the client", goal: 2000, must: 2000, unit: "/s", run: metricsV1, least: true},
		{name: "azureml-core: resubmit 1,000 files / 50 MB unchanged, content sent", goal: 0, must: 0, unit: "bytes", run: unchangedV1},
		{name: "server memory (PSS), idle", goal: 30, must: 60, unit: "MB", run: idleMemory},
		{name: "server memory after 1,000 jobs, × idle", goal: 2, must: 2, unit: "×", run: memoryAfter},
		{name: "start → first answer, 10,000 jobs stored", goal: 0.2, must: 0.7, unit: "s", run: startTime},
		{name: "job list, 100,000 jobs, SQLite, p99", goal: 10, must: 50, unit: "ms", run: latency((*rig).hundred, listed)},
		{name: "job show, 100,000 jobs, SQLite, p99", goal: 10, must: 50, unit: "ms", run: latency((*rig).hundred, shown)},
		{name: "job list, 100,000 jobs, PostgreSQL, p99", goal: 10, must: 50, unit: "ms", run: latency((*rig).hundredOnPostgres, listed)},
		{name: "job show, 100,000 jobs, PostgreSQL, p99", goal: 10, must: 50, unit: "ms", run: latency((*rig).hundredOnPostgres, shown)},
		{name: "docker: submit → Completed", goal: 1.1, must: 1.3, unit: "×", run: submitDocker},
		{name: "docker: 50 MB of code, one line edited, over no code", goal: 50, must: 200, unit: "ms", run: editedDocker},
		{name: "kubernetes: submit → Completed", goal: 1.05, must: 1.2, unit: "×", run: submitKubernetes},
		{name: "kubernetes: 50 MB of code, one line edited, over no code", goal: 50, must: 200, unit: "ms", run: editedKubernetes},
		{name: "registry: push and pull of a 150 MB image", goal: 1.5, must: 3, unit: "×", run: registrySpeed},
		{name: "registry: server memory while images go through", goal: 80, must: 150, unit: "MB", run: registryMemory},
		{name: "binary", goal: 40, must: 60, unit: "MB", run: binarySize},
	}
}

var serial int

func jobName() string {
	serial++
	return "bench-" + strconv.Itoa(serial) + "-" + strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
}

func (f *figure) ratio(n int, of string, ours, floor func() (time.Duration, error)) error {
	var err error
	f.Value, f.Ours, f.Floor, err = pairs(n, ours, floor)
	f.Of = of
	return err
}

func submitNative(ctx context.Context, r *rig, f *figure) error {
	return f.ratio(30, "mux: the command over a kept-open OpenSSH connection", func() (time.Duration, error) {
		name := jobName()
		return timed(func() error {
			return errors.Join(r.server.submit(ctx, name, r.hello), r.server.wait(ctx, name))
		})
	}, func() (time.Duration, error) { return r.mux(ctx, r.hello) })
}

// job writes a YAML file and gives its path.
func (r *rig) job(name, text string) (string, error) {
	file := filepath.Join(r.dir, name+".yml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (r *rig) submitFile(ctx context.Context, file string) (time.Duration, error) {
	return timed(func() error {
		out, err := r.cli(ctx, "job", "create", "-f", file, "--stream")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func submitCLI(ctx context.Context, r *rig, f *figure) error {
	file, err := r.job("hello", "type: command\ncompute: azureml:gpu\ncommand: "+r.hello+"\n")
	if err != nil {
		return err
	}
	return f.ratio(20, "mux", func() (time.Duration, error) { return r.submitFile(ctx, file) },
		func() (time.Duration, error) { return r.mux(ctx, r.hello) })
}

func tinyJobs(ctx context.Context, r *rig, f *figure) error {
	const n = 1000
	return f.ratio(3, "local: xargs -P 2 on this machine", func() (time.Duration, error) {
		return timed(func() error {
			names := make(chan string, n)
			errs := make(chan error, 8)
			for range 8 {
				go func() {
					var err error
					for name := range names {
						err = errors.Join(err, r.server.submit(ctx, name, r.hello))
					}
					errs <- err
				}()
			}
			all := make([]string, n)
			for i := range all {
				all[i] = jobName()
				names <- all[i]
			}
			close(names)
			var err error
			for range 8 {
				err = errors.Join(err, <-errs)
			}
			for _, name := range all {
				if err == nil {
					err = r.server.wait(ctx, name)
				}
			}
			return err
		})
	}, func() (time.Duration, error) {
		return timed(func() error {
			return exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("seq %d | xargs -P 2 -I{} sh -c %q >/dev/null", n, r.hello)).Run()
		})
	})
}

// sources makes 1,000 files of 50 KB in 50 folders.
func (r *rig) sources() (string, error) {
	dir := filepath.Join(r.dir, "sources")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	line := strings.Repeat("x = 1  # padding that makes a line of sixty four characters..\n", 800)
	for i := range 1000 {
		name := filepath.Join(dir, "pkg"+strconv.Itoa(i%50), "m"+strconv.Itoa(i)+".py")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { // read by another login
			return "", err
		}
		if err := os.WriteFile(name, []byte("# "+strconv.Itoa(i)+"\n"+line), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (r *rig) sourcesJob() (string, string, error) {
	dir, err := r.sources()
	if err != nil {
		return "", "", err
	}
	file, err := r.job("sources", "type: command\ncompute: azureml:gpu\ncode: ./sources\ncommand: "+r.hello+"\n")
	return dir, file, err
}

func resubmitUnchanged(ctx context.Context, r *rig, f *figure) error {
	_, file, err := r.sourcesJob()
	if err != nil {
		return err
	}
	return f.ratio(10, "mux; a second passes between submissions", func() (time.Duration, error) {
		think(ctx)
		return r.submitFile(ctx, file)
	}, func() (time.Duration, error) { return r.mux(ctx, r.hello) })
}

// think is the pause of a person between two submissions. Without it the target has no time to lay a copy of the
// snapshot ready for the next job, as rsync's folder always is.
func think(ctx context.Context) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
}

func resubmitEdited(ctx context.Context, r *rig, f *figure) error {
	dir, file, err := r.sourcesJob()
	if err != nil {
		return err
	}
	edits := 0
	edit := func() error {
		edits++
		return os.WriteFile(filepath.Join(dir, "pkg7", "m7.py"), fmt.Appendf(nil, "# edit %d\n%s", edits, strings.Repeat("x = 1\n", 8000)), 0o644) // read by another login
	}
	shell := "ssh -S " + filepath.Join(r.dir, "mux") + " " + strings.Join(r.options, " ")
	return f.ratio(10, "rsync over mux, then the command; a second passes between submissions", func() (time.Duration, error) {
		if err := edit(); err != nil {
			return 0, err
		}
		think(ctx)
		return r.submitFile(ctx, file)
	}, func() (time.Duration, error) {
		if err := edit(); err != nil {
			return 0, err
		}
		return timed(func() error {
			if out, err := exec.CommandContext(ctx, "rsync", "-a", "-e", shell, dir+"/", r.login()+":sources/").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			_, err := r.mux(ctx, "cd sources && "+r.hello)
			return err
		})
	})
}

// logLatency lets a job print the time now and then, and looks when each line arrives.
func logLatency(ctx context.Context, r *rig, f *figure) error {
	name := jobName()
	script := `python3 -uc 'import time
for i in range(100): print(time.time()); time.sleep(0.03)'`
	if err := r.server.submit(ctx, name, script); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.url+"/native/v1"+workspacePath+"/jobs/"+name+"/log?follow=1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.server.token)
	res, err := r.server.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var delays []float64
	buf, rest := make([]byte, 4096), []byte(nil)
	for {
		n, err := res.Body.Read(buf)
		now := float64(time.Now().UnixNano()) / 1e9
		rest = append(rest, buf[:n]...)
		for {
			line, after, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			printed, perr := strconv.ParseFloat(string(line), 64)
			if perr != nil {
				return perr
			}
			delays, rest = append(delays, (now-printed)*1000), after
		}
		if err != nil {
			break
		}
	}
	if len(delays) < 90 {
		return fmt.Errorf("only %d lines arrived", len(delays))
	}
	f.Value = percentile(delays, 95)
	f.Note = fmt.Sprintf("median %.1f ms of %d lines", median(delays), len(delays))
	return r.server.wait(ctx, name)
}

func logThroughput(ctx context.Context, r *rig, f *figure) error {
	const size = 100 << 20
	make100 := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' 'x' | fold -w 99", size)
	name := jobName()
	if err := errors.Join(r.server.submit(ctx, name, make100), r.server.wait(ctx, name)); err != nil {
		return err
	}
	if _, err := r.mux(ctx, make100+" > big.log"); err != nil {
		return err
	}
	return f.ratio(3, "a new ssh, cat of the same file", func() (time.Duration, error) {
		cmd := r.command(ctx, "job", "stream", name)
		var count counter
		cmd.Stdout = &count
		d, err := timed(cmd.Run)
		if err == nil && count < size {
			err = fmt.Errorf("only %d bytes came", count)
		}
		return d, err
	}, func() (time.Duration, error) { return r.fresh(ctx, "cat big.log", io.Discard) })
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func attach(ctx context.Context, r *rig, f *figure) error {
	return f.ratio(8, "a new ssh, true", func() (time.Duration, error) {
		// Another server's computes are other attachments: the keeper is there, the folder is not.
		d, err := timed(func() error {
			out, err := r.cli(ctx, "compute", "attach", "again", "--kind", "ssh", "--address", r.address, "--private-key-file", r.ssh["KEY"], "--distinct")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if out, err := r.cli(ctx, "compute", "detach", "again"); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return d, nil
	}, func() (time.Duration, error) { return r.fresh(ctx, "true", io.Discard) })
}

func cancelTree(ctx context.Context, r *rig, f *figure) error {
	return f.ratio(8, "mux, true", func() (time.Duration, error) {
		name := jobName()
		mark := strconv.Itoa(77000 + serial)
		if err := r.server.submit(ctx, name, "setsid sleep "+mark+" & sleep "+mark+" & sleep "+mark); err != nil {
			return 0, err
		}
		if err := until(ctx, func() bool { return running("sleep "+mark) == 3 }); err != nil {
			return 0, err
		}
		return timed(func() error {
			if _, err := r.server.call(ctx, http.MethodPost, workspacePath+"/jobs/"+name+"/cancel?api-version=2024-01-01", nil); err != nil {
				return err
			}
			return until(ctx, func() bool { return running("sleep "+mark) == 0 })
		})
	}, func() (time.Duration, error) { return r.mux(ctx, "true") })
}

// running counts processes by their command line, without starting one.
func running(command string) int {
	n := 0
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline") // processes that go away are not counted
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimRight(strings.ReplaceAll(string(b), "\x00", " "), " ") == command {
			n++
		}
	}
	return n
}

func until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return errors.New("it did not happen within 30 s")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func binarySize(_ context.Context, r *rig, f *figure) error {
	info, err := os.Stat(r.moorage)
	if err != nil {
		return err
	}
	f.Value = float64(info.Size()) / 1e6
	return nil
}

// pss is a process's proportional memory in MB.
func pss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kb, err := strconv.ParseFloat(fields[1], 64)
			return kb / 1000, err
		}
	}
	return 0, errors.New("no Pss line")
}

// rest lets a server give back what a busy time took, which it does every ten seconds.
func rest(ctx context.Context) {
	select {
	case <-time.After(20 * time.Second):
	case <-ctx.Done():
	}
}

// idleMemory is taken while no other process maps the program's file: shared pages are counted in parts.
func idleMemory(_ context.Context, r *rig, f *figure) error {
	f.Value = r.idle
	return nil
}

func memoryAfter(ctx context.Context, r *rig, f *figure) error {
	rest(ctx)
	after, err := pss(r.server.cmd.Process.Pid)
	f.Value, f.Note = after/r.idle, fmt.Sprintf("%.0f MB after %d jobs of this run and 20 s of rest", after, serial)
	return err
}

func encode(v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("bench: " + err.Error()) // figures are numbers and text
	}
	return string(b)
}
