package socketio

import (
	"fmt"
	"io"
)

// A client is the Socket.IO side of one session: its namespaces. Its fields
// are guarded by session.mu, except partial, which is the receiver's.
type client struct {
	s        *session
	sockets  map[string]*Socket
	joined   int             // how many of sockets are connected; the others are pending
	connects bucket          // CONNECT packets
	left     map[string]bool // namespaces whose Socket ended here: the client may not know yet
	idle     alarm           // no namespace is connected
	partial  *packet         // waits for attachments
}

func newClient(s *session) *client {
	return &client{s: s, sockets: make(map[string]*Socket)}
}

// begin starts to wait for the first namespace. mu is held.
func (c *client) begin() { c.expect() }

// expect starts to wait for a CONNECT. mu is held.
func (c *client) expect() {
	d := c.s.srv.opts.ConnectTimeout
	c.s.arm(&c.idle, d, func() func() { return func() { c.s.end(ErrConnectTimeout) } })
}

// message acts on one message of the client's.
func (c *client) message(data []byte, binary bool) error {
	if binary {
		p := c.partial
		if p == nil {
			return parseError("binary message that no packet asked for")
		}
		if limit := c.s.srv.opts.MaxUnread; limit >= 0 && p.size >= limit {
			return fmt.Errorf("%w: attachments after %d bytes of their packet", ErrTooBig, p.size)
		}
		if !p.attach(data) {
			return nil
		}
		c.partial = nil
		return c.dispatch(p)
	}
	if c.partial != nil {
		return parseError("text while attachments are missing")
	}
	p, err := parsePacket(data, c.s.srv.opts.MaxAttachments)
	if err != nil {
		return err
	}
	if p.missing > 0 {
		c.partial = p
		return nil
	}
	return c.dispatch(p)
}

func (c *client) dispatch(p *packet) error {
	if p.typ == sioConnect {
		return c.connect(p)
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	sock := c.sockets[p.namespace]
	if sock == nil {
		if c.left[p.namespace] {
			return nil
		}
		return parseError("namespace %q is not connected", p.namespace)
	}
	switch p.typ {
	case sioDisconnect:
		sock.finish(io.EOF)
	case sioEvent:
		return sock.push(&Event{Name: p.name, Values: Values{p.args, p.attachments}, sock: sock, id: p.id, size: p.size})
	case sioAck:
		if ch, ok := sock.calls[p.id]; ok {
			delete(sock.calls, p.id)
			ch <- Values{p.args, p.attachments} // has room for it
		}
	}
	return nil
}

// end ends every socket with the session's cause. mu is held.
func (c *client) end(cause error) {
	if cause == errGoodbye {
		cause = io.EOF
	}
	for _, sock := range c.sockets {
		sock.finish(cause)
	}
	c.s.disarm(&c.idle)
}
