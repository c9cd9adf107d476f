package socketio

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/chat/internal/fanout"
)

// How long a session whose end the client has not seen yet keeps its id.
const (
	lastWords  = 2 * time.Second        // so that its next poll gets what was still due
	lastSecond = 500 * time.Millisecond // after the client's own close, for requests under way
	pollGap    = time.Second            // from a poll that was cut to the next request, or it is lost
	probeRest  = 100 * time.Millisecond // from the probe's answer to the release of the hanging poll
)

// A session is one Engine.IO session: a client, whatever transport it is on.
//
// One mutex guards all of it and of what stands on it (client, Socket, Conn). It is
// not held while a write waits for a socket or anything of the program's is called.
// Timers check a generation, see alarm.
type session struct {
	srv     *Server
	id      string
	request *http.Request // the handshake's
	release func()        // from Options.Admit, or nil; called once, at the end

	mu        sync.Mutex
	wake      sync.Cond    // on mu: writing, posting or probed fell, out was taken, or the session ended
	transport Encoding     // the one in use
	ended     error        // why, or nil
	ws        *fanout.Conn // if transport is WebSocket
	writing   bool         // a write waits for ws; others wait their turn
	queued    int          // calls of write that wait for their turn, or for a poll
	awaiting  bool         // a ping has no pong yet
	due       time.Time    // of the next ping, or of the pong: late timers don't add up
	unread    int          // what the events and messages that wait for a Receive cost
	space     sync.Cond    // on mu: unread fell, or somebody's queue or the session ended
	stalled   int          // packets that wait for that

	// Polling, see polling.go.
	out     []byte    // units for the next GET
	poll    *poll     // the hanging GET
	posting bool      // a POST is under way
	abort   func()    // ends the reading of its body, while that lasts; doesn't block
	final   [2][]byte // after the end: the answers to the last GET and to POSTs

	// Upgrade, see websocket.go.
	probe  *fanout.Conn // a WebSocket that has not taken over yet
	probed bool         // and was answered

	upper upper

	beat, gone, slow, rest, dawdle, grave alarm
}

// An upper is what stands on a session: Socket.IO, or a program of its own.
type upper interface {
	begin()                                 // it may write from now on; mu is held
	message(data []byte, binary bool) error // one of the client's; whoever calls it is the only one
	end(cause error)                        // the session has ended; mu is held
}

// newSession makes a session that is not open yet: see open.
func (s *Server) newSession(r *http.Request, release func(), transport Encoding, ws *fanout.Conn) *session {
	e := &session{srv: s, id: newID(), request: detach(r), release: release, transport: transport, ws: ws}
	e.due = time.Now().Add(s.opts.PingInterval)
	e.wake.L, e.space.L = &e.mu, &e.mu
	e.writing = ws != nil // it begins with the open packet
	if s.engine != nil {
		e.upper = newConn(e)
	} else {
		e.upper = newClient(e)
	}
	return e
}

// open starts the session's clocks. It reports false if the server has closed,
// and the session has ended then.
func (s *session) open() bool {
	if !s.srv.add(s) {
		s.mu.Lock()
		s.ended = ErrServerClosed
		ws := s.ws
		s.mu.Unlock()
		if ws != nil {
			ws.Close(1001, "server closed")
		}
		if s.release != nil {
			s.release()
		}
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.beatAt(s.due, s.ping)
		s.upper.begin()
	}
	return true
}

// An alarm is one of a session's timers. Its generation tells a call that was
// under way when it was set anew.
type alarm struct {
	timer *time.Timer
	gen   uint64
}

// arm calls f after d, with mu held, unless the alarm is set or disarmed
// before; what f returns is called without mu. A negative d is never. mu is
// held.
func (s *session) arm(a *alarm, d time.Duration, f func() (then func())) {
	s.disarm(a)
	if d < 0 {
		return
	}
	gen := a.gen
	s.srv.wg.Add(1)
	a.timer = time.AfterFunc(d, func() {
		defer s.srv.wg.Done()
		s.mu.Lock()
		var then func()
		if a.gen == gen {
			a.gen++
			a.timer = nil
			then = f()
		}
		s.mu.Unlock()
		if then != nil {
			then()
		}
	})
}

