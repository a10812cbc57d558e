package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// refuses fails the test unless a request is answered with a status from 400 to 499, in ARM's shape, with a message.
func (p *program) refuses(what, method, path, token string, body io.Reader, statuses ...int) *refusal {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	status, err := p.send(ctx, method, path, token, body, nil)
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		p.t.Errorf("%s: %d, %v", what, status, err)
		return &refusal{}
	}
	right := len(statuses) == 0 && r.status >= 400 && r.status < 500
	for _, s := range statuses {
		right = right || r.status == s
	}
	why := r.problem()
	if !right || why.Code == "" || why.Message == "" {
		p.t.Errorf("%s: wanted %v in ARM's shape: %.500v", what, statuses, r)
	}
	return r
}

func TestBrokenBodiesAreRefusedWithTheirPlace(t *testing.T) {
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	for _, path := range []string{
		workspacePath + "/jobs/j" + apiVersion, workspacePath + "/computes/c" + apiVersion, workspacePath + "/environments/e/versions/1" + apiVersion,
		workspacePath + "/data/d/versions/1" + apiVersion, workspacePath + "/models/m/versions/1" + apiVersion,
	} {
		r := p.refuses("malformed "+path, "PUT", path, p.token, strings.NewReader("{\n  \"properties\": {\n    \"a\": ]\n"), 400)
		if !strings.Contains(string(r.body), "line 3, column 10") {
			t.Errorf("%s: it does not say where: %s", path, r.body)
		}
		for what, body := range map[string]string{
			"no object": `[1]`, "a text": `"x"`, "null": `null`, "not UTF-8": "{\"properties\": {\"description\": \"\xff\xfe\", \"jobType\": 7}}",
			"two values": `{} {}`, "properties of a wrong type": `{"properties": "x"}`, "NUL": "\x00", "cut": `{"properties": {`,
			"deep": strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101), "very deep": strings.Repeat("[", 1<<20), "a huge number": `{"properties": 1e999999}`,
		} {
			p.refuses(what+" "+path, "PUT", path, p.token, strings.NewReader(body), 400, 422)
		}
	}
	p.refuses("oversized", "PUT", workspacePath+"/jobs/j"+apiVersion, p.token, io.MultiReader(strings.NewReader(`{"a":"`), zeros(65<<20)), 413)
	p.refuses("a broken upload", "POST", native+"/snapshots/objects", p.token, strings.NewReader("this is no zstd"), 400)
	if _, err := p.call(t.Context(), "GET", "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
}

// TestTextThatDatabasesCannotHoldIsRefusedOrKept: PostgreSQL takes no NUL. What is said to a client is never "the server
// failed", and what was taken is given back as it was.
func TestTextThatDatabasesCannotHoldIsRefusedOrKept(t *testing.T) {
	for _, db := range databases() {
		t.Run(db.name, func(t *testing.T) {
			p := started(t, t.TempDir(), db.fresh(t)...)
			for i, text := range []string{"a\x00b", "\U0010ffff", "\ud7ff", "\u202e", "'; DROP TABLE jobs; --", "%s%n", strings.Repeat("ü", 100_000)} {
				for _, field := range []string{"displayName", "description", "experimentName", "command", "tag", "variable"} {
					name := fmt.Sprintf("%s%d", field, i)
					more := map[string]any{field: text}
					switch field {
					case "tag":
						more = map[string]any{"tags": map[string]string{"t": text}}
					case "variable":
						more = map[string]any{"environmentVariables": map[string]string{"V": text}}
					case "command":
						more = map[string]any{"command": "true # " + text}
					}
					err := p.submit(t.Context(), name, "true", more)
					if err != nil {
						if r := asRefusal(t, err); r.status >= 500 || r.problem().Code == "" {
							t.Errorf("%s of %.20q: %.300v", field, text, err)
						}
						continue
					}
					var back json.RawMessage
					if _, err := p.call(t.Context(), "GET", workspacePath+"/jobs/"+name+apiVersion, nil, &back); err != nil {
						t.Error(err)
					}
					if want, _ := json.Marshal(text); field != "command" && !strings.Contains(string(back), strings.Trim(string(want), `"`)) {
						t.Errorf("%s of %.20q came back as %.300s", field, text, back)
					}
					if v, err := p.wait(t.Context(), name); err != nil || field != "command" && field != "variable" && v.State != "Completed" {
						t.Errorf("%s of %.20q: %s %v %v", field, text, v.State, v.Error, err)
					}
				}
			}
		})
	}
}

