package blob

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/api"
	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// everybody is an administrator.
type everybody struct{}

func (everybody) Authenticate(*http.Request) (workspace.Principal, error) {
	return workspace.Principal{Kind: "administrator"}, nil
}

func (everybody) CheckSignature(url.Values, string, string, string) error {
	return errors.New("nothing is signed")
}

// server is the blob service over a folder.
type server struct {
	t *testing.T
	h http.Handler
}

func newServer(t *testing.T) server {
	t.Helper()
	disk, err := store.NewDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return server{t, api.New(api.Config{Auth: everybody{}, Clock: clock.System(), Log: slog.New(slog.DiscardHandler)}, Routes(disk))}
}

// call makes a request for /container/… on a blob host. headers are names and values in turn.
func (s server) call(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://moorage.blob.localhost:8443"+target, strings.NewReader(body))
	r.Header.Set("x-ms-version", "2021-12-02")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

// want makes a request that must have a status, and its code if that is an error.
func (s server) want(status int, code, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	w := s.call(method, target, body, headers...)
	if w.Code != status || w.Header().Get("x-ms-error-code") != code {
		s.t.Fatalf("%s %s: %d %q, want %d %q: %s", method, target, w.Code, w.Header().Get("x-ms-error-code"), status, code, w.Body)
	}
	return w
}

func (s server) content(target, want string) {
	s.t.Helper()
	if got := s.want(200, "", "GET", target, "").Body.String(); got != want {
		s.t.Fatalf("%s holds %q, want %q", target, got, want)
	}
}

func TestAppendBlobsGrowAndSayWhere(t *testing.T) {
	s := newServer(t)
	s.want(404, "BlobNotFound", "PUT", "/logs/a?comp=appendblock", "early")
	s.want(201, "", "PUT", "/logs/a", "", "x-ms-blob-type", "AppendBlob", "Content-Type", "text/plain")
	for i, part := range []string{"one\n", "two\n", ""} {
		w := s.want(201, "", "PUT", "/logs/a?comp=appendblock", part)
		if got := w.Header().Get("x-ms-blob-append-offset"); got != strconv.Itoa(4*i) {
			t.Errorf("block %d went to %q, want %d", i, got, 4*i)
		}
		if got := w.Header().Get("x-ms-blob-committed-block-count"); got != strconv.Itoa(i+1) {
			t.Errorf("block %d is counted %q", i, got)
		}
	}
	s.content("/logs/a", "one\ntwo\n")
	h := s.want(200, "", "HEAD", "/logs/a", "").Header()
	if h.Get("x-ms-blob-type") != "AppendBlob" || h.Get("x-ms-blob-committed-block-count") != "3" || h.Get("Content-Type") != "text/plain" {
		t.Errorf("the blob says of itself %v", h)
	}
	s.want(412, "AppendPositionConditionNotMet", "PUT", "/logs/a?comp=appendblock", "x", "x-ms-blob-condition-appendpos", "4")
	s.want(201, "", "PUT", "/logs/a?comp=appendblock", "x", "x-ms-blob-condition-appendpos", "8")
	s.want(412, "MaxBlobSizeConditionNotMet", "PUT", "/logs/a?comp=appendblock", "x", "x-ms-blob-condition-maxsize", "9")
	s.want(200, "", "PUT", "/logs/a?comp=metadata", "", "x-ms-meta-k", "v")
	s.want(201, "", "PUT", "/logs/a?comp=appendblock", "y")
	s.content("/logs/a", "one\ntwo\nxy")
	s.want(201, "", "PUT", "/logs/b", "whole", "x-ms-blob-type", "BlockBlob")
	s.want(409, "InvalidBlobType", "PUT", "/logs/b?comp=appendblock", "more")
	if list := s.want(200, "", "GET", "/logs?restype=container&comp=list", "").Body.String(); strings.Count(list, "<BlobType>AppendBlob<") != 1 || strings.Count(list, "<BlobType>BlockBlob<") != 1 {
		t.Errorf("the list has other types: %s", list)
	}
	s.want(201, "", "PUT", "/logs/a", "", "x-ms-blob-type", "AppendBlob")
	s.content("/logs/a", "")
}

func TestAppendsAtTheSameTimeAllArrive(t *testing.T) {
	s := newServer(t)
	s.want(201, "", "PUT", "/logs/a", "", "x-ms-blob-type", "AppendBlob")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.call("PUT", "/logs/a?comp=appendblock", "12345") })
	}
	wg.Wait()
	s.content("/logs/a", strings.Repeat("12345", 20))
}

