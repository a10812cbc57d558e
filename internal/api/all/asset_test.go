package all

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

func TestCodeUploadBecomesASnapshotThatIsFoundAgain(t *testing.T) {
	s := newServer(t)
	const hash, code = "0123abcd", "/codes/aaaa-bbbb/versions"
	s.call("GET", wsPath+code+"?hash="+hash+"&hashVersion=202208", nil).want(200).has(map[string]any{"value.0": nil})
	up := s.call("POST", wsPath+code+"/1/startPendingUpload", map[string]string{"pendingUploadType": "TemporaryBlobReference"}).want(200)
	up.has(map[string]any{"pendingUploadType": "TemporaryBlobReference", "blobReferenceForConsumption.credential.credentialType": "SAS"})
	sas := s.path(up.get("blobReferenceForConsumption.credential.sasUri"))
	place, query, _ := strings.Cut(sas, "?")
	for name, content := range map[string]string{"train.py": "print(1)\n", "lib/a%20b.py": "", "lib/%C3%BC.py": "x"} {
		s.call("HEAD", place+"/src/"+name+"?"+query, nil, as("")).want(404)
		s.call("PUT", place+"/src/"+name+"?"+query, content, as(""), header("x-ms-blob-type", "BlockBlob")).want(201)
	}
	s.call("PUT", place+"/src/train.py?comp=metadata&"+query, nil, as(""), header("x-ms-meta-upload_status", "completed")).want(200)
	s.call("DELETE", place+"/src/train.py?"+query, nil, as("")).want(403) // it was not signed
	body := map[string]any{"properties": map[string]any{
		"codeUri": "https://box.example:8443" + place + "/src", "isAnonymous": true, "description": nil, "properties": map[string]any{"hash_sha256": hash, "hash_version": 202208},
	}}
	s.call("PUT", wsPath+code+"/1", body).want(201).has(map[string]any{"name": "1", "properties.properties.hash_sha256": hash, "moorageSnapshot": nil})
	s.call("PUT", wsPath+code+"/1", body).want(200)
	// Another name finds it by the hash, and so needs no upload.
	found := s.call("GET", wsPath+"/codes/other-name/versions?hash="+hash+"&hashVersion=202208", nil).want(200)
	found.has(map[string]any{"value.0.id": wsPath + "/codes/aaaa-bbbb/versions/1"})
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"codeId": found.get("value.0.id")})).want(201)
	job, err := s.store.Job(t.Context(), s.ws.ID, "j1")
	must(t, err)
	lib := snapshot.Tree{
		{Name: "a b.py", Kind: snapshot.File, Hash: snapshot.Sum(nil)},
		{Name: "ü.py", Kind: snapshot.File, Size: 1, Hash: snapshot.Sum([]byte("x"))},
	}
	root := snapshot.Tree{
		{Name: "lib", Kind: snapshot.Folder, Hash: snapshot.Sum(lib.Encode())},
		{Name: "train.py", Kind: snapshot.File, Size: 9, Hash: snapshot.Sum([]byte("print(1)\n"))},
	}
	if want := string(snapshot.Sum(root.Encode())); !strings.Contains(string(job.Spec), want) {
		t.Errorf("the job's code is not the snapshot %s: %s", want, job.Spec)
	}
	// The upload itself is gone: its bytes are in the snapshot.
	if list := s.call("GET", place+"?restype=container&comp=list", nil).want(200); strings.Contains(list.Body.String(), "<Blob>") {
		t.Errorf("the upload is still there: %s", list.Body)
	}
}

func TestCodeOutsideOfUploadsIsRefused(t *testing.T) {
	s := newServer(t)
	for _, uri := range []string{"https://box.example:8443/blob/acct/azureml-blobstore-of-another/src", "https://elsewhere/x", "file:///etc", "", "https://box.example:8443/blob/acct/code-01jzzzzzzzzzzzzzzzzzzzzzzz/nothing"} {
		s.call("PUT", wsPath+"/codes/c/versions/1", map[string]any{"properties": map[string]any{"codeUri": uri}}).want(400)
	}
}

