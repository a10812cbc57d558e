package keeper

import (
	"bufio"
	"context"
	"errors"
	"io"
)

// Collecting. After the request the agent sends a listing frame for a batch of files, or one that ends them. The client
// answers with a choice frame. For each chosen file the agent sends a frame with the file as it is now, or one that says
// that it is gone, then data frames and an empty one, then a frame that tells whether the file was whole.

type listing struct {
	Fault *Fault `json:"fault,omitempty"`
	Files []File `json:"files,omitempty"`
	End   bool   `json:"end,omitempty"`
}

type choice struct {
	Want []int `json:"want,omitempty"` // indexes into the listing's files
}

type fileHead struct {
	File *File `json:"file,omitempty"` // nil: it is gone
}

type fileTail struct {
	Whole bool   `json:"whole"`
	Why   string `json:"why,omitempty"`
}

const listingSize = 1000

// Receiver is where Collect delivers, as compute.Outputs.
type Receiver interface {
	Want(f File) bool
	Put(ctx context.Context, f File, r io.Reader) error
}

// Collect brings files home: those that the receiver wants, of the job's outputs and of the folders outputs and logs of
// its working directory. A file that changes its size meanwhile gives a short read, and Put's error ends the collecting.
func (c *Client) Collect(ctx context.Context, key string, to Receiver) error {
	l, err := c.open(ctx, request{Op: opCollect, Key: key})
	if err != nil {
		return err
	}
	defer l.end()
	buf := make([]byte, dataFrame)
	for {
		var list listing
		if err := readFrame(l.Stream, &list); err != nil {
			return c.fail(ctx, err)
		}
		if list.Fault != nil {
			return list.Fault
		}
		if list.End {
			return nil
		}
		var ch choice
		for i, f := range list.Files {
			if to.Want(f) {
				ch.Want = append(ch.Want, i)
			}
		}
		if err := writeFrame(l.Stream, ch); err != nil {
			return c.fail(ctx, err)
		}
		for range ch.Want {
			if err := c.collectOne(ctx, l, to, buf); err != nil {
				return err
			}
		}
	}
}

func (c *Client) collectOne(ctx context.Context, l *call, to Receiver, buf []byte) error {
	var head fileHead
	if err := readFrame(l.Stream, &head); err != nil {
		return c.fail(ctx, err)
	}
	if head.File == nil {
		return nil
	}
	r := &dataReader{r: l.Stream, buf: buf}
	if err := to.Put(ctx, *head.File, r); err != nil {
		if r.err != nil && !errors.Is(r.err, io.EOF) && !errors.Is(r.err, io.ErrUnexpectedEOF) {
			return c.fail(ctx, r.err)
		}
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return c.fail(ctx, err)
	}
	return nil
}

// dataReader reads data frames up to the empty one and the tail. A file that was not whole ends as ErrUnexpectedEOF.
type dataReader struct {
	r    io.Reader
	buf  []byte
	rest []byte
	err  error
}

func (d *dataReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 && d.err == nil {
		d.rest, d.err = readData(d.r, d.buf)
		if d.err == nil && len(d.rest) == 0 {
			var tail fileTail
			if d.err = readFrame(d.r, &tail); d.err == nil {
				d.err = io.EOF
				if !tail.Whole {
					d.err = io.ErrUnexpectedEOF
				}
			}
		} else if errors.Is(d.err, io.EOF) {
			d.err = io.ErrClosedPipe // the connection, not the file
		}
	}
	if len(d.rest) > 0 {
		n := copy(p, d.rest)
		d.rest = d.rest[n:]
		return n, nil
	}
	return 0, d.err
}

func newBatchWriter(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, 64<<10) }
