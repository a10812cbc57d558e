package blob

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// results is a page of a list as XML.
type results struct {
	XMLName    xml.Name `xml:"EnumerationResults"`
	Service    string   `xml:"ServiceEndpoint,attr"`
	Container  string   `xml:"ContainerName,attr"`
	Prefix     string   `xml:",omitempty"`
	Marker     string   `xml:",omitempty"`
	MaxResults int      `xml:",omitempty"`
	Delimiter  string   `xml:",omitempty"`
	Blobs      entries
	NextMarker string
}

type entries struct {
	Blob       []entry
	BlobPrefix []prefix
}

type entry struct {
	Name       string
	Properties properties
	Metadata   *pairs
}

type prefix struct{ Name string }

type properties struct {
	Created      string `xml:"Creation-Time"`
	LastModified string `xml:"Last-Modified"`
	ETag         string `xml:"Etag"`
	Length       int64  `xml:"Content-Length"`
	Type         string `xml:"Content-Type"`
	BlobType     string
	LeaseStatus  string
	LeaseState   string
	Encrypted    bool `xml:"ServerEncrypted"`
}

// pairs writes <name>value</name>.
type pairs map[string]string

// MarshalXML implements xml.Marshaler. Names that XML cannot have are left out.
func (p pairs) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for k, v := range p {
		if !plainName(k) {
			continue
		}
		if err := e.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: k}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func plainName(s string) bool {
	for i, c := range s {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// list serves a container's list, and HEAD and GET of the container itself.
func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	common(w, r)
	container, q := r.PathValue("container"), r.URL.Query()
	root, err := place(container, "")
	if err != nil {
		return err
	}
	if q.Get("comp") != "list" {
		containerHeaders(w)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	limit := 5000
	if n, err := strconv.Atoi(q.Get("maxresults")); err == nil && n > 0 {
		limit = min(n, limit)
	}
	marker, err := base64.RawURLEncoding.DecodeString(q.Get("marker"))
	if err != nil {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidQueryParameterValue", Target: "marker", Message: "the marker is not one that this server gave", Mend: "begin the list anew"}
	}
	page, err := h.blobs.List(r.Context(), root+q.Get("prefix"), q.Get("delimiter"), string(marker), limit)
	if err != nil {
		return err
	}
	out := results{
		Service: api.BlobEndpoint(r, r.PathValue("account")) + "/", Container: container, Prefix: q.Get("prefix"), Marker: q.Get("marker"), MaxResults: limit, Delimiter: q.Get("delimiter"),
		NextMarker: base64.RawURLEncoding.EncodeToString([]byte(page.Next)),
	}
	for _, b := range page.Blobs {
		out.Blobs.Blob = append(out.Blobs.Blob, listed(b, container, strings.Contains(q.Get("include"), "metadata")))
	}
	for _, p := range page.Prefixes {
		out.Blobs.BlobPrefix = append(out.Blobs.BlobPrefix, prefix{relative(p, container)})
	}
	return writeXML(w, out)
}

func writeXML(w http.ResponseWriter, v any) error {
	body, err := xml.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(append([]byte(xml.Header), body...))
	return err
}

func listed(b store.Info, container string, withMetadata bool) entry {
	at := b.Modified.UTC().Format(http.TimeFormat)
	e := entry{Name: relative(b.Name, container), Properties: properties{
		Created: at, LastModified: at, ETag: etag(b), Length: b.Size, Type: contentType(b), BlobType: typeOf(b), LeaseStatus: "unlocked", LeaseState: "available",
	}}
	if withMetadata {
		meta := pairs(b.User)
		e.Metadata = &meta
	}
	return e
}