func (s *session) disarm(a *alarm) {
	a.gen++
	if a.timer != nil && a.timer.Stop() {
		s.srv.wg.Done()
	}
	a.timer = nil
}

// beatAt arms the heartbeat's alarm for an instant. mu is held.
func (s *session) beatAt(due time.Time, f func() func()) {
	s.due = due
	s.arm(&s.beat, max(0, time.Until(due)), f)
}

// ping sends a ping and starts to wait for the pong (protocol 4, "Heartbeat").
func (s *session) ping() func() {
	s.awaiting = true
	s.beatAt(s.due.Add(s.srv.opts.PingTimeout), s.miss)
	if s.transport == Polling {
		s.queue(appendUnit(nil, Polling, []byte{eioPing}))
		return nil
	}
	return func() { s.write(nil, WebSocket, appendUnit(nil, WebSocket, []byte{eioPing})) }
}

// miss ends the session for want of a pong. While a packet waits for a place in
// a queue of ours the pong may stand behind it, so that is not held against the
// client.
func (s *session) miss() func() {
	if s.stalled > 0 {
		s.beatAt(time.Now().Add(s.srv.opts.PingTimeout), s.miss)
		return nil
	}
	return func() { s.end(ErrPingTimeout) }
}

// overdue reports whether the session ends for want of a pong as soon as the
// alarm gets to it. mu is held.
func (s *session) overdue() bool {
	return s.awaiting && s.stalled == 0 && !time.Now().Before(s.due)
}

// packet acts on one packet of the client's. Whoever calls it is the only one.
func (s *session) packet(p enginePacket) error {
	switch p.typ {
	case eioMessage:
		return s.upper.message(p.data, p.binary)
	case eioPong:
		s.mu.Lock()
		if s.awaiting && s.ended == nil {
			s.awaiting = false
			s.beatAt(time.Now().Add(s.srv.opts.PingInterval), s.ping)
		}
		s.mu.Unlock()
		return nil
	case eioClose:
		return ErrEngineClosed
	case eioNoop:
		return nil
	default:
		return parseError("packet type %q is the server's to send", p.typ)
	}
}

// write sends units that stand in enc, for one whose end over is if that is not
// nil. It blocks while the client is behind its bound, until there is space, the
// session or that one has ended, or the write timeout, which ends the session.
func (s *session) write(over *error, enc Encoding, units []byte) error {
	s.mu.Lock()
	for {
		if done, err := s.try(over, enc, units); done || err != nil {
			s.mu.Unlock()
			return err
		}
		switch {
		case s.transport == WebSocket && !s.writing:
			s.writing = true
			ws := s.ws
			s.mu.Unlock()
			return s.writeFrames(ws, enc, units)
		case s.transport == Polling && s.slow.timer == nil && s.srv.opts.WriteTimeout > 0:
			s.arm(&s.slow, s.srv.opts.WriteTimeout, func() func() { return func() { s.end(ErrSlow) } })
		}
		s.queued++
		s.wake.Wait()
		s.queued--
	}
}

// try does what write does, if it can be done without waiting. mu is held: what
// is checked still holds when the frames go out.
func (s *session) try(over *error, enc Encoding, units []byte) (done bool, err error) {
	switch {
	case s.ended != nil:
		return false, s.ended
	case over != nil && *over != nil:
		return false, *over
	case s.writing, s.transport == Polling && s.full():
		return false, nil
	}
	if enc != s.transport {
		if units, err = convert(s.transport, units); err != nil {
			return false, err
		}
	}
	if s.transport == WebSocket {
		return len(units) == 0 || s.ws.TryWrite(units), nil
	}
	s.queue(units)
	return true, nil
}

