package api

import (
	"net/http"
	"net/url"
	"strings"
)

// folder writes the fixed segments of an ARM path as the route table spells them, because ARM compares them without
// regard to case. Names stay as they are. Segments alternate: subscriptions/NAME/resourceGroups/NAME/providers/….
type folder map[string]string // lower case → as in the table

// fold gives the path (escaped) as the table spells it. Below a prefix such as /history/v1.0 only the workspace's path is
// ARM's; a path without one, such as a blob's or an image's, stays as it is.
func (f folder) fold(path string) string {
	segments := strings.Split(path, "/")
	first := 1
	for first < len(segments) && first < 4 && !strings.EqualFold(segments[first], "subscriptions") {
		first++
	}
	if first == len(segments) || !strings.EqualFold(segments[first], "subscriptions") || strings.HasPrefix(path, blobPrefix) || strings.HasPrefix(path, registryPrefix) {
		return path
	}
	for i := first; i < len(segments); i++ {
		n := i - first // 0 subscriptions, 5 the provider, 7 the workspace's name
		if n > 7 && first > 1 {
			break
		}
		if as, known := f[strings.ToLower(segments[i])]; known && (n%2 == 0 || n == 5) {
			segments[i] = as
		}
	}
	return strings.Join(segments, "/")
}

// registryPrefix is where the image registry lies; names of images may be any words.
const registryPrefix = "/v2/"

// learn takes the fixed segments of an ARM pattern.
func (f folder) learn(pattern string) {
	_, arm, found := strings.Cut(pattern, "/subscriptions/")
	if !found {
		return
	}
	for segment := range strings.SplitSeq("subscriptions/"+arm, "/") {
		if segment != "" && segment[0] != '{' {
			f[strings.ToLower(segment)] = segment
		}
	}
}

// request gives the request with a folded path.
func (f folder) request(r *http.Request) *http.Request {
	path := r.URL.EscapedPath()
	if folded := f.fold(path); folded != path {
		return withPath(r, folded)
	}
	return r
}

// tidy gives the request without doubled or trailing slashes in its path (azureml-v1.md §2). A path that climbs ("..") or
// holds a zero byte is refused: ok is false.
func tidy(r *http.Request) (out *http.Request, ok bool) {
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		if segment == ".." || segment == "." || strings.ContainsRune(segment, 0) {
			return r, false
		}
	}
	path := r.URL.EscapedPath()
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if _, err := url.PathUnescape(path); err != nil || !strings.HasPrefix(path, "/") {
		return r, false
	}
	return withPath(r, path), true
}

// withPath gives the request with another path, which is escaped and well formed.
func withPath(r *http.Request, path string) *http.Request {
	u := *r.URL
	u.RawPath = path
	u.Path, _ = url.PathUnescape(path) // well formed
	out := r.WithContext(r.Context())
	out.URL = &u
	return out
}
