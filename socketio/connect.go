package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A ConnectRequest is a client's wish to connect to a namespace (Socket.IO
// protocol 5, "Connection to a namespace"), as Options.Connect gets it.
type ConnectRequest struct {
	Request   *http.Request   // of the handshake, as Socket.Request says
	Namespace string          // one that has a handler
	Auth      json.RawMessage // the object that the client sent, or nil; not to be changed

	// PID and Offset are the strings "pid" and "offset" of Auth, by which a
	// client that was here before asks for recovery: the PID that it was
	// granted, and the last argument of the last event that it got and whose
	// last argument was a string. Empty if it sent none: a newcomer has no PID,
	// who got no such event no Offset.
	PID, Offset string
}

// A Grant is what a client that may connect is told and its Socket shows. The
// zero value is a new socket that can't be recovered.
type Grant struct {
	// SID becomes Socket.ID. Empty: a new one.
	SID string
	// PID is told to the client, which asks with it for recovery after it was
	// lost. If it is the one asked for, the client takes the socket for
	// recovered. Who knows it can have it, so it must be hard to guess and
	// nobody else's. Empty: no recovery is offered.
	PID string
	// Value is for Socket.Value, and not told to the client.
	Value any
}

// A ConnectError is what Options.Connect refuses with. The client sees both
// fields, in its event connect_error.
type ConnectError struct {
	Message string
	Data    any // as package json encodes it; nil, and what json can't encode, is left out
}

func (e *ConnectError) Error() string { return "socketio: refused: " + e.Message }

// What a client is told that is refused for another reason.
const (
	invalidNamespace  = "Invalid namespace" // the official server's words
	tooManyNamespaces = "too many namespaces"
	refused           = "refused"
	noAnswer          = "timeout"
)

