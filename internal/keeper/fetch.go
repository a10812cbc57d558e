package keeper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const fetchAttempts = 4

// fetch gets an input from an https address, trusting the machine's roots and the server's CA. The query of the address
// may be a credential and is never shown. It returns the path of the file, or of its folder for a folder.
func (s *supervisor) fetch(ctx context.Context, in Input, dir string) (string, error) {
	u, err := url.Parse(in.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", badAddress(in.Name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name := path.Base(u.Path)
	if !plainOutput(name) {
		name = in.Name
	}
	file := filepath.Join(dir, name)
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM([]byte(s.spec.CA))
	client := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots}, ResponseHeaderTimeout: time.Minute, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	shown := u.Scheme + "://" + u.Host + u.Path
	s.note("input %s from %s", in.Name, shown)
	for attempt := 1; ; attempt++ {
		final, err := download(ctx, client, in.URL, file)
		if err == nil {
			break
		}
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err // its text has the whole address
		}
		if final || attempt == fetchAttempts || ctx.Err() != nil {
			return "", &workspace.Problem{
				Class: workspace.Unavailable, Code: "InputNotFetched", Message: fmt.Sprintf("input %s cannot be fetched from %s", in.Name, shown), Cause: err.Error(),
				Target: in.Name, Mend: "check the address, and that the target may connect to it; a signed address may have expired while the job waited",
			}
		}
		s.note("attempt %d: %v", attempt, err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(attempt*attempt) * time.Second):
		}
	}
	if in.Folder {
		return dir, nil
	}
	return file, nil
}

// download writes the body to the file; final tells that another attempt would end the same way.
func download(ctx context.Context, client *http.Client, address, file string) (final bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(fetchStall, func() { cancel(errStalled) })
	defer alive.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return true, err
	}
	res, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusRequestTimeout,
			fmt.Errorf("the answer was %s", res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return true, err
	}
	_, err = io.Copy(f, &lively{res.Body, alive})
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = errStalled
	}
	return false, errors.Join(err, f.Close())
}

// fetchStall is how long a download may bring nothing.
const fetchStall = 2 * time.Minute

var errStalled = fmt.Errorf("nothing came for %s", fetchStall)

// lively puts off a timer at each read.
type lively struct {
	r     io.Reader
	timer *time.Timer
}

func (l *lively) Read(b []byte) (int, error) {
	l.timer.Reset(fetchStall)
	return l.r.Read(b)
}
