package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/moorage-ml/moorage/internal/cli/client"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"moorage": func() { os.Exit(Main(context.Background(), os.Args[1:], System(), Version(""))) },
	})
}

// The scripts in testdata/script run the command line as a process against the simulator. Beside testscript's own
// commands they have:
//
//	requests [PATTERN]  the requests since the last call, to standard output
//	body PATTERN        the body of the last request that matches, indented, to standard output
//	code N COMMAND…     runs a command that must end with this exit code
//	waitfor PATTERN     waits until a request that matches has come
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			data := filepath.Join(e.WorkDir, "data")
			s, err := newSimulator(data)
			if err != nil {
				return err
			}
			e.Defer(s.Close)
			e.Values["simulator"] = s
			e.Setenv("DATA", data)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			e.Setenv("MOORAGE_URL", s.URL)
			e.Setenv("MOORAGE_CA", filepath.Join(data, "ca.pem"))
			e.Setenv("MOORAGE_TOKEN_FILE", filepath.Join(data, "keys", "admin.secret"))
			e.Setenv("MOORAGE_SUBSCRIPTION", "sub")
			e.Setenv("MOORAGE_RESOURCE_GROUP", "rg")
			e.Setenv("MOORAGE_WORKSPACE", "ws")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"requests": cmdRequests, "body": cmdBody, "code": cmdCode, "waitfor": cmdWaitFor,
		},
	})
}

func cmdRequests(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("simulator").(*simulator)
	s.mu.Lock()
	defer s.mu.Unlock()
	pattern, out := regexp.MustCompile(strings.Join(args, " ")), ts.Stdout()
	for _, r := range s.requests {
		if pattern.MatchString(r.what) {
			fmt.Fprintln(out, r.what)
		}
	}
	s.requests = nil
}

func cmdBody(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("simulator").(*simulator)
	s.mu.Lock()
	defer s.mu.Unlock()
	pattern := regexp.MustCompile(strings.Join(args, " "))
	var found []byte
	for _, r := range s.requests {
		if pattern.MatchString(r.what) {
			found = bytes.ReplaceAll(r.body, []byte(simWorkspace), []byte("{ws}"))
		}
	}
	if found == nil {
		ts.Fatalf("no request matches %s", pattern)
	}
	var b bytes.Buffer
	ts.Check(json.Indent(&b, found, "", "  "))
	fmt.Fprintln(ts.Stdout(), b.String())
}

func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, not %s", got, args[0])
	}
}

func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("simulator").(*simulator)
	pattern := regexp.MustCompile(strings.Join(args, " "))
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); _ = client.Pause(context.Background(), 5*time.Millisecond) {
		s.mu.Lock()
		found := slices.ContainsFunc(s.requests, func(r request) bool { return pattern.MatchString(r.what) })
		s.mu.Unlock()
		if found {
			return
		}
	}
	ts.Fatalf("no request matched %s in time", pattern)
}
