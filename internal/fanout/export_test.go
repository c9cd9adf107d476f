package fanout

import "net"

// CutPongs is for tests.
var CutPongs = cutPongs

// Awaited makes a connection of a bubble one that is waited on as a socket is.
// There is never room for a try, so each write waits.
type Awaited struct{ net.Conn }

func (Awaited) TryWrite([]byte) (int, error) { return 0, nil }

func (a Awaited) await() *chunk {
	in := chunks.Get().(*chunk)
	if in.n, _ = a.Conn.Read(in.buf[:]); in.n > 0 {
		return in
	}
	chunks.Put(in)
	return nil // the error stays, for Read
}
