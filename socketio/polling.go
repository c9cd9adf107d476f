package socketio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A poll is a hanging GET. Its answer is given with session.mu held, once, by
// whoever takes it off the session; nil refuses it.
type poll struct{ answer chan []byte }

var (
	okBody   = []byte("ok")
	noopBody = []byte{eioNoop}
)

// errCutOff ends a session whose poll was cut off: it has no next, and only a
// goodbye or an upgrade may still come.
var errCutOff = fmt.Errorf("%w: poll cut off", ErrTransport)

// answerPoll answers the hanging poll. mu is held.
func (s *session) answerPoll(payload []byte) {
	s.poll.answer <- payload // has room for one
	s.poll = nil
}

// get serves a GET of an existing session: what waits for the client, at once
// or as soon as there is something.
func (s *session) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	switch {
	case s.ended != nil:
		last := s.final[0]
		own := errors.Is(s.ended, ErrEngineClosed)
		due := len(s.out) > 0
		if last != nil && due {
			// The close goes by itself: the official client acts on it before
			// the packets ahead of it in a payload, and so would take a
			// DISCONNECT for a broken connection and come back.
			last = s.take()
		} else {
			s.final[0] = nil // once, or one who polls on would turn in circles
		}
		s.mu.Unlock()
		if last == nil {
			refuse(w, codeUnknownSID)
			return
		}
		if !own && !due {
			s.srv.remove(s)
		}
		s.answer(w, last)
		return
	case s.overdue():
		s.mu.Unlock()
		s.end(ErrPingTimeout)
		refuse(w, codeUnknownSID)
		return
	case s.transport != Polling:
		s.mu.Unlock()
		refuse(w, codeBadRequest)
		return
	case s.gone.timer != nil:
		// The last poll was cut off: what was on its way then may be lost.
		s.mu.Unlock()
		s.end(errCutOff)
		refuse(w, codeUnknownSID)
		return
	case s.poll != nil:
		s.mu.Unlock()
		s.end(fmt.Errorf("%w: two polls at once", ErrParse))
		refuse(w, codeBadRequest)
		return
	}
	if len(s.out) > 0 {
		payload := s.take()
		s.mu.Unlock()
		s.answer(w, payload)
		return
	}
	p := &poll{make(chan []byte, 1)}
	s.poll = p
	if s.probed {
		s.arm(&s.rest, probeRest, s.releasePoll)
	}
	s.mu.Unlock()

	// The server's own timeout is for responses that are not waited for.
	http.NewResponseController(w).SetWriteDeadline(time.Time{})
	select {
	case payload := <-p.answer:
		if payload == nil {
			refuse(w, codeBadRequest)
			return
		}
		s.answer(w, payload)
	case <-r.Context().Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.poll == p {
			s.poll = nil
		} else if payload := <-p.answer; s.ended == nil && s.transport == Polling {
			// Nobody was there to take it: it is due again, on a WebSocket.
			s.out = append(append(payload, separator), s.out...)
		}
		if s.ended == nil && s.transport == Polling {
			// A page that goes away cuts its poll and may still say goodbye.
			s.arm(&s.gone, pollGap, func() func() { return func() { s.end(errCutOff) } })
		}
	}
}

// answer writes a payload. One that can't be written may be lost, so the
// session is.
func (s *session) answer(w http.ResponseWriter, payload []byte) {
	if err := respond(w, "text/plain; charset=UTF-8", payload, s.srv.opts.WriteTimeout); err != nil {
		s.end(fmt.Errorf("%w: answering a poll: %v", ErrTransport, err))
	}
}