func TestSnapshotsAreUploadedByHash(t *testing.T) {
	s := newServer(t)
	base := "/native/v1" + wsPath + "/snapshots/"
	content := []byte("print(1)\n")
	tree := snapshot.Tree{{Name: "a.py", Kind: snapshot.File, Size: int64(len(content)), Hash: snapshot.Sum(content)}}.Encode()
	root := snapshot.Sum(tree)
	ask := map[string]any{"root": root, "hashes": []snapshot.Hash{snapshot.Sum(content)}}
	s.call("POST", base+"missing", ask).want(200).has(map[string]any{"missing.2": nil, "missing.1": string(root)})
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"codeId": wsPath + "/codes/" + string(root) + "/versions/1"})).want(409)
	records := func(parts ...[]byte) []byte {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b)
		must(t, err)
		for _, p := range parts {
			_, err := fmt.Fprintf(z, "%s %d\n%s", snapshot.Sum(p), len(p), p)
			must(t, err)
		}
		must(t, z.Close())
		return b.Bytes()
	}
	s.call("POST", base+"objects", records(content, tree)).want(200).has(map[string]any{"stored": 2.0})
	s.call("POST", base+"missing", ask).want(200).has(map[string]any{"missing.0": nil})
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"codeId": wsPath + "/codes/" + string(root) + "/versions/1"})).want(201)
	s.call("POST", base+"objects", "this is not zstd").want(400)
	whole := records(content)
	s.call("POST", base+"objects", whole[:len(whole)-3]).want(400)
	s.call("POST", base+"missing", map[string]any{"hashes": []string{"../../etc"}}).want(400).has(map[string]any{"error.code": "InvalidHash"})
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	_, err = fmt.Fprintf(z, "%s 3\nabc", snapshot.Sum([]byte("abd")))
	must(t, err)
	must(t, z.Close())
	if a := s.call("POST", base+"objects", b.Bytes()); a.Code < 400 || a.Code >= 500 {
		t.Errorf("bytes that are not what their hash says: %d %s", a.Code, a.Body)
	}
}

func TestVersionsNextAndLatest(t *testing.T) {
	s := newServer(t)
	env := func(image, description string) map[string]any {
		return map[string]any{"properties": map[string]any{"image": image, "condaFile": nil, "description": description, "isAnonymous": false}}
	}
	e := wsPath + "/environments/e1"
	s.call("GET", e, nil).want(404)
	s.call("PUT", e+"/versions/1", env("python:3.11", "one")).want(201).has(map[string]any{"properties.image": "python:3.11", "properties.condaFile": nil, "name": "1"})
	s.call("PUT", e+"/versions/2", env("python:3.12", "")).want(201)
	s.call("PUT", e+"/versions/1", env("python:3.11", "again")).want(200).has(map[string]any{"properties.description": "again"})
	s.call("PUT", e+"/versions/1", env("python:3.13", "")).want(409).has(map[string]any{"error.code": "VersionExists"})
	s.call("GET", e, nil).want(200).has(map[string]any{"properties.latestVersion": "2", "properties.nextVersion": "3"})
	s.call("GET", e+"/versions?$top=1&$orderBy=createdtime%20desc", nil).want(200).has(map[string]any{"value.0.name": "2", "value.1": nil})
	archived := env("python:3.12", "")
	archived["properties"].(map[string]any)["isArchived"] = true
	s.call("PUT", e+"/versions/2", archived).want(200)
	s.call("GET", e+"/versions", nil).want(200).has(map[string]any{"value.0.name": "1", "value.1": nil})
	s.call("GET", wsPath+"/environments", nil).want(200).has(map[string]any{"value.0.name": "e1"})
	s.call("PUT", e, map[string]any{"properties": map[string]any{"isArchived": true, "description": "all of it"}}).want(201).has(map[string]any{"properties.nextVersion": "3", "properties.description": "all of it"})
	s.call("GET", wsPath+"/environments", nil).want(200).has(map[string]any{"value.0": nil})
	s.call("DELETE", e+"/versions/1", nil).want(200)
	s.call("DELETE", e+"/versions/1", nil).want(204)
	s.call("PUT", wsPath+"/models/m/versions/1", map[string]any{"properties": map[string]any{"modelUri": "azureml://x", "modelType": "custom_model"}}).want(201)
	if a := s.call("GET", wsPath+"/models/m/versions/1", nil).want(200); a.get("properties.flavors") == nil {
		t.Errorf("flavors is missing, which breaks the client: %s", a.Body)
	}
	s.call("PUT", wsPath+"/environments/..%2Fx/versions/1", env("i", "")).want(400)
}

