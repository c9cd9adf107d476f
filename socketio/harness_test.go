package socketio_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// A world is a server, its http.Server and its clients on a network of pipes,
// in a bubble: time is virtual, and a goroutine left behind fails the test.
type world struct {
	*testing.T
	srv  *socketio.Server
	http *http.Server
	web  *http.Client
	base string // the endpoint's URL
	net  *pipeNet

	sockets chan *socketio.Socket // each that echo was started for
	ends    chan error            // what Receive of each ended with
	names   chan string           // of the events that echo received
	next    chan struct{}         // what a handler of a test's own may wait for
}

// in runs f in a world. The handler of "/" and "/custom" is w.echo, if f is to
// have another it makes its own server and says so by a nil o and handle.
func in(t *testing.T, o *socketio.Options, f func(w *world)) {
	t.Helper()
	inWith(t, o, &http.Server{}, nil, f)
}

func inWith(t *testing.T, o *socketio.Options, hs *http.Server, handle func(w *world, s *socketio.Socket), f func(w *world)) {
	t.Helper()
	if handle == nil {
		handle = (*world).echo
	}
	inServer(t, hs, func(w *world) *socketio.Server {
		srv := socketio.NewServer(o)
		for _, ns := range []string{"/", "/custom"} {
			srv.Handle(ns, func(s *socketio.Socket) { handle(w, s) })
		}
		return srv
	}, f)
}

// inEngine runs f in a world whose server is one of bare Engine.IO.
func inEngine(t *testing.T, o *socketio.Options, handle func(w *world, c *socketio.Conn), f func(w *world)) {
	t.Helper()
	inServer(t, &http.Server{}, func(w *world) *socketio.Server {
		return socketio.NewEngine(o, func(c *socketio.Conn) { handle(w, c) })
	}, f)
}

func inServer(t *testing.T, hs *http.Server, newServer func(w *world) *socketio.Server, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, http: hs, net: newPipeNet(),
			sockets: make(chan *socketio.Socket, 100), ends: make(chan error, 100), names: make(chan string, 10000), next: make(chan struct{})}
		w.srv = newServer(w)
		mux := http.NewServeMux()
		mux.Handle("/socket.io/", w.srv)
		hs.Handler = mux
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.net.dial() }}
		w.web, w.base = &http.Client{Transport: tr}, "http"+base
		serve := func() error { return hs.Serve(w.net) }
		if hs.TLSConfig != nil {
			tr.TLSClientConfig, tr.ForceAttemptHTTP2 = &tls.Config{InsecureSkipVerify: true}, true
			w.base = "https" + base
			serve = func() error { return hs.ServeTLS(w.net, "", "") }
		}
		served := make(chan error, 1)
		go func() { served <- serve() }()
		f(w)
		w.net.cut()
		tr.CloseIdleConnections()
		w.srv.Close()
		hs.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		time.Sleep(time.Second) // http.Server rests that long before it closes after a 413
	})
}

// echo is the handler that the public test suites for servers ask for: it
// shows the auth, echoes "message" and acknowledges "message-with-ack".
func (w *world) echo(s *socketio.Socket) {
	w.sockets <- s
	if s.Auth() != nil {
		s.Emit("auth", s.Auth())
	}
	for {
		e, err := s.Receive()
		if err != nil {
			w.ends <- err
			return
		}
		w.names <- e.Name
		var args []any
		for i, a := range e.Args {
			if b, ok := e.Binary(i); ok {
				args = append(args, b)
			} else {
				args = append(args, a)
			}
		}
		switch e.Name {
		case "message":
			err = s.Emit("message-back", args...)
		case "message-with-ack":
			err = e.Ack(args...)
		}
		if err != nil {
			w.Errorf("answering %s: %v", e.Name, err)
		}
	}
}

// ended is what the next socket that ends ends with.
func (w *world) ended() error {
	w.Helper()
	select {
	case err := <-w.ends:
		return err
	case <-time.After(time.Hour):
		w.Fatal("no socket has ended")
		return nil
	}
}

// wantEnd checks that a socket ends, with an error that is want, after d.
func (w *world) wantEnd(want error, d time.Duration) {
	w.Helper()
	start := time.Now()
	err := w.ended()
	if !errors.Is(err, want) {
		w.Errorf("Receive: %v, want %v", err, want)
	}
	if got := time.Since(start); got != d {
		w.Errorf("ended after %v, want %v", got, d)
	}
}

// A response is what an HTTP request got.
type response struct {
	Status int
	Body   string
}

const base = "://chat.test/socket.io/"

