package api

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/moorage-ml/moorage/internal/authn"
)

// BlobHost is the name under which blobs go up when the client came by a name of another form, unless the Router has
// another. azureml-core insists on X.blob.Y there: it takes the host of an upload's URL apart at its first two dots and
// writes "blob" between the parts (azureml-v1.md §1.4). Under a name of that form everything is served, not blobs alone.
const BlobHost = "moorage.blob.localhost"

// IsBlobHost tells whether a host, with or without a port, has the form X.blob.Y.
func IsBlobHost(host string) bool {
	account, rest, _ := strings.Cut(host, ".")
	kind, domain, _ := strings.Cut(rest, ".")
	return account != "" && kind == "blob" && domain != ""
}

// BlobURL is the address of a blob as azureml-core can upload to it; query is its signature. The port is that by which the
// client came, and so is the host if it has the form X.blob.Y.
func BlobURL(r *http.Request, container, blob, query string) string {
	account, endpoint := BlobAccount(r)
	u := url.URL{Scheme: "https", Host: account + ".blob." + endpoint, Path: "/" + container + "/" + blob, RawQuery: query}
	return u.String()
}

// BlobAccount gives the X and the Y[:port] of the host in BlobURL: what datastores call account and endpoint.
func BlobAccount(r *http.Request) (account, endpoint string) {
	if IsBlobHost(r.Host) {
		account, endpoint, _ = strings.Cut(r.Host, ".blob.")
		return account, endpoint
	}
	host := stateOf(r).blobHost
	if host == "" || authn.OnWayBack(r.Context()) { // in a job only this name leads to its way back
		host = BlobHost
	}
	account, endpoint, _ = strings.Cut(host, ".blob.")
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		endpoint += ":" + port
	}
	return account, endpoint
}

// BlobEndpoint is what the URLs of the blobs that a request reaches begin with, without a slash at the end.
func BlobEndpoint(r *http.Request, account string) string {
	if IsBlobHost(r.Host) {
		return BaseURL(r)
	}
	return BaseURL(r) + blobPrefix + url.PathEscape(account)
}

// blobPrefix is where the blob service lies under a name of another form: /blob/ACCOUNT/CONTAINER/PATH.
const blobPrefix = "/blob/"

// locate gives the request with the path by which the route table knows it. On a blob host a path is one of the blob
// service, /CONTAINER/PATH, if the request speaks that service's protocol, which is known by its header x-ms-version, or
// if nothing else is there.
func (rt *Router) locate(r *http.Request) *http.Request {
	if !IsBlobHost(r.Host) {
		return rt.folder.request(r)
	}
	if r.Header.Get("x-ms-version") == "" || strings.HasPrefix(r.URL.Path, blobPrefix) {
		if folded := rt.folder.request(r); rt.known(folded) {
			return folded
		}
	}
	account, _, _ := strings.Cut(r.Host, ".")
	return withPath(r, blobPrefix+url.PathEscape(account)+r.URL.EscapedPath())
}

// known tells whether a route matches.
func (rt *Router) known(r *http.Request) bool {
	_, pattern := rt.mux.Handler(r)
	return pattern != "/" && pattern != ""
}

// DownloadURL is the address of a blob under the name by which the client came. For downloads any will do.
func DownloadURL(r *http.Request, container, blob, query string) string {
	u := url.URL{Path: "/" + container + "/" + blob, RawQuery: query}
	return BaseURL(r) + blobPrefix + "moorage" + u.String()
}