// zeros is text of a size, which is made as it is read.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func TestBadNamesAreRefused(t *testing.T) {
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	body := `{"properties":{"jobType":"Command","command":"true"}}`
	for _, name := range []string{
		"..%2fx", "%2e%2e", "a%2fb", "a%00b", "a%0ab", strings.Repeat("n", 300), "%20", "a%20b", "-a", "%ff%fe", "a;b", "..", "a%5cb", "💥", "a'b", `a%22b`,
	} {
		p.refuses("job "+name, "PUT", workspacePath+"/jobs/"+name+apiVersion, p.token, strings.NewReader(body))
		p.refuses("compute "+name, "PUT", workspacePath+"/computes/"+name+apiVersion, p.token, strings.NewReader(`{"properties":{"computeType":"Local","properties":{}}}`))
		p.refuses("no job "+name, "GET", native+"/jobs/"+name, p.token, nil)
	}
	for _, path := range []string{
		"/subscriptions/nobody/resourceGroups/x/providers/Microsoft.MachineLearningServices/workspaces/main/jobs" + apiVersion,
		workspacePath[:len(workspacePath)-4] + "other/jobs" + apiVersion, native + "/jobs?limit=-1", native + "/jobs?state=Nonsense", native + "/jobs?compute=nowhere",
		native + "/jobs/x/log?from=abc", native + "/jobs/x/wait?timeout=never", "/nothing/here",
	} {
		p.refuses(path, "GET", path, p.token, nil)
	}
	p.refuses("a method that is not there", "DELETE", "/native/v1/kinds", p.token, nil, 405)
}

// TestPathsNeverLeaveTheirFolder asks for what lies beside the blobs, by every spelling, with the administrator's own token.
func TestPathsNeverLeaveTheirFolder(t *testing.T) {
	data := t.TempDir()
	p := started(t, data, "MOORAGE_NO_LOCAL=true")
	master, err := os.ReadFile(filepath.Join(data, "keys", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, up := range []string{"../", "%2e%2e/", "..%2f", "%2e%2e%2f", "..%5c", "..%255c", "%252e%252e%252f", "./../", "x/../../", "//", "..;/", "%c0%ae%c0%ae/"} {
		for _, base := range []string{"/blob/acct/azureml/", "/blob/acct/", "/mlflow/v1.0" + workspacePath + "/api/2.0/mlflow-artifacts/artifacts/", "/mlflow/api/2.0/mlflow-artifacts/artifacts/"} {
			path := base + strings.Repeat(up, 6) + "keys/master.key"
			for _, method := range []string{"GET", "PUT", "HEAD", "DELETE"} {
				status, answer := p.raw(method, path, "x-ms-blob-type: BlockBlob\r\nContent-Length: 1\r\n", "x")
				if strings.Contains(answer, strings.TrimSpace(string(master))) {
					t.Fatalf("%s %s gives the master key", method, path)
				}
				if status >= 500 && status != 501 || status == 0 {
					t.Errorf("%s %s: %d %s", method, path, status, answer)
				}
			}
		}
	}
	if now, err := os.ReadFile(filepath.Join(data, "keys", "master.key")); err != nil || string(now) != string(master) {
		t.Errorf("the master key was changed: %v", err)
	}
	_ = filepath.WalkDir(filepath.Dir(data), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "master.key" && path != filepath.Join(data, "keys", "master.key") && !strings.HasPrefix(path, filepath.Join(data, "blobs")) {
			t.Errorf("%s was made", path)
		}
		return nil
	})
}

// raw sends a request exactly as it is written, and gives the status and the answer.
func (p *program) raw(method, path, headers, body string) (int, string) {
	p.t.Helper()
	c := p.dial()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: close\r\n%s\r\n%s", method, path, p.token, headers, body)
	if err != nil {
		p.t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	words := strings.SplitN(string(b), " ", 3)
	if len(words) < 3 {
		return 0, string(b)
	}
	status, _ := strconv.Atoi(words[1])
	return status, string(b)
}

func (p *program) dial() net.Conn {
	p.t.Helper()
	d := tls.Dialer{Config: p.trust()}
	c, err := d.DialContext(p.t.Context(), "tcp", p.addr())
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}