func TestDatastoresNameThisServerAsTheirAccount(t *testing.T) {
	s := newServer(t)
	a := s.call("GET", wsPath+"/datastores?isDefault=true", nil).want(200)
	a.has(map[string]any{
		"value.0.name": "workspaceblobstore", "value.0.properties.accountName": "box.example:8443/blob/acct", "value.0.properties.containerName": "azureml-blobstore-" + s.ws.ID,
		"value.0.properties.credentials.credentialsType": "None", "value.0.properties.isDefault": true, "value.1": nil,
	})
	s.call("GET", wsPath+"/datastores/workspaceartifactstore", nil).want(200)
	s.call("GET", wsPath+"/datastores/mine", nil).want(404)
	s.call("PUT", wsPath+"/datastores/mine", map[string]any{}).want(501)
	token := s.call("POST", wsPath+"/datastores/workspaceblobstore/listSecrets", map[string]any{"expirableSecret": true}).want(200).get("sasToken").(string)
	// The client puts the name of the account before ".blob.<suffix>" and keeps the path.
	s.call("PUT", "/blob/acct.blob.core.moorage.local/azureml-blobstore-"+s.ws.ID+"/x.txt?"+token, "hi", as(""), header("x-ms-blob-type", "BlockBlob")).want(201)
	s.call("GET", "/blob/acct/azureml-artifacts-"+s.ws.ID+"/x.txt?"+token, nil, as("")).want(401)
}

