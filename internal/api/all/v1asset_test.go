package all

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/authn"
)

// The bases of Azure's data-plane services for azureml-core.
const (
	artifacts = "/artifact/v2.0" + wsPath + "/artifacts"
	mms       = "/modelmanagement/v1.0" + wsPath
	stores    = "/datastore/v1.0" + wsPath
	dsets     = "/dataset/v1.0" + wsPath
)

// text digs for text.
func (a answer) text(path string) string {
	a.t.Helper()
	s, ok := a.get(path).(string)
	if !ok {
		a.t.Fatalf("%s is no text in %s", path, a.Body)
	}
	return s
}

// requoted is a URL as azureml-core writes it when it uploads: the path quoted once more (azureml-v1.md §20).
func requoted(t *testing.T, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	must(t, err)
	return u.Scheme + "://" + u.Host + strings.ReplaceAll(u.EscapedPath(), "%", "%25") + "?" + u.RawQuery
}

// upload announces an artifact and sends it, as azureml-core does.
func (s *server) upload(origin, container, path, content string, options ...option) {
	s.t.Helper()
	a := s.call("POST", artifacts+"/batch/metadata/"+origin+"/"+container, map[string]any{"paths": []map[string]string{{"path": path}}}, options...).want(200)
	info, _ := a.get("artifactContentInformation").(map[string]any)
	one, _ := info[path].(map[string]any)
	link, _ := one["contentUri"].(string)
	if !strings.HasPrefix(link, "https://moorage.blob.localhost:8443/") {
		s.t.Fatalf("uploads go to %q", link)
	}
	s.call("PUT", requoted(s.t, link), content, as(""), header("x-ms-version", "2021-12-02"), header("x-ms-blob-type", "BlockBlob")).want(201)
	s.call("HEAD", requoted(s.t, link), nil, as(""), header("x-ms-version", "2021-12-02")).want(200)
}

// jobCredential submits a job and gives the way of its credential.
func (s *server) jobCredential(name string) option {
	s.t.Helper()
	s.call("PUT", wsPath+"/jobs/"+name, map[string]any{"properties": map[string]any{"jobType": "Command", "command": "true"}}).want(201)
	job, err := s.control.Job(s.t.Context(), s.auth.Administrator(), s.ws, name)
	must(s.t, err)
	secret := s.auth.JobSecret(job.ID, job.Attempt).Reveal()
	return func(r *http.Request) {
		as(secret)(r)
		*r = *r.WithContext(authn.WithWayBack(r.Context(), job.ID, job.Attempt))
	}
}

