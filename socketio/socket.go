package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Errors that end a Socket, as Receive returns them, and then everything else
// does. Compare with [errors.Is]; some are wrapped with details. Only io.EOF is
// a peer that said goodbye.
var (
	// ErrPingTimeout means that the client didn't answer a ping in time.
	ErrPingTimeout = errors.New("socketio: ping timeout")
	// ErrTransport means that the connection broke, or was closed with
	// anything but 1000 or 1001: also a script that means to come back.
	ErrTransport = errors.New("socketio: transport lost")
	// ErrEngineClosed means that the client closed the Engine.IO session.
	ErrEngineClosed = errors.New("socketio: session closed by client")
	// ErrParse means that the client sent what is no packet, or a packet that
	// it must not send then.
	ErrParse = errors.New("socketio: parse error")
	// ErrTooBig means that the client sent more than Options.MaxPayload, or
	// attachments of one packet beyond Options.MaxUnread.
	ErrTooBig = errors.New("socketio: payload too large")
	// ErrSlow means that the client didn't take what was written to it within
	// Options.WriteTimeout.
	ErrSlow = errors.New("socketio: client does not read")
	// ErrConnectTimeout ends a connection without a namespace.
	ErrConnectTimeout = errors.New("socketio: no namespace connected in time")
	// ErrTooMany means that the client sent more CONNECT packets than
	// Options.MaxConnects.
	ErrTooMany = errors.New("socketio: too many CONNECT packets")
	// ErrServerClosed means that Server.Shutdown or Close was called.
	ErrServerClosed = errors.New("socketio: server closed")
	// ErrDisconnected means that Disconnect or Drop was called on this side.
	ErrDisconnected = errors.New("socketio: disconnected")
)

// Errors of Socket.Call and Event.Ack.
var (
	// ErrCalls means that Options.MaxCalls calls wait for the client already.
	ErrCalls = errors.New("socketio: too many calls wait for an acknowledgement")
	// ErrNoAck means that the client asked for no acknowledgement.
	ErrNoAck = errors.New("socketio: no acknowledgement asked for")
	// ErrAcked means that it has got one.
	ErrAcked = errors.New("socketio: acknowledged already")
)

// errGoodbye ends a session whose WebSocket was closed with 1000 or 1001.
var errGoodbye = errors.New("socketio: closed by client")

// A Socket is one client in one namespace. Its methods may be called from any
// goroutine, except that Receive is for one at a time. It ends with its
// connection, with a DISCONNECT from either side, or when its handler returns.
type Socket struct {
	c         *client
	namespace string
	auth      json.RawMessage

	// What Options.Connect granted: set before the handler starts.
	id, pid   string
	recovered bool
	value     any

	// The fields below are guarded by s.mu.
	inbox[*Event]
	pending  bool   // the CONNECT is not answered yet
	cancel   func() // ends Options.Connect's context, or nil
	patience alarm  // for its answer
	calls    map[int64]chan Values
	nextID   int64

	leaving bool // the goroutine of a Disconnect runs
	closing bool // and is to close the connection
}

func newSocket(c *client, namespace string, auth json.RawMessage) *Socket {
	k := &Socket{c: c, namespace: namespace, id: newID(), auth: auth, pending: true}
	k.init(c.s)
	return k
}

// ID is the socket's id, which the client knows as well. It is not secret, and
// new for every connection, unless Options.Connect granted another.
func (k *Socket) ID() string { return k.id }

// PID is what Options.Connect granted to recover the socket with, or empty.
func (k *Socket) PID() string { return k.pid }

// Recovered reports whether the client asked with that PID, and so takes this
// socket for the continuation of its last. What it missed is the handler's to
// write first: nothing comes before that but the answer to the CONNECT.
func (k *Socket) Recovered() bool { return k.recovered }

// Value is the Grant's, or nil.
func (k *Socket) Value() any { return k.value }

// Namespace is the namespace it is connected to.
func (k *Socket) Namespace() string { return k.namespace }