func TestBlobs(t *testing.T) {
	s := newServer(t)
	c := "/blob/acct/box-of-things"
	s.call("PUT", c+"?restype=container", nil).want(201)
	s.call("HEAD", c+"?restype=container", nil).want(200)
	put := s.call("PUT", c+"/a/b%20c.txt", "hello world", header("x-ms-blob-type", "BlockBlob"), header("x-ms-meta-Name", "x"), header("x-ms-version", "2025-01-05")).want(201)
	etag := put.Header().Get("ETag")
	if !strings.HasPrefix(etag, `"`) || put.Header().Get("Last-Modified") == "" || put.Header().Get("x-ms-version") != "2025-01-05" || put.Header().Get("x-ms-request-id") == "" {
		t.Errorf("headers of PUT: %v", put.Header())
	}
	head := s.call("HEAD", c+"/a/b%20c.txt", nil).want(200)
	if h := head.Header(); h.Get("Content-Length") != "11" || h.Get("x-ms-blob-type") != "BlockBlob" || h.Get("ETag") != etag || head.Body.Len() != 0 {
		t.Errorf("headers of HEAD: %v", h)
	}
	if text := fmt.Sprint(head.Header()); !strings.Contains(text, "x-ms-meta-name:[x]") {
		t.Errorf("the client takes the metadata's names as they are written, which is small letters: %s", text)
	}
	for _, tt := range []struct {
		header, value string
		status        int
		body, place   string
	}{
		{"x-ms-range", "bytes=0-4", 206, "hello", "bytes 0-4/11"},
		{"Range", "bytes=6-", 206, "world", "bytes 6-10/11"},
		{"Range", "bytes=6-999", 206, "world", "bytes 6-10/11"},
		{"Range", "bytes=-3", 206, "rld", "bytes 8-10/11"},
		{"Range", "chapters=1", 200, "hello world", ""},
		{"Range", "bytes=11-", 416, "InvalidRange", "bytes */11"},
		{"If-Match", etag, 200, "hello world", ""},
		{"If-Match", `"other"`, 412, "ConditionNotMet", ""},
		{"If-None-Match", etag, 304, "", ""},
	} {
		a := s.call("GET", c+"/a/b%20c.txt", nil, header(tt.header, tt.value)).want(tt.status)
		if !strings.Contains(a.Body.String(), tt.body) || a.Header().Get("Content-Range") != tt.place && tt.place != "" {
			t.Errorf("%s: %s: %q %v", tt.header, tt.value, a.Body, a.Header())
		}
	}
	s.call("PUT", c+"/a/b%20c.txt", "no", header("If-None-Match", "*")).want(409)
	s.call("PUT", c+"/a/b%20c.txt?comp=metadata", nil, header("x-ms-meta-k", "v")).want(200)
	s.call("PUT", c+"/a/sub/x%26y.txt", "").want(201)
	s.call("PUT", c+"/z.txt", "z").want(201)
	list := s.call("GET", c+"?restype=container&comp=list&prefix=a/&delimiter=/&include=metadata", nil).want(200).Body.String()
	for _, want := range []string{"<Name>a/b c.txt</Name>", "<k>v</k>", "<BlobPrefix><Name>a/sub/</Name></BlobPrefix>", "<NextMarker></NextMarker>", `ContainerName="box-of-things"`, "<Content-Length>11</Content-Length>"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %s: %s", want, list)
		}
	}
	var names []string
	for marker := ""; ; {
		page := s.call("GET", c+"?restype=container&comp=list&maxresults=1&marker="+url.QueryEscape(marker), nil).want(200).Body.String()
		if _, rest, ok := strings.Cut(page, "<Name>"); ok {
			name, _, _ := strings.Cut(rest, "</Name>")
			names = append(names, name)
		}
		_, rest, _ := strings.Cut(page, "<NextMarker>")
		if marker, _, _ = strings.Cut(rest, "</NextMarker>"); marker == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "a/b c.txt a/sub/x&amp;y.txt z.txt" {
		t.Errorf("pages gave %s", got)
	}
	s.call("DELETE", c+"/z.txt", nil).want(202)
	gone := s.call("HEAD", c+"/z.txt", nil).want(404)
	if gone.Header().Get("x-ms-error-code") != "BlobNotFound" || gone.Body.Len() != 0 {
		t.Errorf("HEAD of nothing: %v %s", gone.Header(), gone.Body)
	}
	s.call("PUT", "/blob/acct/Bad_Name/x", "x").want(400)
	s.call("PUT", c+"/x%5C..%5Cy", "x").want(400)
	s.call("PUT", c+"/%2e%2e/%2e%2e/etc", "x").want(400)
	s.call("PUT", c+"/copy", nil, header("x-ms-copy-source", "https://x")).want(501)
	s.call("PUT", c+"/page", "x", header("x-ms-blob-type", "PageBlob")).want(501)
}

func TestBlocksBecomeABlobInTheOrderOfTheirList(t *testing.T) {
	s := newServer(t)
	b := "/blob/acct/box-of-things/big.bin"
	id := func(i int) string { return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%03d", i)) }
	for i, text := range []string{"one ", "two ", "three"} {
		s.call("PUT", b+"?comp=block&blockid="+url.QueryEscape(id(i)), text).want(201)
	}
	s.call("GET", b, nil).want(404) // until the list comes
	xml := func(ids ...string) string {
		return "<?xml version='1.0' encoding='utf-8'?><BlockList><Latest>" + strings.Join(ids, "</Latest><Latest>") + "</Latest></BlockList>"
	}
	s.call("PUT", b+"?comp=blocklist", xml(id(0), id(9))).want(400)
	s.call("PUT", b+"?comp=blocklist", xml(id(2), id(0), id(1)), header("x-ms-meta-a", "b"), header("x-ms-blob-content-type", "text/plain")).want(201)
	got := s.call("GET", b, nil).want(200)
	if got.Body.String() != "threeone two " || got.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("the blob is %q, %v", got.Body, got.Header())
	}
	s.call("PUT", b+"?comp=blocklist", strings.ReplaceAll(xml(id(0)), "Latest", "Uncommitted")).want(400) // it waits no more
	s.call("PUT", b+"?comp=blocklist", "<BlockList><Latest>").want(400)
	s.call("PUT", b+"?comp=block&blockid=%21", "x").want(400)
}
