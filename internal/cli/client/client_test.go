package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestErrorsOfTheServerAreProblems(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   workspace.Problem
	}{
		{
			409, `{"error":{"code":"SnapshotMissing","message":"it is not here: no object. Upload it","cause":"no object","mend":"upload it","target":"codeId"}}`,
			workspace.Problem{Class: workspace.Conflict, Code: "SnapshotMissing", Message: "it is not here", Cause: "no object", Mend: "upload it", Target: "codeId"},
		},
		{
			400, `{"error":{"code":"Bad","message":"two things","details":[{"code":"a","message":"first"},{"code":"b","message":"second"}]}}`,
			workspace.Problem{Class: workspace.Invalid, Code: "Bad", Message: "two things", Cause: "first; second"},
		},
		{401, `{}`, workspace.Problem{Class: workspace.Unauthenticated, Code: "Unauthorized", Message: "HOST answered 401 Unauthorized", Cause: "{}", Mend: `take the administrator's token: eval "$(moorage env --data DIR)"`}},
		{503, `busy`, workspace.Problem{Class: workspace.Unavailable, Code: "ServiceUnavailable", Message: "HOST answered 503 Service Unavailable", Cause: "busy"}},
		{500, strings.Repeat("x", 1000), workspace.Problem{Code: "InternalServerError", Message: "HOST answered 500 Internal Server Error"}},
	} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		err := c.CancelJob(t.Context(), "j")
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok {
			t.Fatalf("%v", err)
		}
		p.Message = strings.ReplaceAll(p.Message, strings.TrimPrefix(c.URL(), "https://"), "HOST")
		if *p != tc.want {
			t.Errorf("got  %+v\nwant %+v", *p, tc.want)
		}
	}
}

func TestTokenGoesToNoOtherServer(t *testing.T) {
	var seen atomic.Value
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen.Store(r.Header.Get("Authorization")) }))
	c := serve(t, http.NotFoundHandler())
	c.http = other.http
	if err := c.Fetch(t.Context(), other.URL()+"/file", 0, func(int64) (io.Writer, error) { return io.Discard, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(t.Context(), http.MethodGet, other.URL()+"/x", nil, ""); err != nil {
		t.Fatal(err)
	}
	if seen.Load() != "" {
		t.Errorf("the other server got %v", seen.Load())
	}
}

// A submission that breaks in the middle is repeated: the same name again starts nothing twice.
func TestSubmissionIsRepeatedWhenTheConnectionBreaks(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			cutConnection()
		}
		w.WriteHeader(http.StatusCreated)
	}))
	if err := c.PutJob(t.Context(), "j", map[string]any{}); err != nil || calls.Load() != 3 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	calls.Store(0)
	if err := c.CancelJob(t.Context(), "j"); !Lost(err) || calls.Load() != 1 {
		t.Errorf("a POST: %v after %d calls", err, calls.Load())
	}
}

// cutConnection ends a handler with its connection, as a server that dies does.
func cutConnection() {
	panic(http.ErrAbortHandler)
}

// keep is a server's side of an upload, in memory.
type keep struct {
	mu      sync.Mutex
	objects map[snapshot.Hash]int
	order   []snapshot.Hash
	posts   int
	failAt  int // the post with this number is cut
}

func (k *keep) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/missing") {
		text, _ := io.ReadAll(r.Body)
		var missing []string
		k.mu.Lock()
		for _, h := range strings.FieldsFunc(string(text), func(c rune) bool { return c == '"' || c == ',' }) {
			if hash := snapshot.Hash(h); hash.Valid() && k.objects[hash] == 0 {
				missing = append(missing, `"`+h+`"`)
			}
		}
		k.mu.Unlock()
		fmt.Fprintf(w, `{"missing":[%s]}`, strings.Join(missing, ","))
		return
	}
	k.mu.Lock()
	k.posts++
	cut := k.posts == k.failAt
	k.mu.Unlock()
	if cut {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		cutConnection()
	}
	z, err := zstd.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	for err == nil && len(text) > 0 {
		var hash snapshot.Hash
		var size int
		head, rest, _ := bytes.Cut(text, []byte("\n"))
		if _, err = fmt.Sscanf(string(head), "%s %d", &hash, &size); err == nil && snapshot.Sum(rest[:size]) != hash {
			err = errors.New("wrong hash")
		}
		if err == nil {
			k.mu.Lock()
			k.objects[hash]++
			k.order = append(k.order, hash)
			k.mu.Unlock()
			text = rest[size:]
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func objectsOf(n, size int) (objects []Object, total int64) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		text := make([]byte, size)
		for j := range text {
			text[j] = byte(r.Uint32())
		}
		name := fmt.Sprint("f", i)
		if i == n-1 {
			name = "" // a tree
		}
		objects = append(objects, Object{Hash: snapshot.Sum(text), Size: int64(size), Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }})
		total += int64(size)
	}
	return objects, total
}