// paths are those of a list of artifacts.
func paths(a answer) []string {
	list, _ := a.get("value").([]any)
	var out []string
	for _, v := range list {
		one, _ := v.(map[string]any)
		p, _ := one["path"].(string)
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func TestArtifactsOfAnyNameGoUpAndComeBack(t *testing.T) {
	s := newServer(t)
	names := []string{"m/100%.txt", "m/a b+c.png", "m/a%20b", "m/deep/größe.txt", "mm"}
	for _, n := range names {
		s.upload("LocalUpload", "stamp-1", n, "content of "+n)
	}
	if got := paths(s.call("GET", artifacts+"/LocalUpload/stamp-1", nil).want(200)); !slices.Equal(got, names) {
		t.Errorf("the list has %q", got)
	}
	for prefix, want := range map[string][]string{"m": names[:4], "m/": names[:4], "m/deep": names[3:4], "mm": names[4:], "none": nil, "m%2Fdeep%2F%2F": names[3:4]} {
		a := s.call("GET", artifacts+"/prefix/contentinfo/LocalUpload/stamp-1/"+prefix, nil).want(200)
		if got := paths(a); !slices.Equal(got, want) {
			t.Errorf("below %s are %q, want %q", prefix, got, want)
		}
	}
	for _, n := range names {
		link := s.call("GET", artifacts+"/contentinfo/LocalUpload/stamp-1/"+url.PathEscape(n), nil).want(200).text("contentUri")
		if got := s.call("GET", link, nil, as("")).want(200).Body.String(); got != "content of "+n {
			t.Errorf("%s holds %q", n, got)
		}
		s.call("PUT", link, "other", as("")).want(403) // it is for reading
	}
	s.call("GET", artifacts+"/contentinfo/LocalUpload/stamp-1/none", nil).want(404)
	s.call("GET", artifacts+"/metadata/LocalUpload/stamp-1/mm", nil).want(200).has(map[string]any{"artifactId": "LocalUpload/stamp-1/mm"})
	// A new URL for what is appended to.
	link := s.call("GET", artifacts+"/write/LocalUpload/stamp-1/log%201.txt", nil).want(200).text("contentUri")
	s.call("PUT", requoted(t, link), nil, as(""), header("x-ms-blob-type", "AppendBlob")).want(201)
	s.call("PUT", requoted(t, link)+"&comp=appendblock", "line\n", as("")).want(201)
}

func TestListsOfArtifactsHavePages(t *testing.T) {
	s := newServer(t)
	const many = 1003
	for i := range many {
		_, err := s.blobs.Put(t.Context(), "c/azureml-artifacts-"+s.ws.ID+"/LocalUpload/x/f/"+strings.Repeat("a", i+1)[:1]+string(rune('a'+i%26))+strings.Repeat("b", i/26), strings.NewReader(""), 0, blobMeta)
		must(t, err)
	}
	seen := map[string]bool{}
	query := ""
	for pages := 0; ; pages++ {
		a := s.call("GET", artifacts+"/LocalUpload/x"+query, nil).want(200)
		for _, p := range paths(a) {
			seen[p] = true
		}
		token, more := a.get("continuationToken").(string)
		if !more {
			if pages != 1 || len(seen) != many {
				t.Errorf("%d pages with %d names", pages+1, len(seen))
			}
			break
		}
		query = "?continuationToken=" + url.QueryEscape(token)
	}
	s.call("GET", artifacts+"/LocalUpload/x?continuationToken=bad", nil).want(400)
}

func TestNamesThatAreNoArtifactAreRefused(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"../x", "a/../../x", "/etc/passwd", "a//b", `a\..\b`, "%2e%2e/x", ""} {
		s.call("POST", artifacts+"/batch/metadata/LocalUpload/s", map[string]any{"paths": []map[string]string{{"path": path}}}).want(400)
	}
	for _, at := range []string{"ExperimentRun/train1", "Local.Upload/s", "LocalUpload/-s"} {
		s.call("POST", artifacts+"/batch/metadata/"+at, map[string]any{"paths": []map[string]string{{"path": "x"}}}).want(400)
	}
	s.call("POST", artifacts+"/batch/metadata/ExperimentRun/dcid.nothing", map[string]any{"paths": []map[string]string{{"path": "x"}}}).want(404)
	a := s.call("POST", artifacts+"/batch/metadata/LocalUpload/s", map[string]any{"paths": make([]struct{}, 1001)}).want(413)
	if !strings.Contains(a.Body.String(), `"details":[]`) {
		t.Errorf("the error lacks details: %s", a.Body)
	}
}

func TestJobsReachTheirOwnArtifacts(t *testing.T) {
	s := newServer(t)
	mine := s.jobCredential("mine")
	s.jobCredential("theirs")
	batch := map[string]any{"paths": []map[string]string{{"path": "outputs/x"}}}
	s.upload("ExperimentRun", "dcid.theirs", "outputs/x", "theirs")
	s.upload("ExperimentRun", "dcid.mine", "outputs/x", "mine", mine)
	s.upload("LocalUpload", "stamp-2", "m.pkl", "by the job", mine)
	for _, tt := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "/ExperimentRun/dcid.mine", nil, 200},
		{"GET", "/ExperimentRun/dcid.theirs", nil, 403},
		{"GET", "/contentinfo/ExperimentRun/dcid.theirs/outputs/x", nil, 403},
		{"GET", "/prefix/contentinfo/ExperimentRun/dcid.theirs/outputs", nil, 403},
		{"GET", "/write/ExperimentRun/dcid.theirs/outputs/y", nil, 403},
		{"POST", "/batch/metadata/ExperimentRun/dcid.theirs", batch, 403},
		{"GET", "/contentinfo/LocalUpload/stamp-2/m.pkl", nil, 200},
		{"GET", "/write/LocalUpload/stamp-2/m.pkl", nil, 403}, // it is there, and may be a model
	} {
		if a := s.call(tt.method, artifacts+tt.path, tt.body, mine); a.Code != tt.status {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, a.Code, tt.status, a.Body)
		}
	}
	// A model is for all, whichever run's files it is made of; but no job makes one of another's.
	asset := map[string]any{"name": "m", "artifacts": []map[string]string{{"prefix": "ExperimentRun/dcid.theirs/outputs/x"}}}
	s.call("POST", mms+"/assets", asset, mine).want(403)
	id := s.call("POST", mms+"/assets", asset).want(200).text("id")
	s.call("POST", mms+"/models", map[string]any{"name": "m", "url": "aml://asset/" + id, "mimeType": "x/y"}).want(200)
	s.call("GET", mms+"/models/m:1", nil, mine).want(200)
	s.call("GET", mms+"/assets/"+id, nil, mine).want(200)
	if got := paths(s.call("GET", artifacts+"/prefix/contentinfo/ExperimentRun/dcid.theirs/outputs/x", nil, mine).want(200)); !slices.Equal(got, []string{"outputs/x"}) {
		t.Errorf("the job finds %q of the model", got)
	}
	s.call("GET", artifacts+"/prefix/contentinfo/ExperimentRun/dcid.theirs/outputs", nil, mine).want(403)
	s.call("PATCH", mms+"/models/m:1", []any{}, mine).want(403)
	s.call("DELETE", mms+"/models/m:1", nil, mine).want(403)
	own := s.call("POST", mms+"/assets", map[string]any{"name": "o", "artifacts": []map[string]string{{"prefix": "ExperimentRun/dcid.mine/outputs/x"}}, "runid": "mine"}, mine).want(200).text("id")
	s.call("POST", mms+"/models", map[string]any{"name": "o", "url": "aml://asset/" + own, "mimeType": "x/y"}, mine).want(200)
}
