package chat_test

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nhooyr.io/websocket"

	"example.com/chat"
)

// A pipeListener is a network of net.Pipes, for bubbles. A pipe has no buffer: who doesn't read is a full socket.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
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

// A wsServer is an http.Server with a room at /ws, in a bubble.
type wsServer struct {
	t    testing.TB
	room *chat.Room
	log  *wsEnds
	pipe *pipeListener
}

// serveWS serves a room until the test ends. wrap, if not nil, is put around the handler.
func serveWS(t testing.TB, ro *chat.RoomOptions, o *chat.WebSocketOptions, wrap func(http.Handler) http.Handler) *wsServer {
	t.Helper()
	s := &wsServer{t: t, log: &wsEnds{}, pipe: &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}}
	var opts chat.RoomOptions
	if ro != nil {
		opts = *ro
	}
	opts.Logger = slog.New(s.log)
	s.room = newRoom(t, &opts)
	h := chat.NewWebSocketHandler(s.room, o)
	if wrap != nil {
		h = wrap(h)
	}
	srv := &http.Server{Handler: h, ReadTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.pipe) }()
	t.Cleanup(func() {
		s.room.Close()
		if err := srv.Close(); err != nil {
			t.Errorf("http.Server: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("http.Server: %v", err)
		}
	})
	return s
}

// connect returns a connection to the server, without a word on it yet.
func (s *wsServer) connect() net.Conn {
	here, there := net.Pipe()
	s.pipe.conns <- there
	s.t.Cleanup(func() { here.Close() })
	return here
}

// wsEnds is a slog.Handler that keeps what connections ended with.
type wsEnds struct {
	mu   sync.Mutex
	errs []error
}

func (e *wsEnds) Enabled(context.Context, slog.Level) bool { return true }
func (e *wsEnds) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *wsEnds) WithGroup(string) slog.Handler            { return e }
func (e *wsEnds) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && a.Key == "err" {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.errs = append(e.errs, err)
		}
		return true
	})
	return nil
}

// has reports whether a connection ended with target.
func (e *wsEnds) has(target error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, err := range e.errs {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// says reports whether a connection ended with an error of these words.
func (e *wsEnds) says(words string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, err := range e.errs {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// A wsClient is a chat.v1 client that reads all the time.
type wsClient struct {
	t      testing.TB
	ws     *websocket.Conn
	frames chan string // closed when the connection has ended
	err    error       // why; set before
}

// dial connects a client in a bubble, with headers as "Name: value".
func (s *wsServer) dial(headers ...string) *wsClient {
	s.t.Helper()
	c, resp, err := s.tryDial(headers...)
	if err != nil {
		s.t.Fatalf("dial: %v (%v)", err, resp)
	}
	return c
}

func (s *wsServer) tryDial(headers ...string) (*wsClient, *http.Response, error) {
	return dialWS(s.t, "ws://chat.test/ws", &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return s.connect(), nil },
	}}, headers...)
}

// dialWS connects a client that is gone when the test ends.
func dialWS(t testing.TB, url string, hc *http.Client, headers ...string) (*wsClient, *http.Response, error) {
	header := http.Header{}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		header.Add(name, value)
	}
	o := &websocket.DialOptions{HTTPClient: hc, HTTPHeader: header, Subprotocols: []string{"chat.v1"}}
	ws, resp, err := websocket.Dial(context.Background(), url, o)
	if err != nil {
		return nil, resp, err
	}
	if p := ws.Subprotocol(); p != "chat.v1" {
		t.Errorf("the subprotocol is %q", p)
	}
	ws.SetReadLimit(-1)
	c := &wsClient{t: t, ws: ws, frames: make(chan string, 10_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c.frames)
		for {
			typ, b, err := ws.Read(context.Background())
			if err != nil {
				c.err = err
				return
			}
			if typ != websocket.MessageText {
				t.Errorf("a frame of type %v", typ)
			}
			c.frames <- string(b)
		}
	}()
	t.Cleanup(func() {
		ws.CloseNow()
		<-done
		hc.CloseIdleConnections()
	})
	return c, resp, nil
}

func (c *wsClient) send(frame string) {
	c.t.Helper()
	if err := c.ws.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
		c.t.Fatalf("sending %.100s: %v", frame, err)
	}
}

// A real epoch, a token and a time differ from run to run.
var (
	wsEpochs = regexp.MustCompile(`"[0-9a-f]+-(\d+)"`)
	wsTokens = regexp.MustCompile(`"token":"[A-Z2-7]{26}"`)
	wsTimes  = regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
)

// wsSettled returns a frame without them, as the tests write it: e for the epoch, k for a token, t for a time.
func wsSettled(frame string) string {
	frame = wsTokens.ReplaceAllString(frame, `"token":"k"`)
	return wsTimes.ReplaceAllString(wsEpochs.ReplaceAllString(frame, `"e-$1"`), `"time":"t"`)
}

// next returns the next frame, as it came.
func (c *wsClient) next() string {
	c.t.Helper()
	select {
	case f, ok := <-c.frames:
		if !ok {
			c.t.Fatalf("the connection has ended: %v", c.err)
		}
		return f
	case <-time.After(time.Minute):
		c.t.Fatal("no frame within a minute")
	}
	panic("unreachable")
}