func (w *world) do(method, query, body string, headers ...string) (response, http.Header) {
	w.Helper()
	req, err := http.NewRequest(method, w.base+query, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := w.web.Do(req)
	if err != nil {
		return response{0, err.Error()}, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{0, err.Error()}, nil
	}
	return response{resp.StatusCode, string(b)}, resp.Header
}

func refusal(code int) response {
	texts := []string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden", "Unsupported protocol version"}
	status := 400
	if code == 4 {
		status = 403
	}
	return response{status, fmt.Sprintf(`{"code":%d,"message":"%s"}`, code, texts[code])}
}

var ok = response{200, "ok"}

// A pollClient is a session on polling.
type pollClient struct {
	w   *world
	sid string
	q   string
}

type opening struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int      `json:"pingInterval"`
	PingTimeout  int      `json:"pingTimeout"`
	MaxPayload   int      `json:"maxPayload"`
}

func (w *world) opening(packet string) opening {
	w.Helper()
	var o opening
	if !strings.HasPrefix(packet, "0") {
		w.Fatalf("handshake answered %q", packet)
	}
	if err := json.Unmarshal([]byte(packet[1:]), &o); err != nil {
		w.Fatalf("handshake answered %q: %v", packet, err)
	}
	return o
}

func (w *world) poll() pollClient {
	w.Helper()
	r, _ := w.do("GET", "?EIO=4&transport=polling", "")
	o := w.opening(r.Body)
	return pollClient{w, o.SID, "?EIO=4&transport=polling&sid=" + o.SID}
}

func (p pollClient) get() response             { r, _ := p.w.do("GET", p.q, ""); return r }
func (p pollClient) post(body string) response { r, _ := p.w.do("POST", p.q, body); return r }

// hang starts a GET; its response comes when it comes.
func (p pollClient) hang() <-chan response {
	ch := make(chan response, 1)
	go func() { ch <- p.get() }()
	synctest.Wait()
	return ch
}

// cutOff hangs a GET and cuts it off.
func (p pollClient) cutOff() {
	p.w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", p.w.base+p.q, nil)
	if err != nil {
		p.w.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := p.w.web.Do(req); err == nil {
			p.w.Error("a poll was answered, not cut off")
		}
	}()
	synctest.Wait()
	cancel()
	<-done
	synctest.Wait()
}

// want checks what the next GET gets.
func (p pollClient) want(body string) {
	p.w.Helper()
	if r := p.get(); r != (response{200, body}) {
		p.w.Errorf("poll got %d %.80q, want %.80q", r.Status, r.Body, body)
	}
}

// send posts packets, which must be taken.
func (p pollClient) send(packets ...string) {
	p.w.Helper()
	if r := p.post(strings.Join(packets, "\x1e")); r != ok {
		p.w.Errorf("posting %q got %d %q", packets, r.Status, r.Body)
	}
}

// connect connects to the default namespace.
func (p pollClient) connect() pollClient {
	p.w.Helper()
	p.send("40")
	if r := p.get(); !strings.HasPrefix(r.Body, `40{"sid":`) {
		p.w.Fatalf("CONNECT got %v", r)
	}
	return p
}

// gone checks that the session is unknown now.
func (p pollClient) gone() {
	p.w.Helper()
	if r := p.get(); r != refusal(1) {
		p.w.Errorf("poll got %v, want an unknown session", r)
	}
}

// A wsClient is a WebSocket of a few lines that shows each frame as it came.
type wsClient struct {
	w      *world
	conn   net.Conn
	sid    string
	frames chan frame    // closed at the connection's end
	stall  chan struct{} // closed: nothing more is read
}

type frame struct {
	Op      byte // 1 text, 2 binary, 8 close, 9 ping, 10 pong
	Payload string
}

func text(s string) frame { return frame{1, s} }

func closing(code int, reason string) frame {
	return frame{8, string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason}
}

// dial asks for a WebSocket and returns a nil client if it was refused.
func (w *world) dial(query string, headers ...string) (*wsClient, response) {
	w.Helper()
	conn, err := w.net.dial()
	if err != nil {
		w.Fatal(err)
	}
	req := "GET /socket.io/" + query + " HTTP/1.1\r\nHost: chat.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for _, h := range headers {
		req += h + "\r\n"
	}
	go io.WriteString(conn, req+"\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		w.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			w.Fatal(err)
		}
		return nil, response{resp.StatusCode, string(b)}
	}
	c := &wsClient{w: w, conn: conn, frames: make(chan frame, 10000), stall: make(chan struct{})}
	go func() {
		defer close(c.frames)
		for {
			f, err := readFrame(br)
			if err != nil {
				return
			}
			select {
			case <-c.stall:
				return
			default:
			}
			c.frames <- f
		}
	}()
	return c, response{101, ""}
}

func readFrame(br *bufio.Reader) (frame, error) {
	var h [10]byte
	if _, err := io.ReadFull(br, h[:2]); err != nil {
		return frame{}, err
	}
	n := uint64(h[1])
	switch h[1] {
	case 126:
		if _, err := io.ReadFull(br, h[2:4]); err != nil {
			return frame{}, err
		}
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		if _, err := io.ReadFull(br, h[2:10]); err != nil {
			return frame{}, err
		}
		n = binary.BigEndian.Uint64(h[2:])
	}
	b := make([]byte, n)
	_, err := io.ReadFull(br, b)
	return frame{h[0] & 0xF, string(b)}, err
}

