package fanout_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"example.com/chat/internal/fanout"
)

// A socket is a server's end of a connection in a bubble, with a send buffer as
// an operating system's has: a write waits only while that is full. How much
// room there is, is the test's to say; the peer's reading doesn't make any.
type socket struct {
	net.Conn // the pipe that it reads from

	mu       sync.Mutex
	moved    sync.Cond // on mu: one of the fields below changed
	sent     []byte    // what the peer has not read yet
	room     int
	closed   bool
	deadline time.Time
	alarm    *time.Timer
	err      error         // what a try meets, if not nil
	notice   time.Duration // after which a waiting write learns of the end
}

func newSocket(nc net.Conn) *socket {
	s := &socket{Conn: nc, room: 1 << 30}
	s.moved.L = &s.mu
	return s
}

// set says how much room there is.
func (s *socket) set(room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = room
	s.moved.Broadcast()
}

// fail makes tries fail.
func (s *socket) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// take moves what there is room for. mu is held.
func (s *socket) take(p []byte) (int, error) {
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
		return 0, os.ErrDeadlineExceeded
	}
	n := min(s.room, len(p))
	s.room -= n
	s.sent = append(s.sent, p[:n]...)
	s.moved.Broadcast()
	return n, nil
}

func (s *socket) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.take(p)
}

func (s *socket) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		m, err := s.take(p[n:])
		n += m
		if err != nil {
			s.mu.Unlock()
			time.Sleep(s.notice)
			s.mu.Lock()
		}
		if err != nil || n == len(p) {
			return n, err
		}
		s.moved.Wait()
	}
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	if s.alarm != nil {
		s.alarm.Stop()
	}
	if !t.IsZero() {
		s.alarm = time.AfterFunc(time.Until(t), s.moved.Broadcast)
	}
	return nil
}

func (s *socket) SetDeadline(t time.Time) error {
	s.SetWriteDeadline(t)
	return s.Conn.SetReadDeadline(t)
}

func (s *socket) Close() error {
	s.SetWriteDeadline(time.Time{})
	s.mu.Lock()
	s.closed = true
	s.moved.Broadcast()
	s.mu.Unlock()
	return s.Conn.Close()
}

// A socketPeer is the other end.
type socketPeer struct {
	net.Conn
	s *socket
}

func (p socketPeer) Read(b []byte) (int, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for len(p.s.sent) == 0 && !p.s.closed {
		p.s.moved.Wait()
	}
	if len(p.s.sent) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.s.sent)
	p.s.sent = bytes.Clone(p.s.sent[n:])
	return n, nil
}

// connectSocket serves one connection over a socket, in a bubble. There is room
// for all until the test says otherwise.
func connectSocket(t *testing.T, o *fanout.AcceptOptions) (pair, *socket) {
	t.Helper()
	here, there := net.Pipe()
	s := newSocket(there)
	l := newPipeListener()
	l.conns <- s
	return connectOver(t, o, l, socketPeer{here, s}), s
}