// writeFrames writes to ws; the caller has the turn, and it ends here.
func (s *session) writeFrames(ws *fanout.Conn, enc Encoding, units []byte) (err error) {
	defer func() {
		s.mu.Lock()
		s.writing = false
		s.wake.Broadcast()
		s.mu.Unlock()
	}()
	if enc != WebSocket {
		if units, err = convert(WebSocket, units); err != nil {
			return err
		}
	}
	if len(units) == 0 {
		return nil
	}
	if err := ws.Write(units); err != nil {
		s.end(lossOf(err))
		return s.cause()
	}
	return nil
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// full reports whether as much waits for the next poll as may. mu is held.
func (s *session) full() bool {
	m := s.srv.opts.MaxUnread
	return m >= 0 && len(s.out) >= m
}

// queue adds units for polling and hands them to a hanging poll. mu is held.
func (s *session) queue(units []byte) {
	s.out = append(s.out, units...)
	if s.poll != nil && len(s.out) > 0 { // a payload of no packet is none
		s.answerPoll(s.take())
	}
}

// take takes what waits for the client, as a payload. mu is held.
func (s *session) take() []byte {
	b := bytes.TrimSuffix(s.out, []byte{separator})
	s.out = nil
	s.disarm(&s.slow)
	s.wake.Broadcast()
	return b
}

// end ends the session; the first cause counts. It returns at once: the
// WebSocket is closed, or the poll answered, behind it. The sockets learn of
// the cause as it is.
func (s *session) end(cause error) {
	s.mu.Lock()
	if s.ended != nil {
		s.mu.Unlock()
		return
	}
	s.ended = cause
	for _, a := range []*alarm{&s.beat, &s.gone, &s.slow, &s.rest, &s.dawdle, &s.grave} {
		s.disarm(a)
	}
	s.upper.end(cause)
	ws, probe := s.ws, s.probe
	if s.abort != nil {
		s.abort()
	}
	keep := time.Duration(-1) // how long the id stays
	if s.transport == Polling {
		last := []byte{eioClose}
		switch {
		case errors.Is(cause, ErrEngineClosed):
			last, keep = noopBody, lastSecond
			s.final[1], s.out = okBody, nil
			if s.poll == nil {
				s.final[0] = last
			}
		case errors.Is(cause, ErrDisconnected), errors.Is(cause, ErrServerClosed):
			if s.poll == nil {
				s.final, keep = [2][]byte{last, okBody}, lastWords
			}
		}
		if s.poll != nil {
			s.answerPoll(last)
		}
	}
	if keep >= 0 {
		s.arm(&s.grave, keep, func() func() { return func() { s.srv.remove(s) } })
	}
	s.wake.Broadcast()
	s.space.Broadcast()
	s.mu.Unlock()

	if keep < 0 {
		s.srv.remove(s)
	}
	if probe != nil {
		probe.Close(1000, "")
	}
	if ws != nil {
		code, reason := closeCode(cause)
		ws.Close(code, reason)
	}
	if s.release != nil {
		s.release()
	}
	s.srv.opts.Logger.Debug("session ended", "sid", s.id, "cause", cause)
}

// closeCode is what a WebSocket's client is told of cause. A client of the
// official script comes back whatever the code is.
func closeCode(cause error) (int, string) {
	switch {
	case errors.Is(cause, ErrServerClosed):
		return 1001, "server closed"
	case errors.Is(cause, ErrTooBig):
		return 1009, cause.Error()
	case errors.Is(cause, ErrParse), errors.Is(cause, ErrTooMany), errors.Is(cause, ErrConnectTimeout):
		return 1008, cause.Error()
	default:
		return 1000, ""
	}
}

// lossOf is the end of a session whose WebSocket met err.
func lossOf(err error) error {
	var ce fanout.CloseError
	switch {
	case errors.As(err, &ce) && (ce.Code == 1000 || ce.Code == 1001):
		return errGoodbye
	case errors.Is(err, fanout.ErrSlow):
		return ErrSlow
	case errors.Is(err, fanout.ErrTooBig):
		return fmt.Errorf("%w: %v", ErrTooBig, err)
	case errors.Is(err, fanout.ErrNotUTF8), errors.Is(err, fanout.ErrProtocol):
		return fmt.Errorf("%w: %v", ErrParse, err)
	default:
		return fmt.Errorf("%w: %v", ErrTransport, err)
	}
}
