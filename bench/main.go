// Command bench measures Moorage beside its floors: what the same work takes without it, in the same run, as a ratio.
// `make bench` runs it. It starts a throw-away OpenSSH server and servers of its own, all on loopback, and needs
// openssh-server, rsync and python3.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

func main() {
	program := flag.String("moorage", "bin/moorage", "the program to measure")
	only := flag.String("only", "", "measure only figures whose name matches this expression")
	jsonFile := flag.String("json", "", "write the figures as JSON to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *program, *only, *jsonFile)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, only, jsonFile string) error {
	pick, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	for _, need := range []string{"ssh", "rsync", "python3", "xargs"} {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%s is needed to measure the floors: install openssh-server, rsync and python3", need)
		}
	}
	if program, err = filepath.Abs(program); err != nil { // clients run in folders of their own
		return err
	}
	r, err := newRig(ctx, program)
	if err != nil {
		return err
	}
	defer r.close()
	fmt.Printf("%s, %d processors, %s\n\n", time.Now().Format("2006-01-02"), runtime.NumCPU(), processor())
	fmt.Printf("| what | measured | goal | must | verdict | beside |\n|---|---|---|---|---|---|\n")
	var all []figure
	missed := 0
	for _, m := range measurements() {
		if !pick.MatchString(m.name) {
			continue
		}
		f := figure{Name: m.name, Goal: m.goal, Must: m.must, Unit: m.unit, Least: m.least}
		if err := m.run(ctx, r, &f); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			if reason, ok := errors.AsType[absent](err); ok {
				f.Absent = string(reason)
			} else {
				f.Failed = err.Error()
			}
		}
		if v := f.verdict(); v == "MISSED" || v == "not measured" {
			missed++
		}
		f.print()
		all = append(all, f)
	}
	if jsonFile != "" {
		if err := os.WriteFile(jsonFile, []byte(encode(all)+"\n"), 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("\n%d figures, %d not within their must\n", len(all), missed)
	return nil
}

func (f figure) print() {
	beside := f.Note
	if f.Of != "" {
		beside = fmt.Sprintf("%.1f ms against %.1f ms: %s", f.Ours, f.Floor, f.Of)
	}
	if why := f.Failed + f.Absent; why != "" {
		beside = why
	}
	fmt.Printf("| %s | %.2f %s | %s | %s | %s | %s |\n", f.Name, f.Value, f.Unit, f.bound(f.Goal), f.bound(f.Must), f.verdict(), strings.ReplaceAll(beside, "\n", " "))
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == "model name" {
				return strings.TrimSpace(v)
			}
		}
	}
	return runtime.GOARCH
}
