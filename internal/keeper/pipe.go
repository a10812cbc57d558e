package keeper

import (
	"errors"
	"io"
	"net"
	"sync"
)

// pipe carries bytes both ways until both have ended, and closes both. The end of one way is passed on as such.
func pipe(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { carry(a, b) })
	wg.Go(func() { carry(b, a) })
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

func carry(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = to.Close()
		_ = from.Close()
		return
	}
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
		return
	}
	_ = to.Close() // of a stream: only this direction
}