// respond writes a whole response within timeout.
func respond(w http.ResponseWriter, contentType string, body []byte, timeout time.Duration) error {
	rc := http.NewResponseController(w)
	if timeout > 0 {
		rc.SetWriteDeadline(time.Now().Add(timeout))
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if timeout > 0 {
		rc.SetWriteDeadline(time.Time{}) // it would hold for the connection's next request
	}
	return nil
}

// releasePoll answers a poll that still hangs some time after the probe, so
// that the client can stop polling and upgrade. mu is held.
func (s *session) releasePoll() func() {
	if s.poll != nil {
		s.answerPoll(noopBody)
	}
	return nil
}

// post serves a POST of an existing session: packets of the client's.
func (s *session) post(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	s.mu.Lock()
	switch {
	case s.ended != nil:
		body := s.final[1]
		s.mu.Unlock()
		if body == nil {
			refuse(w, codeUnknownSID)
			return
		}
		s.answerPost(w, body)
		return
	case s.transport != Polling:
		s.mu.Unlock()
		refuse(w, codeBadRequest)
		return
	case s.posting:
		s.mu.Unlock()
		s.end(fmt.Errorf("%w: two posts at once", ErrParse))
		refuse(w, codeBadRequest)
		return
	}
	s.posting = true
	s.abort = func() { rc.SetReadDeadline(time.Now()) }
	if s.gone.timer != nil { // a sign of life, but not a poll
		s.arm(&s.gone, pollGap, func() func() { return func() { s.end(errCutOff) } })
	}
	s.mu.Unlock()
	// taken is called before the answer goes out: a quick client sends its next post as soon as it has read that.
	taken := sync.OnceFunc(func() {
		s.mu.Lock()
		s.posting = false
		s.abort = nil
		s.wake.Broadcast()
		s.mu.Unlock()
	})
	defer taken() // also after the returns below

	body := r.Body
	if limit := s.srv.opts.MaxPayload; limit >= 0 {
		if r.ContentLength > limit {
			s.end(fmt.Errorf("%w: body of %d bytes", ErrTooBig, r.ContentLength))
			if r.ProtoMajor < 2 { // over HTTP/2 it would end others' sessions' connection
				w.Header().Set("Connection", "close")
			}
			refuseStatus(w, http.StatusRequestEntityTooLarge, codeBadRequest, "payload too large")
			return
		}
		body = http.MaxBytesReader(w, r.Body, limit)
	}
	payload, err := io.ReadAll(body)
	s.mu.Lock()
	s.abort = nil
	s.mu.Unlock()
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		s.end(fmt.Errorf("%w: body over %d bytes", ErrTooBig, tooBig.Limit))
		refuseStatus(w, http.StatusRequestEntityTooLarge, codeBadRequest, "payload too large")
		return
	case err != nil:
		s.end(fmt.Errorf("%w: reading a post: %v", ErrTransport, err))
		refuse(w, codeBadRequest)
		return
	}
	rc.SetReadDeadline(time.Time{})  // what follows may wait for a place
	rc.SetWriteDeadline(time.Time{}) // in a queue
	if err := s.packets(payload); err != nil {
		s.end(err)
		if errors.Is(err, ErrTooBig) {
			refuseStatus(w, http.StatusRequestEntityTooLarge, codeBadRequest, "payload too large")
			return
		}
		if !errors.Is(err, ErrEngineClosed) && !errors.Is(err, ErrServerClosed) && !errors.Is(err, ErrDisconnected) {
			refuse(w, codeBadRequest)
			return
		}
	}
	taken()
	s.answerPost(w, okBody)
}

// packets acts on the packets of a payload, all of which are packets.
func (s *session) packets(payload []byte) error {
	if err := checkPayload(payload); err != nil {
		return err
	}
	for p, err := range payloadPackets(payload) {
		if err != nil {
			return err
		}
		if p.typ == eioMessage && !p.binary {
			p.data = bytes.Clone(p.data) // who keeps a message doesn't keep the whole body
		}
		if err := s.packet(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) answerPost(w http.ResponseWriter, body []byte) {
	if err := respond(w, "text/html", body, s.srv.opts.WriteTimeout); err != nil {
		// The client will see that its post failed; what it sent was acted on.
		s.end(fmt.Errorf("%w: answering a post: %v", ErrTransport, err))
	}
}