func id(n int) string { return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%02d", n)) }

func blocks(words ...string) string {
	var b strings.Builder
	b.WriteString("<?xml version='1.0' encoding='utf-8'?><BlockList>")
	for _, w := range words {
		kind, n, _ := strings.Cut(w, " ")
		number, _ := strconv.Atoi(n)
		b.WriteString("<" + kind + ">" + id(number) + "</" + kind + ">")
	}
	return b.String() + "</BlockList>"
}

func TestABlobIsMadeOfBlocksNewAndOld(t *testing.T) {
	s := newServer(t)
	put := func(n int, text string) {
		s.want(201, "", "PUT", "/c-1/m.bin?comp=block&blockid="+url.QueryEscape(id(n)), text)
	}
	commit := func(status int, code string, words ...string) {
		t.Helper()
		s.want(status, code, "PUT", "/c-1/m.bin?comp=blocklist", blocks(words...), "x-ms-blob-content-type", "application/x-m")
	}
	put(1, "one ")
	put(2, "two ")
	commit(400, "InvalidBlockList", "Latest 1", "Latest 3")
	commit(400, "InvalidBlockList", "Committed 1")
	commit(400, "InvalidBlockList", "Any 1")
	commit(201, "", "Latest 2", "Uncommitted 1")
	s.content("/c-1/m.bin", "two one ")
	put(3, "three ")
	put(1, "ONE ")
	commit(201, "", "Committed 1", "Latest 1", "Committed 2", "Latest 2", "Uncommitted 3")
	s.content("/c-1/m.bin", "one ONE two two three ")
	commit(400, "InvalidBlockList", "Uncommitted 3") // it waits no more
	put(9, "nine")
	var list listedBlocks
	w := s.want(200, "", "GET", "/c-1/m.bin?comp=blocklist&blocklisttype=all", "")
	if err := xml.Unmarshal(w.Body.Bytes(), &list); err != nil || len(*list.Committed) != 5 || len(*list.Uncommitted) != 1 || (*list.Uncommitted)[0] != (sizedBlock{id(9), 4}) {
		t.Fatalf("%v: %s", err, w.Body)
	}
	s.want(201, "", "PUT", "/c-1/m.bin", "whole", "x-ms-blob-type", "BlockBlob")
	commit(400, "InvalidBlockList", "Committed 1") // of the blob that was replaced
	s.content("/c-1/m.bin", "whole")
}

func TestBytesThatChangedOnTheWayAreNotKept(t *testing.T) {
	s := newServer(t)
	sum := md5.Sum([]byte("right"))
	header := base64.StdEncoding.EncodeToString(sum[:])
	w := s.want(201, "", "PUT", "/c-1/x", "right", "Content-MD5", header)
	if w.Header().Get("Content-MD5") != header {
		t.Error("the sum is not confirmed")
	}
	s.want(400, "Md5Mismatch", "PUT", "/c-1/x", "wrong", "Content-MD5", header)
	s.want(400, "InvalidMd5", "PUT", "/c-1/x", "right", "Content-MD5", "AAAA")
	s.content("/c-1/x", "right")
	s.want(400, "Md5Mismatch", "PUT", "/c-1/y?comp=block&blockid="+url.QueryEscape(id(1)), "wrong", "Content-MD5", header)
	s.want(400, "InvalidBlockList", "PUT", "/c-1/y?comp=blocklist", blocks("Latest 1"))
	s.want(201, "", "PUT", "/c-1/z", "", "x-ms-blob-type", "AppendBlob")
	s.want(400, "Md5Mismatch", "PUT", "/c-1/z?comp=appendblock", "wrong", "Content-MD5", header)
	s.content("/c-1/z", "")
}

func TestListsNameTheEndpointByWhichTheyWereAsked(t *testing.T) {
	s := newServer(t)
	s.want(201, "", "PUT", "/c-1/Models/größe%201.txt", "x")
	for target, want := range map[string]string{
		"/c-1?restype=container&comp=list":            `ServiceEndpoint="https://moorage.blob.localhost:8443/"`,
		"/blob/acct/c-1?restype=container&comp=list":  `ServiceEndpoint="https://moorage.blob.localhost:8443/"`,
		"/c-1?restype=container&comp=list&prefix=Mod": `<Name>Models/größe 1.txt</Name>`,
	} {
		if got := s.want(200, "", "GET", target, "").Body.String(); !strings.Contains(got, want) {
			t.Errorf("%s lacks %s: %s", target, want, got)
		}
	}
	s.want(200, "", "HEAD", "/c-1?restype=container&comp=metadata", "")
	s.want(201, "", "PUT", "/new-one?restype=container", "")
}

func TestOtherTypesOfBlobsAreNotPretended(t *testing.T) {
	s := newServer(t)
	s.want(501, "NotImplemented", "PUT", "/c-1/x", "", "x-ms-blob-type", "PageBlob")
	s.want(501, "NotImplemented", "PUT", "/c-1/x?comp=lease", "")
	s.want(501, "NotImplemented", "GET", "/c-1/x?comp=tags", "")
	if b, _ := io.ReadAll(s.call("GET", "/c-1/x", "").Body); !strings.Contains(string(b), "BlobNotFound") {
		t.Errorf("the error says %s", b)
	}
}
