package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// File is one file of a job that can be downloaded.
type File struct {
	Output string `json:"output"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"` // permission bits
	URL    string `json:"url"`  // signed, short-lived
}

// Files lists what can be downloaded of a job.
func (c *Client) Files(ctx context.Context, job string) ([]File, error) {
	all := []File{}
	after := ""
	for {
		path := c.native("jobs", job, "files")
		if after != "" {
			path += "?after=" + url.QueryEscape(after)
		}
		var out struct {
			Files []File `json:"files"`
			Next  string `json:"next"`
		}
		if _, err := c.call(ctx, http.MethodGet, path, nil, &out); err != nil {
			return nil, err
		}
		all = append(all, out.Files...)
		if out.Next == "" || out.Next == after {
			return all, nil
		}
		after = out.Next
	}
}

// Fetch reads the file at a signed URL from offset on. begin is told from where the server really begins, 0 when it does
// not know ranges, and gives where to write.
func (c *Client) Fetch(ctx context.Context, link string, offset int64, begin func(offset int64) (io.Writer, error)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return fmt.Errorf("client: fetch: %w", err)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.lost(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return problem(resp)
	}
	if resp.StatusCode != http.StatusPartialContent {
		offset = 0
	}
	w, err := begin(offset)
	if err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.lost(err)
		}
	}
}
