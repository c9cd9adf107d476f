package fanout_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"example.com/chat/internal/fanout"
)

// A peer is a WebSocket client of a few lines that hides nothing: it shows each
// frame as it came and sends what it is told, right or wrong.
type peer struct {
	net.Conn
	br   *bufio.Reader
	resp *http.Response
}

type frame struct {
	Op      byte
	Payload string
}

func (f frame) code() int {
	if len(f.Payload) < 2 {
		return fanout.CloseNoStatus
	}
	return int(binary.BigEndian.Uint16([]byte(f.Payload)))
}

// handshake upgrades nc, with the headers given as "Name: value".
func handshake(nc net.Conn, headers ...string) (*peer, error) {
	req := "GET /ws HTTP/1.1\r\nHost: chat.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for _, h := range headers {
		req += h + "\r\n"
	}
	if _, err := io.WriteString(nc, req+"\r\n"); err != nil {
		return nil, err
	}
	p := &peer{Conn: nc, br: bufio.NewReader(nc)}
	var err error
	if p.resp, err = http.ReadResponse(p.br, nil); err != nil {
		return nil, err
	}
	return p, nil
}

// next reads one frame and fails on any that a server must not send.
func (p *peer) next() (frame, error) {
	var h [10]byte
	if _, err := io.ReadFull(p.br, h[:2]); err != nil {
		return frame{}, err
	}
	if h[0]&0xF0 != 0x80 {
		return frame{}, fmt.Errorf("first byte %#x: want FIN and no RSV", h[0])
	}
	n := uint64(h[1])
	switch {
	case h[1] > 127:
		return frame{}, fmt.Errorf("a server's frame is masked: %#x", h[1])
	case h[1] == 126:
		if _, err := io.ReadFull(p.br, h[2:4]); err != nil {
			return frame{}, err
		}
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case h[1] == 127:
		if _, err := io.ReadFull(p.br, h[2:10]); err != nil {
			return frame{}, err
		}
		n = binary.BigEndian.Uint64(h[2:])
	}
	if n > 1<<24 {
		return frame{}, fmt.Errorf("a frame of %d bytes: out of step", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(p.br, b)
	return frame{h[0] & 0xF, string(b)}, err
}

// masked is one frame as a client sends it, with the mask 1, 2, 3, 4.
func masked(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, 1, 2, 3, 4)
	for i := range len(payload) {
		b = append(b, payload[i]^byte(i%4+1))
	}
	return b
}

func (p *peer) send(op byte, payload string) error {
	_, err := p.Write(masked(0x80|op, payload))
	return err
}

func closing(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// A pipeListener is a network of net.Pipes, for bubbles.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

// A choppy listener's connections take each write in two, with a chance for
// others between, as a connection is allowed to that nobody locks.
type choppy struct{ net.Listener }

func (l choppy) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return chopped{c}, err
}

type chopped struct{ net.Conn }

func (c chopped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	runtime.Gosched()
	m, err := c.Conn.Write(p[len(p)/2:])
	return n + m, err
}

// A pair is a server's Conn and the peer at its other end. Its end closes both
// and waits for the server, so in a bubble it also looks for leaks.
type pair struct {
	*fanout.Conn
	peer *peer
	end  func()
}

// connect serves one connection with o: over a pipe in a bubble, else over TCP.
func connect(t *testing.T, o *fanout.AcceptOptions, bubble bool, headers ...string) pair {
	t.Helper()
	if bubble {
		l := newPipeListener()
		return connectOver(t, o, l, l.dial(), headers...)
	}
	l, nc := listenTCP(t)
	return connectOver(t, o, choppy{l}, nc, headers...)
}

// listenTCP returns a listener and a connection to it that is not accepted yet.
func listenTCP(t testing.TB) (net.Listener, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return l, nc
}

// connectOver serves the connection that l accepts, nc at its other end.
func connectOver(t testing.TB, o *fanout.AcceptOptions, l net.Listener, nc net.Conn, headers ...string) pair {
	t.Helper()
	got, release := make(chan *fanout.Conn, 1), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := fanout.Accept(w, r, o)
		if err != nil {
			t.Errorf("Accept: %v", err)
		}
		got <- c
		<-release
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	p, err := handshake(nc, headers...)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	if p.resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %s", p.resp.Status)
	}
	c := <-got
	return pair{c, p, func() {
		t.Helper()
		p.Close()
		c.Close(1000, "")
		c.Wait()
		close(release)
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	}}
}
