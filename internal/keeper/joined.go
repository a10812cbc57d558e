package keeper

import (
	"encoding/binary"
	"io"
)

// joined writes yamux's headers together with what follows at once: the body of a data frame, and the first frame of a
// stream that was just opened. A write is a packet of SSH, and on the target three processes awake for it.
type joined struct {
	w    io.Writer
	held []byte
	body bool // comes next
}

// Of yamux's specification: the header's size, the types of frames and the flag that opens a stream.
const (
	muxHeader = 12
	muxData   = 0
	muxWindow = 1
	muxOpens  = 1
)

// joinBelow is the length from which on a body is not worth a copy.
const joinBelow = 32 << 10

func (j *joined) Write(p []byte) (int, error) {
	if j.holds(p) {
		j.held = append(j.held, p...)
		return len(p), nil
	}
	n, out := len(p), p
	if len(j.held) > 0 && n < joinBelow {
		out = append(j.held, p...)
	} else if len(j.held) > 0 {
		if _, err := j.w.Write(j.held); err != nil {
			return 0, err
		}
	}
	j.held = j.held[:0]
	if _, err := j.w.Write(out); err != nil {
		return 0, err
	}
	return n, nil
}

// holds tells whether a write is a header that another write follows at once.
func (j *joined) holds(p []byte) bool {
	if j.body || len(p) != muxHeader {
		j.body = false
		return false
	}
	flags, length := binary.BigEndian.Uint16(p[2:]), binary.BigEndian.Uint32(p[8:])
	j.body = p[1] == muxData && length > 0
	return j.body || p[1] == muxWindow && flags == muxOpens
}
