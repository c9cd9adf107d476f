package socketio

import (
	"net/http"

	"example.com/chat/internal/fanout"
)

func (s *Server) acceptWebSocket(w http.ResponseWriter, r *http.Request) (*fanout.Conn, error) {
	return fanout.Accept(w, r, &fanout.AcceptOptions{
		AnyOrigin:    true, // checked for every request alike
		MaxMessage:   s.opts.MaxPayload,
		WriteTimeout: s.opts.WriteTimeout,
	})
}

// connectWebSocket starts a session that starts on a WebSocket. It goes on in a
// goroutine of the server's: the request is answered, and what net/http keeps for
// one that is not is let go.
func (s *Server) connectWebSocket(w http.ResponseWriter, r *http.Request, release func()) {
	ws, err := s.acceptWebSocket(w, r)
	if err != nil {
		if release != nil {
			release()
		}
		return
	}
	e := s.newSession(r, release, WebSocket, ws)
	s.wg.Go(func() {
		defer ws.Wait()
		if !e.open() {
			return
		}
		// What anybody else writes waits for its turn behind this.
		if err := e.writeFrames(ws, WebSocket, appendUnit(nil, WebSocket, e.openPacket())); err == nil {
			e.readLoop(ws)
		}
	})
}

// readLoop acts on what comes from the session's WebSocket until the session
// has ended.
func (s *session) readLoop(ws *fanout.Conn) {
	for on := true; on; {
		ws.Next(func(data []byte, binary bool, err error) {
			if err = s.received(data, binary, err); err != nil {
				s.end(err)
				on = false
			}
		})
	}
}

// received acts on one message of the session's WebSocket, or says why it ends.
func (s *session) received(data []byte, binary bool, err error) error {
	if err != nil {
		return lossOf(err)
	}
	p := enginePacket{typ: eioMessage, data: data, binary: true}
	if !binary {
		if p, err = parseEnginePacket(data, false); err != nil {
			return err
		}
	}
	return s.packet(p)
}

// upgrade starts a WebSocket that wants to take over from polling (protocol 4,
// "Upgrade"), and goes on in a goroutine of the server's: for the rest of the
// session's life if it does. Whatever goes wrong before that, the session goes on
// polling.
func (s *session) upgrade(w http.ResponseWriter, r *http.Request) {
	ws, err := s.srv.acceptWebSocket(w, r)
	if err != nil {
		return
	}
	s.srv.wg.Go(func() {
		defer ws.Wait()
		if s.admitProbe(ws) && s.probing(ws) && s.takeOver(ws) {
			s.readLoop(ws)
			return
		}
		s.mu.Lock()
		s.dropProbe(ws)
		s.mu.Unlock()
		ws.Close(1000, "")
	})
}

// admitProbe makes ws the one WebSocket that may take over, for as long as that
// may take.
func (s *session) admitProbe(ws *fanout.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil || s.transport != Polling || s.probe != nil {
		return false
	}
	s.probe = ws
	s.arm(&s.dawdle, s.srv.opts.UpgradeTimeout, func() func() {
		s.dropProbe(ws)
		return func() { ws.Close(1000, "upgrade timeout") }
	})
	return true
}

// dropProbe makes way for another upgrade. mu is held.
func (s *session) dropProbe(ws *fanout.Conn) {
	if s.probe == ws {
		s.probe, s.probed = nil, false
		s.disarm(&s.dawdle)
		s.disarm(&s.rest)
		s.wake.Broadcast()
	}
}

// probing answers the probe and waits for the client to be done with polling.
// Nothing but the answer is written.
func (s *session) probing(ws *fanout.Conn) bool {
	if !expect(ws, eioPing, probe) {
		return false
	}
	s.mu.Lock()
	if s.ended == nil && s.probe == ws {
		s.probed = true // from the answer on the client may stop polling
		s.arm(&s.rest, probeRest, s.releasePoll)
	}
	s.mu.Unlock()
	if ws.Write(appendUnit(nil, WebSocket, append([]byte{eioPong}, probe...))) != nil {
		return false
	}
	return expect(ws, eioUpgrade, "")
}

func expect(ws *fanout.Conn, typ byte, data string) bool {
	b, binary, err := ws.Read()
	if err != nil || binary {
		return false
	}
	p, err := parseEnginePacket(b, false)
	return err == nil && p.typ == typ && string(p.data) == data
}

// takeOver makes ws the session's transport. What waited for a poll goes out
// on it first; a poll that still hangs is refused; a post that is still being
// acted on comes before what is read here.
func (s *session) takeOver(ws *fanout.Conn) bool {
	s.mu.Lock()
	if s.probe != ws {
		s.mu.Unlock()
		return false
	}
	s.disarm(&s.dawdle)
	for s.posting && s.ended == nil {
		s.wake.Wait()
	}
	if s.ended != nil {
		s.mu.Unlock()
		return false
	}
	s.probe, s.probed = nil, false
	for _, a := range []*alarm{&s.rest, &s.gone, &s.slow} {
		s.disarm(a)
	}
	units := s.out
	s.out = nil
	if s.poll != nil {
		s.answerPoll(nil) // the client should have paused
	}
	s.transport, s.ws, s.writing = WebSocket, ws, true
	s.mu.Unlock()
	return s.writeFrames(ws, Polling, units) == nil
}