// ws is a session that starts on a WebSocket.
func (w *world) ws() *wsClient {
	w.Helper()
	c, r := w.dial("?EIO=4&transport=websocket")
	if c == nil {
		w.Fatalf("handshake got %v", r)
	}
	c.sid = w.opening(c.next().Payload).SID
	return c
}

// next is the next frame, or the zero frame at the connection's end.
func (c *wsClient) next() frame {
	c.w.Helper()
	select {
	case f := <-c.frames:
		return f
	case <-time.After(time.Hour):
		c.w.Fatal("no frame came")
		return frame{}
	}
}

func (c *wsClient) want(fs ...frame) {
	c.w.Helper()
	for _, want := range fs {
		if f := c.next(); f != want {
			c.w.Errorf("got frame %d %.80q, want %d %.80q", f.Op, f.Payload, want.Op, want.Payload)
		}
	}
}

// nothing checks that no frame has come.
func (c *wsClient) nothing() {
	c.w.Helper()
	synctest.Wait()
	select {
	case f, open := <-c.frames:
		c.w.Errorf("got frame %d %q, open %v; want none", f.Op, f.Payload, open)
	default:
	}
}

func (c *wsClient) send(fs ...frame) {
	c.w.Helper()
	for _, f := range fs {
		b := []byte{0x80 | f.Op}
		switch n := len(f.Payload); {
		case n < 126:
			b = append(b, 0x80|byte(n))
		case n <= 0xFFFF:
			b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
		}
		b = append(b, 0, 0, 0, 0)
		if _, err := c.conn.Write(append(b, f.Payload...)); err != nil {
			c.w.Logf("sending %v: %v", f, err)
			return
		}
	}
}

func (c *wsClient) connect() *wsClient {
	c.w.Helper()
	c.send(text("40"))
	if f := c.next(); !strings.HasPrefix(f.Payload, `40{"sid":`) {
		c.w.Fatalf("CONNECT got %v", f)
	}
	return c
}

// closed checks that the server closes, with code, and answers it.
func (c *wsClient) closed(code int) {
	c.w.Helper()
	f := c.next()
	if f.Op != 8 || len(f.Payload) < 2 || int(binary.BigEndian.Uint16([]byte(f.Payload))) != code {
		c.w.Errorf("got frame %d %q, want close %d", f.Op, f.Payload, code)
		return
	}
	c.send(frame{8, f.Payload[:2]})
	c.want(frame{})
}

// A pipeNet is a network of pipes.
type pipeNet struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	all  []net.Conn
	room int // if more than 0, what the server's ends take without waiting
	ends []*buffered
}

func newPipeNet() *pipeNet {
	return &pipeNet{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *pipeNet) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (n *pipeNet) dial() (net.Conn, error) {
	here, there := net.Pipe()
	end := there
	n.mu.Lock()
	if n.room > 0 {
		b := newBuffered(there, n.room)
		end, n.ends = b, append(n.ends, b)
	}
	n.mu.Unlock()
	select {
	case n.conns <- end:
	case <-n.done:
		return nil, net.ErrClosed
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, here)
	return here, nil
}

// cut ends every connection.
func (n *pipeNet) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.all {
		c.Close()
	}
}

// forget ends every connection and remembers none.
func (n *pipeNet) forget() {
	n.cut()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = nil
}

// count is how many connections were made.
func (n *pipeNet) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all)
}

// A buffered connection takes some bytes that its peer has not read yet, without
// waiting, as a socket does and a pipe doesn't.
type buffered struct {
	net.Conn
	mu    sync.Mutex
	moved sync.Cond // on mu: one of the fields below changed
	buf   []byte
	room  int // for that many bytes
	held  bool
	err   error // the end
}

func newBuffered(nc net.Conn, room int) *buffered {
	b := &buffered{Conn: nc, room: room}
	b.moved.L = &b.mu
	go b.pump()
	return b
}

// pump brings the peer what is in buf.
func (b *buffered) pump() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		if len(b.buf) == 0 || b.held {
			b.moved.Wait()
			continue
		}
		out := b.buf
		b.mu.Unlock()
		_, err := b.Conn.Write(out)
		b.mu.Lock()
		b.buf = b.buf[len(out):]
		if b.err == nil {
			b.err = err
		}
		b.moved.Broadcast()
	}
}

// hold makes the peer get nothing, or go on.
func (b *buffered) hold(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = held
	b.moved.Broadcast()
}

// take takes what there is room for. mu is held.
func (b *buffered) take(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n := min(len(p), max(0, b.room-len(b.buf)))
	b.buf = append(b.buf, p[:n]...)
	b.moved.Broadcast()
	return n, nil
}

func (b *buffered) TryWrite(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(p)
}

func (b *buffered) Write(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		m, err := b.take(p[n:])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
		b.moved.Wait()
	}
}

func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = net.ErrClosed
	}
	b.moved.Broadcast()
	return b.Conn.Close()
}
