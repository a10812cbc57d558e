package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// workspacePath is the ARM path of the workspace that a server makes by itself.
const workspacePath = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/moorage/providers/Microsoft.MachineLearningServices/workspaces/main"

const (
	native     = "/native/v1" + workspacePath
	apiVersion = "?api-version=2024-01-01"
)

// refusal is an answer that is an error.
type refusal struct {
	status int
	body   []byte
	call   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %d %s", r.call, r.status, r.body) }

// problem reads an error in ARM's shape. Its code is empty if the body has another shape.
func (r *refusal) problem() (p workspace.Problem) {
	var body struct {
		Error struct{ Code, Message, Cause, Mend string }
	}
	_ = json.Unmarshal(r.body, &body)
	p.Code, p.Message, p.Cause, p.Mend = body.Error.Code, body.Error.Message, body.Error.Cause, body.Error.Mend
	return p
}

// call makes one request and decodes the answer into out, unless it is nil. It gives the status, 0 if there was none. An
// answer of 400 or more is a *refusal.
func (p *program) call(ctx context.Context, method, path string, body, out any) (int, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(b)
	}
	return p.send(ctx, method, path, p.token, r, out)
}

func (p *program) send(ctx context.Context, method, path, token string, body io.Reader, out any) (int, error) {
	if len(path) > 0 && path[0] == '/' {
		path = p.url + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if res.StatusCode >= 400 {
		return res.StatusCode, &refusal{res.StatusCode, b, method + " " + path}
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = b
	default:
		return res.StatusCode, json.Unmarshal(b, out)
	}
	return res.StatusCode, nil
}

// view is the native API's view of a job.
type view struct {
	Name     string             `json:"name"`
	ID       string             `json:"id"`
	State    string             `json:"state"`
	Reason   *workspace.Problem `json:"reason"`
	ExitCode *int               `json:"exit_code"`
	Error    *workspace.Problem `json:"error"`
	LogSize  int64              `json:"log_size"`
}

func (v view) terminal() bool {
	return v.State == "Completed" || v.State == "Failed" || v.State == "Canceled"
}

// errorCode is the code of why the job failed; empty if it has none.
func (v view) errorCode() string {
	if v.Error == nil {
		return ""
	}
	return v.Error.Code
}

// on names the compute of a job.
func on(compute string) map[string]any {
	return map[string]any{"computeId": workspacePath + "/computes/" + compute}
}

// submit puts a command job. With err nil the job was acknowledged.
func (p *program) submit(ctx context.Context, name, command string, more map[string]any) error {
	properties := map[string]any{"jobType": "Command", "command": command, "experimentName": "e2e"}
	maps.Copy(properties, more)
	_, err := p.call(ctx, "PUT", workspacePath+"/jobs/"+name+apiVersion, map[string]any{"properties": properties}, nil)
	return err
}

func (p *program) show(ctx context.Context, name string) (v view, err error) {
	_, err = p.call(ctx, "GET", native+"/jobs/"+name, nil, &v)
	return v, err
}

func (p *program) wait(ctx context.Context, name string) (v view, err error) {
	for {
		_, err = p.call(ctx, "GET", native+"/jobs/"+name+"/wait?timeout=20s", nil, &v)
		if err != nil || v.terminal() {
			return v, err
		}
	}
}

func (p *program) log(ctx context.Context, name string) (string, error) {
	var b []byte
	_, err := p.call(ctx, "GET", native+"/jobs/"+name+"/log", nil, &b)
	return string(b), err
}

// follow reads a job's log as it grows, to the job's end, in one answer.
func (p *program) follow(ctx context.Context, name string, from int64) (string, error) {
	var b []byte
	_, err := p.call(ctx, "GET", fmt.Sprintf("%s/jobs/%s/log?follow=1&from=%d", native, name, from), nil, &b)
	return string(b), err
}

func (p *program) cancel(ctx context.Context, name string) error {
	_, err := p.call(ctx, "POST", workspacePath+"/jobs/"+name+"/cancel"+apiVersion, nil, nil)
	return err
}

// files gives the content of every file that a job brought home, by output and path.
func (p *program) files(ctx context.Context, name string) (map[string]string, error) {
	var list struct {
		Files []struct{ Output, Path, URL string }
	}
	if _, err := p.call(ctx, "GET", native+"/jobs/"+name+"/files", nil, &list); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, f := range list.Files {
		var b []byte
		if _, err := p.send(ctx, "GET", f.URL, "", nil, &b); err != nil {
			return nil, err
		}
		out[f.Output+"/"+f.Path] = string(b)
	}
	return out, nil
}

// upload stores a folder with one file as a snapshot and gives the codeId of it.
func (p *program) upload(ctx context.Context, file, content string) (string, error) {
	tree := snapshot.Tree{{Name: file, Kind: snapshot.File, Size: int64(len(content)), Hash: snapshot.Sum([]byte(content))}}.Encode()
	var body bytes.Buffer
	z, err := zstd.NewWriter(&body)
	if err != nil {
		return "", err
	}
	for _, object := range [][]byte{[]byte(content), tree} {
		fmt.Fprintf(z, "%s %d\n%s", snapshot.Sum(object), len(object), object)
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	_, err = p.send(ctx, "POST", native+"/snapshots/objects", p.token, &body, nil)
	return workspacePath + "/codes/" + string(snapshot.Sum(tree)) + "/versions/1", err
}

// sshCompute is the body by which a machine is attached over SSH with its user's key.
func sshCompute(t testing.TB, s *engine.SSHD, addr string, settings map[string]any) map[string]any {
	t.Helper()
	account := map[string]any{"username": s.User, "privateKeyData": s.Key(t)}
	return map[string]any{"properties": map[string]any{"computeType": "VirtualMachine", "properties": map[string]any{
		"address": "ssh://" + s.User + "@" + addr, "administratorAccount": account, "settings": settings,
	}}}
}

// attach attaches a machine over SSH, by any address that leads to it.
func (p *program) attach(ctx context.Context, name string, s *engine.SSHD, addr string, settings map[string]any) error {
	if settings == nil {
		settings = map[string]any{}
	}
	_, err := p.call(ctx, "PUT", workspacePath+"/computes/"+name+apiVersion, sshCompute(p.t, s, addr, settings), nil)
	return err
}

// mustAttach is attach for tests that are about something else.
func (p *program) mustAttach(name string, s *engine.SSHD, addr string, settings map[string]any) {
	p.t.Helper()
	if err := p.attach(p.t.Context(), name, s, addr, settings); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) mustSubmit(name, command string, more map[string]any) {
	p.t.Helper()
	if err := p.submit(p.t.Context(), name, command, more); err != nil {
		p.t.Fatal(err)
	}
}

// mustEnd waits for a job's end, and for the state that it must have.
func (p *program) mustEnd(name, state string) view {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	v, err := p.wait(ctx, name)
	if err != nil {
		p.t.Fatalf("job %s: %v", name, err)
	}
	if v.State != state {
		p.t.Fatalf("job %s ended %s, wanted %s: %+v", name, v.State, state, v.Error)
	}
	return v
}

func (p *program) mustLog(name, want string) {
	p.t.Helper()
	got, err := p.log(p.t.Context(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	if got != want {
		p.t.Errorf("the log of %s has %d bytes, wanted %d: %.200q", name, len(got), len(want), got)
	}
}

// until polls a condition, which is what a test waits for instead of time.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	engine.Eventually(t, 60*time.Second, what, ok)
}

// runs waits until a job has begun its command.
func (p *program) runs(name string) {
	p.t.Helper()
	var v view
	until(p.t, "job "+name+" runs", func() bool {
		v, _ = p.show(p.t.Context(), name)
		if v.terminal() {
			p.t.Fatalf("job %s ended %s before it was seen to run: %+v", name, v.State, v.Error)
		}
		return v.State == "Running"
	})
}
