package socketio

import (
	"encoding/json"
	"io"
	"strconv"
)

// A client is the Socket.IO side of one session: its namespaces. Its fields
// are guarded by session.mu, except partial, which is the receiver's.
type client struct {
	s       *session
	sockets map[string]*Socket
	left    map[string]bool // namespaces whose Socket ended here: the client may not know yet
	idle    alarm           // no namespace is connected
	partial *packet         // waits for attachments
}

func newClient(s *session) *client {
	return &client{s: s, sockets: make(map[string]*Socket)}
}

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
		return sock.push(&Event{Name: p.name, Args: p.args, Attachments: p.attachments, sock: sock, id: p.id, size: p.size})
	case sioAck:
		if ch, ok := sock.calls[p.id]; ok {
			delete(sock.calls, p.id)
			ch <- reply{p.args, p.attachments} // has room for it
		}
	}
	return nil
}

// connect answers a CONNECT and starts the namespace's handler.
func (c *client) connect(p *packet) error {
	s := c.s
	h := s.srv.handler(p.namespace)
	if h == nil {
		s.write(nil, Polling, connectError(p.namespace, "Invalid namespace"))
		return nil
	}
	sock := newSocket(c, p.namespace, p.auth)
	s.mu.Lock()
	if s.ended != nil {
		defer s.mu.Unlock()
		return s.ended
	}
	if old := c.sockets[p.namespace]; old != nil {
		// The official client asks twice if its program does.
		s.mu.Unlock()
		s.write(old, Polling, old.connected())
		return nil
	}
	c.sockets[p.namespace] = sock
	delete(c.left, p.namespace)
	s.disarm(&c.idle)
	s.srv.wg.Add(1)
	s.mu.Unlock()

	s.write(sock, Polling, sock.connected())
	go func() {
		defer s.srv.wg.Done()
		defer sock.Disconnect(false)
		h(sock)
	}()
	return nil
}

// connected is the packet that answers a CONNECT.
func (k *Socket) connected() []byte {
	b := appendNamespace([]byte{eioMessage, sioConnect}, k.namespace)
	b = append(b, `{"sid":`...)
	b = strconv.AppendQuote(b, k.id)
	return appendUnit(nil, Polling, append(b, '}'))
}

// connectError is the packet that refuses a CONNECT.
func connectError(namespace, message string) []byte {
	j, err := json.Marshal(struct {
		Message string `json:"message"`
	}{message})
	if err != nil {
		panic(err) // a string
	}
	b := appendNamespace([]byte{eioMessage, sioConnectError}, namespace)
	return appendUnit(nil, Polling, append(b, j...))
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
