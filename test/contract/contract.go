// Package contract checks HTTP exchanges against Microsoft's published descriptions of Azure's services (Swagger 2.0),
// strictly: a property that the file does not name is an error, and so are wrong types, words outside an enumeration,
// unknown paths and methods, and a missing api-version. It is used by tests of whatever speaks to Azure. The files are no
// part of the project: MOORAGE_SHARED names the folder that holds them as contracts/specification.
package contract

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// host stands in for the hosts of the files, which are templates such as {account}.batch.azure.com.
const host = "contract.invalid"

// Contract is one loaded file. It is safe for concurrent use.
type Contract struct {
	file   string
	router routers.Router
}

// Folder is where the files are. The test is skipped, with the reason, when they are not there.
func Folder(t *testing.T) string {
	t.Helper()
	folder, ok := Find()
	if !ok {
		t.Skip("Microsoft's contracts are not here: MOORAGE_SHARED names no folder with contracts/specification in it")
	}
	return folder
}

// Find is Folder for a test that does more than check contracts.
func Find() (folder string, ok bool) {
	folder = filepath.Join(cmp.Or(os.Getenv("MOORAGE_SHARED"), os.DevNull), "contracts", "specification")
	_, err := os.Stat(folder)
	return folder, err == nil
}

// Load reads a file with all that it references in its neighbours, and closes its objects.
func Load(file string) (*Contract, error) {
	root, err := flatten(file)
	if err != nil {
		return nil, fmt.Errorf("contract: %s: %w", file, err)
	}
	for _, elsewhere := range []string{"x-ms-parameterized-host", "securityDefinitions", "security"} {
		delete(root, elsewhere)
	}
	root["host"], root["schemes"] = host, []any{"http"}
	closeObjects(root)
	b, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("contract: %s: %w", file, err)
	}
	var v2 openapi2.T
	if err := json.Unmarshal(b, &v2); err != nil {
		return nil, fmt.Errorf("contract: %s: as Swagger 2.0: %w", file, err)
	}
	v3, err := openapi2conv.ToV3(&v2)
	if err != nil {
		return nil, fmt.Errorf("contract: %s: as OpenAPI 3: %w", file, err)
	}
	v3.Servers = openapi3.Servers{{URL: "http://" + host}}
	for _, path := range v3.Paths.Map() {
		for _, operation := range path.Operations() {
			operation.Security = nil
		}
	}
	router, err := gorillamux.NewRouter(v3)
	if err != nil {
		return nil, fmt.Errorf("contract: %s: routes: %w", file, err)
	}
	return &Contract{file: file, router: router}, nil
}

// ErrNoOperation says that the file has no such path and method.
var ErrNoOperation = errors.New("contract: no such operation")

// Exchange is a request with its answer. Path and query of the URL count, its host does not.
type Exchange struct {
	Request *http.Request
	Body    []byte // of the request
	Status  int    // 0: only the request is checked
	Header  http.Header
	Answer  []byte
}

// Check says what of an exchange breaks the contract. Bytes that are no JSON are called "object" in the files and cannot
// be checked.
func (c *Contract) Check(x Exchange) error {
	r := x.Request.Clone(x.Request.Context())
	r.Host, r.URL.Host, r.URL.Scheme = host, host, "http"
	r.Body = io.NopCloser(bytes.NewReader(x.Body))
	route, params, err := c.router.FindRoute(r)
	if err != nil {
		return fmt.Errorf("%w: %s %s in %s: %w", ErrNoOperation, r.Method, r.URL.Path, filepath.Base(c.file), err)
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true, IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		return fmt.Errorf("contract: request %s %s: %w", r.Method, r.URL, err)
	}
	if x.Status == 0 {
		return nil
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.Header, Body: io.NopCloser(bytes.NewReader(x.Answer)), Options: options,
	}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		return fmt.Errorf("contract: answer %d to %s %s: %w", x.Status, r.Method, r.URL, err)
	}
	return nil
}

// Cache loads each file once. Its zero value is ready.
type Cache struct{ files sync.Map }

// Load is Load, remembered.
func (c *Cache) Load(file string) (*Contract, error) {
	load, _ := c.files.LoadOrStore(file, sync.OnceValues(func() (*Contract, error) { return Load(file) }))
	return load.(func() (*Contract, error))()
}