// connect acts on a CONNECT. With Options.Connect the answer comes later, and
// the namespace's packets wait for it in the Socket's queue.
func (c *client) connect(p *packet) error {
	s := c.s
	h := s.srv.handler(p.namespace)
	s.mu.Lock()
	if s.ended != nil {
		defer s.mu.Unlock()
		return s.ended
	}
	if limit := s.srv.opts.MaxConnects; !c.connects.take(limit) {
		defer s.mu.Unlock()
		return fmt.Errorf("%w: over %d a minute", ErrTooMany, limit)
	}
	old := c.sockets[p.namespace]
	refusal := ""
	switch {
	case h == nil:
		refusal = invalidNamespace
	case old != nil && old.pending:
		s.mu.Unlock() // the answer to the first is for both
		return nil
	case old != nil:
		// The official client asks twice if its program does.
		s.mu.Unlock()
		old.write(Polling, old.connected())
		return nil
	case s.srv.opts.MaxNamespaces >= 0 && len(c.sockets) >= s.srv.opts.MaxNamespaces:
		refusal = tooManyNamespaces
	}
	if refusal != "" {
		s.mu.Unlock()
		s.write(nil, Polling, connectError(p.namespace, &ConnectError{Message: refusal}))
		return nil
	}
	sock := newSocket(c, p.namespace, p.auth)
	c.sockets[p.namespace] = sock
	delete(c.left, p.namespace)
	s.srv.wg.Add(1)
	if s.srv.opts.Connect == nil {
		sock.accept(Grant{})
		s.mu.Unlock()
		sock.write(Polling, sock.connected())
		go sock.serve(h)
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	sock.cancel = cancel
	s.arm(&sock.patience, s.srv.opts.ConnectTimeout, func() func() {
		if !sock.pending {
			return nil
		}
		return func() { sock.refuse(&ConnectError{Message: noAnswer}) }
	})
	s.mu.Unlock()
	go sock.ask(ctx, h)
	return nil
}

// ask lets the program decide on a pending socket, and serves it if it may
// connect. It is the socket's goroutine.
func (k *Socket) ask(ctx context.Context, h func(*Socket)) {
	s := k.s
	r := &ConnectRequest{Request: s.request, Namespace: k.namespace, Auth: k.auth}
	r.PID, r.Offset = recovery(k.auth)
	grant, err := s.srv.opts.Connect(ctx, r)
	if err != nil {
		var own *ConnectError
		if !errors.As(err, &own) {
			own = &ConnectError{Message: refused}
		}
		s.srv.opts.Logger.Debug("connect refused", "sid", s.id, "namespace", k.namespace, "err", err)
		k.refuse(own)
		s.srv.wg.Done()
		return
	}
	s.mu.Lock()
	if !k.pending { // gone, or it took too long
		s.mu.Unlock()
		s.srv.wg.Done()
		return
	}
	k.accept(grant)
	k.recovered = grant.PID != "" && grant.PID == r.PID
	s.mu.Unlock()
	k.write(Polling, k.connected())
	k.serve(h)
}

// recovery reads the two strings from a CONNECT's auth that ask for recovery.
func recovery(auth json.RawMessage) (pid, offset string) {
	if len(auth) == 0 {
		return "", ""
	}
	var asked map[string]json.RawMessage // unlike a struct's, its keys are case-sensitive
	if json.Unmarshal(auth, &asked) != nil || json.Unmarshal(asked["pid"], &pid) != nil {
		return "", ""
	}
	if json.Unmarshal(asked["offset"], &offset) != nil {
		return pid, ""
	}
	return pid, offset
}

// accept makes a pending socket a connected one. mu is held.
func (k *Socket) accept(g Grant) {
	k.settle()
	k.pid, k.value = g.PID, g.Value
	if g.SID != "" {
		k.id = g.SID
	}
	k.c.joined++
	k.s.disarm(&k.c.idle)
}

// settle ends the asking. mu is held.
func (k *Socket) settle() {
	k.pending = false
	k.s.disarm(&k.patience)
	if k.cancel != nil {
		k.cancel()
	}
}

// refuse ends a socket that is still pending and tells the client why.
func (k *Socket) refuse(why *ConnectError) {
	s := k.s
	s.mu.Lock()
	if !k.pending {
		s.mu.Unlock()
		return
	}
	k.leave() // what the client sent behind its CONNECT is dropped
	s.mu.Unlock()
	s.write(nil, Polling, connectError(k.namespace, why))
}

// serve runs the handler of a connected socket to its end.
func (k *Socket) serve(h func(*Socket)) {
	defer k.s.srv.wg.Done()
	defer func() {
		k.Disconnect(false)
		k.s.mu.Lock()
		defer k.s.mu.Unlock()
		k.discard() // or it would count for ever
	}()
	h(k)
}

// connected is the packet that answers a CONNECT.
func (k *Socket) connected() []byte {
	j, err := json.Marshal(struct {
		SID string `json:"sid"`
		PID string `json:"pid,omitempty"`
	}{k.id, k.pid})
	if err != nil {
		panic(err) // strings
	}
	b := appendNamespace([]byte{eioMessage, sioConnect}, k.namespace)
	return appendUnit(nil, Polling, append(b, j...))
}

// connectError is the packet that refuses a CONNECT.
func connectError(namespace string, e *ConnectError) []byte {
	refusal := struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}{e.Message, e.Data}
	j, err := json.Marshal(refusal)
	if err != nil {
		refusal.Data = nil
		if j, err = json.Marshal(refusal); err != nil {
			panic(err) // a string
		}
	}
	b := appendNamespace([]byte{eioMessage, sioConnectError}, namespace)
	return appendUnit(nil, Polling, append(b, j...))
}

// A bucket counts what may come only so often: limit at once, and from then on
// as many a minute. mu is held around its methods.
type bucket struct {
	used float64
	last time.Time
}

// take reports whether one more may come now. A negative limit is none.
func (b *bucket) take(limit int) bool {
	if limit < 0 {
		return true
	}
	now := time.Now()
	b.used = max(0, b.used-now.Sub(b.last).Minutes()*float64(limit))
	b.last = now
	if b.used+1 > float64(limit) {
		return false
	}
	b.used++
	return true
}