// want fails the test if the next frames are others.
func (c *wsClient) want(frames ...string) {
	c.t.Helper()
	for _, want := range frames {
		if got := wsSettled(c.next()); got != want {
			c.t.Errorf("frame\n got %s\nwant %s", got, want)
		}
	}
}

// login logs in, and drops what the server says to that.
func (c *wsClient) login(name string) {
	c.t.Helper()
	c.send(`{"op":"login","name":"` + name + `"}`)
	if got := c.next(); !strings.HasPrefix(got, `{"reply":"login"`) {
		c.t.Fatalf("login: %s", got)
	}
	if got := c.next(); !strings.HasPrefix(got, `{"event":"joined"`) {
		c.t.Fatalf("login: %s", got)
	}
}

// quiet fails the test if there is a frame that nobody asked for.
func (c *wsClient) quiet() {
	c.t.Helper()
	synctest.Wait()
	if len(c.frames) > 0 {
		c.t.Errorf("a frame too many: %s", <-c.frames)
	}
}

// wantClose waits for the end of the connection, and fails the test if the server says it otherwise.
func (c *wsClient) wantClose(code int, reason string) {
	c.t.Helper()
	end := time.After(time.Hour)
	for {
		select {
		case _, ok := <-c.frames:
			if ok {
				continue
			}
			want := strings.TrimSpace(fmt.Sprint("close ", code, " ", reason))
			if got := c.ended(); got != want {
				c.t.Errorf("the end\n got %s\nwant %s", got, want)
			}
			return
		case <-end:
			c.t.Fatal("the connection has not ended")
		}
	}
}

// ended returns what the connection has ended with: the server's close frame, or an error.
func (c *wsClient) ended() string {
	var ce websocket.CloseError
	if errors.As(c.err, &ce) {
		return strings.TrimSpace(fmt.Sprint("close ", int(ce.Code), " ", ce.Reason))
	}
	return c.err.Error()
}

// bye sends a close frame, and waits for the answer.
func (c *wsClient) bye(code int) {
	c.t.Helper()
	if err := c.ws.Close(websocket.StatusCode(code), ""); err != nil {
		c.t.Errorf("closing: %v", err)
	}
}

// drop cuts the connection, without a word.
func (c *wsClient) drop() {
	c.ws.CloseNow()
	synctest.Wait()
}

// A rawPeer is a client that does only what it is told: it answers no ping and no close frame.
type rawPeer struct {
	net.Conn
	br *bufio.Reader
	t  testing.TB
}

// stranger connects one that has said nothing yet.
func (s *wsServer) stranger() *rawPeer {
	c := s.connect()
	return &rawPeer{Conn: c, t: s.t, br: bufio.NewReader(c)}
}

// raw connects one by WebSocket.
func (s *wsServer) raw() *rawPeer {
	s.t.Helper()
	p := s.stranger()
	resp := p.ask("GET", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: chat.v1")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("handshake: %s", resp.Status)
	}
	return p
}

// ask sends one HTTP request.
func (p *rawPeer) ask(method string, headers ...string) *http.Response {
	p.t.Helper()
	req := method + " /ws HTTP/1.1\r\nHost: chat.test\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(p, req); err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

// send sends one frame: first is its first byte, FIN and opcode.
func (p *rawPeer) send(first byte, payload string) {
	p.t.Helper()
	if _, err := p.Write(rawFrame(first, payload)); err != nil {
		p.t.Fatalf("sending: %v", err)
	}
}

// rawFrame returns a client's frame.
func rawFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	return append(b, payload...)
}

// next returns the next frame's opcode and payload; an error at the end.
func (p *rawPeer) next() (op byte, payload string, err error) {
	var h [4]byte
	if _, err := io.ReadFull(p.br, h[:2]); err != nil {
		return 0, "", err
	}
	n := int(h[1])
	if n == 126 {
		if _, err := io.ReadFull(p.br, h[2:]); err != nil {
			return 0, "", err
		}
		n = int(binary.BigEndian.Uint16(h[2:]))
	}
	if h[0]&0xF0 != 0x80 || n > 126 && h[1] != 126 {
		return 0, "", fmt.Errorf("not a frame that this peer reads: % x", h)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(p.br, b)
	return h[0] & 0xF, string(b), err
}

// closed reads up to the close frame, and returns what it says.
func (p *rawPeer) closed() string {
	for {
		op, payload, err := p.next()
		switch {
		case err != nil:
			return err.Error()
		case op == 8 && len(payload) < 2:
			return "no code"
		case op == 8:
			return fmt.Sprint(binary.BigEndian.Uint16([]byte(payload)), " ", payload[2:])
		}
	}
}

// follow subscribes to the room.
func (s *wsServer) follow() *chat.Subscription {
	s.t.Helper()
	sub, err := s.room.Subscribe(context.Background(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return sub
}

// wsLeft waits until somebody leaves, and returns why.
func wsLeft(t testing.TB, sub *chat.Subscription) chat.Reason {
	t.Helper()
	for {
		if e, ok := next(t, sub).(chat.Left); ok {
			return e.Reason
		}
	}
}