// Auth is the JSON object that the client sent with its CONNECT, or nil. It is
// not to be changed.
func (k *Socket) Auth() json.RawMessage { return k.auth }

// Request is the request that the connection began with: without its body, and
// without the headers that are about that connection alone: Connection, Upgrade,
// and the key, version and extensions of a WebSocket. Its context has the values
// that it had, and does not end.
func (k *Socket) Request() *http.Request { return k.s.request }

// Encoding is the form that goes to this client now. It may change once, from
// Polling to WebSocket.
func (k *Socket) Encoding() Encoding {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	return k.s.transport
}

// Receive returns the next event, in the order sent. After the last one it
// returns io.EOF if the client said goodbye, by a DISCONNECT packet or a
// WebSocket close frame with code 1000 or 1001; everything else is a loss, and
// one of the errors above. After Disconnect and Drop it returns ErrDisconnected
// at once.
//
// Events that are not received hold up their client: beyond Options.MaxUnread
// bytes of them nothing more is read from it.
func (k *Socket) Receive() (*Event, error) { return k.receive() }

// finish ends the socket; the first cause counts. s.mu is held.
func (k *Socket) finish(cause error) {
	if !k.close(cause) {
		return
	}
	delete(k.c.sockets, k.namespace)
	if k.pending {
		k.settle()
		return
	}
	if k.c.joined--; k.c.joined == 0 && k.s.ended == nil {
		k.c.expect()
	}
}

// leave ends the socket from this side. What the client sends before it knows
// is nobody's fault. s.mu is held.
func (k *Socket) leave() {
	if k.c.left == nil {
		k.c.left = make(map[string]bool)
	}
	k.c.left[k.namespace] = true
	k.finish(ErrDisconnected)
}

// Emit sends an event; see AppendEvent for the arguments. nil means taken over,
// not arrived. It blocks as WriteEncoded does. Besides the errors above it
// returns those of AppendEvent.
func (k *Socket) Emit(name string, args ...any) error {
	enc := k.Encoding()
	b, err := AppendEvent(nil, enc, k.namespace, name, args...)
	if err != nil {
		return err
	}
	return k.WriteEncoded(enc, b)
}

// Call sends an event and waits for the client's acknowledgement, whose
// arguments it returns. It returns ctx's error if that ends first, but a write
// that has begun is bounded by WriteTimeout; an acknowledgement that comes later
// is dropped. Besides that, and what Emit returns, it returns ErrCalls if
// Options.MaxCalls others wait for this socket's client.
//
// The acknowledgement comes behind the events that the client sent before it: a
// handler that waits here instead of in Receive waits for ever if those are
// more than Options.MaxUnread, so ctx should have a deadline.
func (k *Socket) Call(ctx context.Context, name string, args ...any) (Values, error) {
	ch := make(chan Values, 1)
	k.s.mu.Lock()
	if k.over != nil {
		defer k.s.mu.Unlock()
		return Values{}, k.over
	}
	if limit := k.s.srv.opts.MaxCalls; limit >= 0 && len(k.calls) >= limit {
		k.s.mu.Unlock()
		return Values{}, ErrCalls
	}
	id := k.nextID
	k.nextID++
	if k.calls == nil {
		k.calls = make(map[int64]chan Values)
	}
	k.calls[id] = ch
	enc := k.s.transport
	k.s.mu.Unlock()
	defer func() {
		k.s.mu.Lock()
		delete(k.calls, id)
		k.s.mu.Unlock()
	}()
	if err := ctx.Err(); err != nil {
		return Values{}, err
	}
	b, err := appendEvent(nil, enc, k.namespace, id, name, args)
	if err != nil {
		return Values{}, err
	}
	if err := k.WriteEncoded(enc, b); err != nil {
		return Values{}, err
	}
	select {
	case v := <-ch:
		return v, nil
	case <-ctx.Done():
		return Values{}, ctx.Err()
	case <-k.done:
		k.s.mu.Lock()
		defer k.s.mu.Unlock()
		return Values{}, k.over
	}
}