func TestUploadSendsEveryObjectOnceAndTreesLast(t *testing.T) {
	for _, size := range []int{10, 300_000} { // in one request, and in several
		k := &keep{objects: map[snapshot.Hash]int{}}
		c := serve(t, k)
		objects, total := objectsOf(40, size)
		var announced, sent atomic.Int64
		err := c.Upload(t.Context(), "", objects, func(n int64) { announced.Store(n) }, func(n int64) { sent.Add(n) })
		if err != nil || announced.Load() != total || sent.Load() != total {
			t.Fatalf("%v: announced %d, sent %d of %d", err, announced.Load(), sent.Load(), total)
		}
		for _, o := range objects {
			if k.objects[o.Hash] != 1 {
				t.Errorf("%s came %d times", o.Name, k.objects[o.Hash])
			}
		}
		if last := k.order[len(k.order)-1]; last != objects[39].Hash {
			t.Errorf("the tree is not last")
		}
		posts := k.posts
		if err := c.Upload(t.Context(), "", objects, func(int64) {}, func(int64) {}); err != nil || k.posts > posts+1 {
			t.Errorf("again: %v, %d posts more", err, k.posts-posts)
		}
	}
}

func TestUploadGoesOnAfterABrokenConnection(t *testing.T) {
	k := &keep{objects: map[snapshot.Hash]int{}, failAt: 2}
	c := serve(t, k)
	objects, _ := objectsOf(40, 300_000)
	if err := c.Upload(t.Context(), "", objects, func(int64) {}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if k.objects[o.Hash] == 0 {
			t.Errorf("%s is missing", o.Name)
		}
	}
}

func TestFileThatChangedWhileUploadingIsNamed(t *testing.T) {
	for cause, text := range map[string]string{"it became shorter": "12", "its content changed": "54321"} {
		k := &keep{objects: map[snapshot.Hash]int{}}
		c := serve(t, k)
		o := Object{Hash: snapshot.Sum([]byte("12345")), Size: 5, Name: "f", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
		err := c.Upload(t.Context(), o.Hash, []Object{o}, func(int64) {}, func(int64) {})
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Code != Changed || p.Cause != cause || len(k.objects) > 0 {
			t.Errorf("%v, %d objects stored", err, len(k.objects))
		}
	}
}

func TestLogGivesTheOffsetAlsoWithAnError(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Moorage-Log-From", r.URL.Query().Get("from"))
		_, _ = io.WriteString(w, "abc")
		w.(http.Flusher).Flush()
		cutConnection()
	}))
	var b bytes.Buffer
	next, err := c.Log(t.Context(), "j", "", 7, true, &b)
	if next != 10 || !Lost(err) || !Broken(err) || b.String() != "abc" {
		t.Errorf("%d, %v, %q", next, err, b.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Log(ctx, "j", "", 0, true, &b); !errors.Is(err, context.Canceled) || Lost(err) {
		t.Errorf("canceled: %v", err)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add("event: state\ndata: {\"state\":\"Running\"}\n\n")
	f.Add("data: {\ndata: }\n\nevent: x\n: comment\ndata: 1\n\n")
	var text atomic.Value
	text.Store("")
	c := serve(f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text.Load().(string)) }))
	f.Fuzz(func(t *testing.T, s string) {
		text.Store(s)
		_ = c.Events(t.Context(), "j", func(j *Job) {
			if j.State == "" {
				t.Error("a job without a state")
			}
		})
	})
}
