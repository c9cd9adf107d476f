package socketio

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"
)

// ErrText means that a text message can't be sent: it is not UTF-8, or holds
// the record separator U+001E, which stands between packets on polling.
var ErrText = errors.New("socketio: not a text that every transport carries")

// A Message is one message of Engine.IO protocol 4, "Packet types".
type Message struct {
	Data   []byte // without the packet type; text is UTF-8
	Binary bool
}

// cost is what a queued message counts for, in bytes.
func (m Message) cost() int { return len(m.Data) + 64 }

// A Conn is one client of Engine.IO alone, see [NewEngine]. Its methods may be
// called from any goroutine, except that Receive is for one at a time. It ends
// with its connection or when its handler returns.
type Conn struct {
	inbox[Message]
}

// NewEngine returns a server of bare Engine.IO 4, without Socket.IO on it: each
// connection is h's, which runs in a goroutine of its own, and whose return
// closes it. What Options say about namespaces, CONNECT, attachments and the
// script has no meaning then, and [Server.Handle] panics.
func NewEngine(o *Options, h func(*Conn)) *Server {
	s := NewServer(o)
	s.engine = h
	return s
}

func newConn(s *session) *Conn {
	c := &Conn{}
	c.init(s)
	return c
}

// Request is the request that the connection began with, as [Socket.Request] says.
func (c *Conn) Request() *http.Request { return c.s.request }

// Receive returns the next message, in the order sent; its bytes are the
// caller's. After the last one it returns io.EOF if the client said goodbye, by
// a close packet or a WebSocket close frame with code 1000 or 1001; everything
// else is a loss and one of this package's errors. After Close it returns
// ErrDisconnected at once.
//
// Messages that are not received hold up their client: beyond
// Options.MaxUnread bytes of them nothing more is read from it.
func (c *Conn) Receive() (Message, error) { return c.receive() }

// Send sends a message, and keeps none of its bytes. It blocks while the client
// is behind, as [Socket.WriteEncoded] does, and returns what that does, or
// ErrText. nil means taken over, not arrived.
func (c *Conn) Send(m Message) error {
	c.s.mu.Lock()
	enc := c.s.transport
	c.s.mu.Unlock()
	if m.Binary {
		return c.write(enc, appendBinaryUnit(nil, enc, m.Data))
	}
	if !utf8.Valid(m.Data) || bytes.IndexByte(m.Data, separator) >= 0 {
		return ErrText
	}
	return c.write(enc, appendUnit(nil, enc, append([]byte{eioMessage}, m.Data...)))
}

// Close closes the connection: by a close packet on polling, with code 1000 on
// a WebSocket. It returns at once and may be called at any time, from anywhere
// and often. What was sent before goes out first, as far as the client takes it.
func (c *Conn) Close() { c.s.end(ErrDisconnected) }

// begin starts the handler. mu is held.
func (c *Conn) begin() {
	c.s.srv.wg.Add(1)
	go func() {
		defer c.s.srv.wg.Done()
		defer c.Close()
		c.s.srv.engine(c)
	}()
}

// message acts on one message of the client's.
func (c *Conn) message(data []byte, binary bool) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.push(Message{data, binary})
}

// end ends the connection with the session's cause. mu is held.
func (c *Conn) end(cause error) {
	if cause == errGoodbye || errors.Is(cause, ErrEngineClosed) {
		cause = io.EOF
	}
	c.close(cause)
}