// WriteEncoded sends units that AppendEvent made in enc, in one write. The
// bytes may be shared with other sockets; they are never changed, and must not
// be by the caller. If the transport is another one by now they are converted.
// nil means taken over, not arrived.
//
// It blocks while the client is behind: on a WebSocket until what was written
// before is through, and this as well where it can't be tried; on polling while
// Options.MaxUnread bytes or more wait for its next poll. That is until there is
// space, the socket ends, or Options.WriteTimeout, which ends the connection
// with ErrSlow.
func (k *Socket) WriteEncoded(enc Encoding, units []byte) error { return k.write(enc, units) }

// TryWriteEncoded is WriteEncoded for who must not wait, such as a goroutine
// that writes to many sockets. It reports false at once, and nothing is taken,
// where WriteEncoded would wait, for the client or behind another write, or
// return an error: then WriteEncoded waits, or says which. It is false for every
// WebSocket whose connection can only be written to by waiting, as over TLS.
//
// True means taken over: what a WebSocket has no room for now is written behind
// the caller's back, before anything else, so the bytes must not be changed any
// more. If the client doesn't take that within Options.WriteTimeout, its
// connection ends with ErrSlow.
func (k *Socket) TryWriteEncoded(enc Encoding, units []byte) bool { return k.tryWrite(enc, units) }

// Disconnect says goodbye to the client and ends the socket, and with closeConn
// its whole connection. It returns at once and may be called at any time, from
// anywhere and often. Receive returns ErrDisconnected at once, a blocked write
// within 1 s if the connection is closed. What was written before goes out
// first, as far as 1 s allows.
func (k *Socket) Disconnect(closeConn bool) {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	told := k.over != nil
	if !told {
		k.leave()
	}
	if closeConn && !k.closing {
		k.closing = true
		s.arm(&s.grave, goodbye, func() func() { return func() { s.end(ErrDisconnected) } })
	}
	if k.leaving || told && !closeConn {
		return
	}
	k.leaving = true
	s.srv.wg.Add(1)
	go func() {
		defer s.srv.wg.Done()
		if !told {
			b := appendNamespace([]byte{eioMessage, sioDisconnect}, k.namespace)
			s.write(nil, Polling, appendUnit(nil, Polling, b))
		}
		s.mu.Lock()
		for k.closing && s.probed && len(s.out) > 0 && s.ended == nil {
			s.wake.Wait() // the client may have stopped polling: the WebSocket will bring it
		}
		k.leaving = false
		closing := k.closing
		s.mu.Unlock()
		if closing {
			s.end(ErrDisconnected)
		}
	}()
}

// Drop ends the whole connection without a goodbye, so that a client whose
// script reconnects comes back. It returns at once, like Disconnect.
func (k *Socket) Drop() { k.s.end(ErrDisconnected) }

const goodbye = time.Second // for the DISCONNECT before a connection is closed

// An Event is one event of a client's.
type Event struct {
	Name   string
	Values // the arguments after the name

	sock  *Socket
	id    int64
	acked bool // guarded by sock.s.mu
	size  int
}

// cost is what a queued event counts for, in bytes.
func (e *Event) cost() int { return e.size + 64*(1+len(e.Args)) }

// WantsAck reports whether the client asked for an acknowledgement.
func (e *Event) WantsAck() bool { return e.sock != nil && e.id != noID }

// Ack acknowledges the event, at most once, with arguments as AppendEvent takes
// them. It returns ErrNoAck, ErrAcked, or what WriteEncoded does.
func (e *Event) Ack(args ...any) error {
	if !e.WantsAck() {
		return ErrNoAck
	}
	k := e.sock
	enc := k.Encoding()
	b, err := appendArgs(nil, enc, sioAck, k.namespace, e.id, nil, args)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	acked := e.acked
	e.acked = true
	k.s.mu.Unlock()
	if acked {
		return ErrAcked
	}
	return k.WriteEncoded(enc, b)
}
