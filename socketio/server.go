// Package socketio is a Socket.IO server: protocol 5 on Engine.IO protocol 4,
// as the official JavaScript client speaks them since its version 3, over HTTP
// long-polling and WebSocket.
//
//	srv := socketio.NewServer(nil)
//	srv.Handle("/", func(s *socketio.Socket) {
//		for {
//			e, err := s.Receive()
//			if err != nil {
//				return
//			}
//			s.Emit("echo", e.Name)
//		}
//	})
//	http.Handle("/socket.io/", srv)
//
// What it promises:
//
//   - Order. A client's events are received in the order it sent them, and it
//     gets what is written to its Socket in the order written, each once, also
//     across an upgrade from polling to WebSocket.
//   - Goodbye or loss. [Socket.Receive] ends with io.EOF for a client that said
//     goodbye, and with another error for one that was lost. A client that
//     vanishes is lost within PingInterval + PingTimeout. The official client
//     says nothing on polling when its tab closes: it is lost, not gone.
//   - Bounds. What waits in memory for or from one client is bounded by
//     Options; a client beyond them is held up or ended, and nobody else is
//     delayed. README.md has them in a table.
//   - Bad input ends that one connection.
//   - Nothing is left. After [Server.Close] no goroutine of the server's
//     exists.
//
// It knows no rooms and no broadcast: an event for many is encoded once with
// [AppendEvent] and written to each with [Socket.WriteEncoded], or without
// waiting with [Socket.TryWriteEncoded]. Who may connect, and what who comes back
// has missed, is the program's to say: Options.Connect.
// [NewEngine] serves Engine.IO alone.
//
// Engine.IO 3 (clients before version 3), JSONP, WebTransport and compression
// are missing on purpose.
package socketio

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/chat/internal/fanout"
)

// Options configures NewServer. The zero value is ready for use. Where nothing
// else is said, zero means the default and negative none.
type Options struct {
	// Path, if not empty, is the prefix that a request's path must have, else
	// it is answered with 404. Empty: any path that requests come in under.
	Path string
	// PingInterval is the time from one sign of life to the next ping. Zero
	// and less mean 25 s.
	PingInterval time.Duration
	// PingTimeout is the time that a client has to answer a ping. Zero and
	// less mean 20 s.
	PingTimeout time.Duration
	// ConnectTimeout ends a connection that is in no namespace; one that Connect
	// has not answered for is none. Zero means 45 s.
	ConnectTimeout time.Duration
	// UpgradeTimeout ends an upgrade that is not completed; the session goes
	// on polling. Zero means 10 s.
	UpgradeTimeout time.Duration
	// WriteTimeout is how long a client may not take what is written to it.
	// Zero means 10 s.
	WriteTimeout time.Duration
	// MaxPayload is the largest body of a POST and the largest WebSocket
	// message accepted, in bytes. Zero means 1,000,000.
	MaxPayload int64
	// MaxUnread bounds, in bytes, what waits for a client's next poll, the
	// events of all its namespaces that wait for Receive, and a packet with its
	// attachments: a write, an event or an attachment that finds less than that
	// is taken whole. Writes block then, nothing is read from a client, and too
	// many attachments end the connection with ErrTooBig. Zero means 1 MiB.
	MaxUnread int
	// MaxAttachments is the largest number of attachments of one packet. Zero
	// means 10.
	MaxAttachments int
	// MaxCalls is how many of Socket.Call may wait for one socket's client; one
	// more returns ErrCalls. Zero means 1,000.
	MaxCalls int
	// MaxConnects is how many CONNECT packets a client may send at once, and
	// from then on a minute: each costs a Socket and what the program keeps for
	// it. One more ends the connection with ErrTooMany. Zero means 60; a program
	// that begins something anew for each socket, such as a rate limit, wants
	// little more than it has namespaces.
	MaxConnects int
	// MaxNamespaces is how many namespaces a client may be in at a time; one
	// more is refused, "too many namespaces". Zero means 32.
	MaxNamespaces int
	// AllowedOrigins are patterns of the origins, besides the server's own,
	// whose pages may connect: "*.example.com", "https://example.com",
	// "localhost:*"; "*" is any. See [path.Match].
	AllowedOrigins []string
	// Script is served to browsers as socket.io.js instead of the built-in
	// script.
	Script []byte
	// Admit, if not nil, is asked before a session is made. release, if not
	// nil, is called once when that session has ended. An error refuses the
	// connection with status 429, or that of its method StatusCode() int, and
	// its text.
	Admit func(*http.Request) (release func(), err error)
	// Connect, if not nil, is asked for each CONNECT of a namespace that has a
	// handler, before it is answered. It may block, in a goroutine of the
	// socket's; the namespace's packets wait behind it, bounded by MaxUnread.
	// ctx ends when the client is gone or has left the namespace, and after
	// ConnectTimeout, when the client is refused, "timeout". An error refuses
	// the client: see ConnectError; of another error it is told "refused"
	// alone. Shutdown and Close end ctx and wait for it. Nil grants everybody a
	// new socket without recovery.
	Connect func(ctx context.Context, r *ConnectRequest) (Grant, error)
	// Logger gets one line at level Debug for each session. Nil is silent.
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	for _, d := range []struct {
		p    *time.Duration
		zero time.Duration
	}{
		{&c.ConnectTimeout, 45 * time.Second},
		{&c.UpgradeTimeout, 10 * time.Second},
		{&c.WriteTimeout, 10 * time.Second},
	} {
		if *d.p == 0 {
			*d.p = d.zero
		}
	}
	if c.PingInterval <= 0 {
		c.PingInterval = 25 * time.Second
	}
	if c.PingTimeout <= 0 {
		c.PingTimeout = 20 * time.Second
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 1e6
	}
	for _, n := range []struct {
		p    *int
		zero int
	}{
		{&c.MaxUnread, 1 << 20},
		{&c.MaxAttachments, 10},
		{&c.MaxCalls, 1000},
		{&c.MaxConnects, 60},
		{&c.MaxNamespaces, 32},
	} {
		if *n.p == 0 {
			*n.p = n.zero
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.AllowedOrigins = append([]string(nil), c.AllowedOrigins...)
	return c
}

// A Server is an http.Handler for one Socket.IO endpoint and its script. It
// owns neither listener nor mux, works below any path and behind a proxy. Its
// methods may be called from any goroutine.
type Server struct {
	opts   Options
	script script
	engine func(*Conn)    // of NewEngine, or nil
	wg     sync.WaitGroup // sessions, their timers, sockets' handlers, WebSockets and requests for one

	mu       sync.Mutex // guards the fields below; taken after session.mu, never before
	handlers map[string]func(*Socket)
	sessions map[string]*session
	idle     chan struct{} // made by Shutdown or Close; closed when wg is done
}

// NewServer returns a server; nil is all defaults.
func NewServer(o *Options) *Server {
	opts := o.withDefaults()
	return &Server{
		opts:     opts,
		script:   newScript(opts.Script),
		handlers: make(map[string]func(*Socket)),
		sessions: make(map[string]*session),
	}
}

// Handle registers the handler of a namespace: "/" is the default one, others
// begin with a slash and hold no comma, no question mark and no control
// character. h runs in a goroutine of its own for each socket that connects,
// and its return disconnects the socket. A client that asks for a namespace
// without a handler is refused, "Invalid namespace". Handle panics if namespace
// is malformed or has a handler, or s is from NewEngine.
func (s *Server) Handle(namespace string, h func(*Socket)) {
	if !strings.HasPrefix(namespace, "/") || strings.ContainsFunc(namespace, func(r rune) bool {
		return r == ',' || r == '?' || r < ' '
	}) {
		panic("socketio: malformed namespace " + namespace)
	}
	if s.engine != nil {
		panic("socketio: bare Engine.IO has no namespaces")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers[namespace] != nil {
		panic("socketio: second handler for namespace " + namespace)
	}
	s.handlers[namespace] = h
}

func (s *Server) handler(namespace string) func(*Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handlers[namespace]
}

// Error codes of the reference server, which answers them with status 400, and
// codeForbidden with 403.
const (
	codeUnknownTransport = iota
	codeUnknownSID
	codeBadMethod
	codeBadRequest
	codeForbidden
	codeBadVersion
)

var codeTexts = [...]string{
	codeUnknownTransport: "Transport unknown",
	codeUnknownSID:       "Session ID unknown",
	codeBadMethod:        "Bad handshake method",
	codeBadRequest:       "Bad request",
	codeForbidden:        "Forbidden",
	codeBadVersion:       "Unsupported protocol version",
}

func refuse(w http.ResponseWriter, code int) {
	status := http.StatusBadRequest
	if code == codeForbidden {
		status = http.StatusForbidden
	}
	refuseStatus(w, status, code, codeTexts[code])
}

func refuseStatus(w http.ResponseWriter, status, code int, message string) {
	b, err := json.Marshal(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, message})
	if err != nil {
		panic(err) // a number and a string
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(b)
}

// ServeHTTP serves the script, handshakes, polls, posts and WebSockets. For a
// WebSocket it returns after the handshake: that goes on without the request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// However slowly it comes, and also where nobody wants it, a body can't
		// keep its connection for longer than a client that says nothing.
		rc, patience := http.NewResponseController(w), time.Now().Add(s.opts.PingInterval+s.opts.PingTimeout)
		rc.SetReadDeadline(patience)
		if r.ProtoMajor >= 2 {
			rc.SetWriteDeadline(patience) // it is the stream's alone, and else runs while the body is read
		}
	}
	if !strings.HasPrefix(r.URL.Path, s.opts.Path) {
		http.NotFound(w, r)
		return
	}
	if s.engine == nil && strings.HasSuffix(r.URL.Path, scriptName) {
		s.script.ServeHTTP(w, r)
		return
	}
	if !s.cors(w, r) {
		refuse(w, codeForbidden)
		return
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	q := r.URL.Query()
	webSocket := q.Get("transport") == "websocket"
	if !webSocket && q.Get("transport") != "polling" {
		refuse(w, codeUnknownTransport)
		return
	}
	if webSocket && !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		refuse(w, codeBadRequest)
		return
	}
	if webSocket {
		if !s.enter() {
			refuseClosed(w)
			return
		}
		defer s.wg.Done()
	}
	sid := q.Get("sid")
	if sid == "" {
		s.handshake(w, r, q.Get("EIO"), webSocket)
		return
	}
	e := s.session(sid)
	switch {
	case e == nil:
		refuse(w, codeUnknownSID)
	case webSocket:
		e.upgrade(w, r)
	case r.Method == http.MethodGet:
		e.get(w, r)
	case r.Method == http.MethodPost:
		e.post(w, r)
	default:
		refuse(w, codeBadRequest)
	}
}

// cors reports whether r's page may talk to this server, and tells its browser.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	if !fanout.OriginAllowed(r, s.opts.AllowedOrigins) {
		return false
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		if !slices.Contains(s.opts.AllowedOrigins, "*") { // one that was named may send its cookies
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
				h.Set("Access-Control-Allow-Headers", asked)
			}
			h.Set("Access-Control-Max-Age", "600")
		}
	}
	return true
}

// handshake makes a session.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, version string, webSocket bool) {
	switch {
	case r.Method != http.MethodGet:
		refuse(w, codeBadMethod)
		return
	case version != "4":
		refuse(w, codeBadVersion)
		return
	case s.closed():
		refuseClosed(w)
		return
	}
	var release func()
	if s.opts.Admit != nil {
		var err error
		if release, err = s.opts.Admit(r); err != nil {
			status := http.StatusTooManyRequests
			var own interface{ StatusCode() int }
			if errors.As(err, &own) {
				status = own.StatusCode()
			}
			refuseStatus(w, status, codeForbidden, err.Error())
			return
		}
	}
	if webSocket {
		s.connectWebSocket(w, r, release)
		return
	}
	e := s.newSession(r, release, Polling, nil)
	if !e.open() {
		refuseClosed(w)
		return
	}
	e.answer(w, e.openPacket("websocket"))
}

func refuseClosed(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	refuseStatus(w, http.StatusServiceUnavailable, codeBadRequest, "server closed")
}

// Shutdown refuses new connections with 503, ends every session so that
// clients' scripts come back, and waits until they have been told and every
// handler has returned, or for ctx, whose error it returns then.
func (s *Server) Shutdown(ctx context.Context) error {
	idle, _ := s.stop()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close does the same without waiting for the next poll of clients that have
// none hanging. It waits for every handler: one must return when Receive has
// returned an error. It may be called often, and returns nil.
func (s *Server) Close() error {
	idle, sessions := s.stop()
	for _, e := range sessions {
		e.mu.Lock()
		e.disarm(&e.grave)
		e.mu.Unlock()
		s.remove(e)
	}
	<-idle
	return nil
}

// stop ends every session and refuses new ones. It returns a channel that is
// closed when no goroutine is left, and the sessions that were there.
func (s *Server) stop() (<-chan struct{}, []*session) {
	s.mu.Lock()
	if s.idle == nil {
		idle := make(chan struct{})
		s.idle = idle
		go func() {
			s.wg.Wait()
			close(idle)
		}()
	}
	idle := s.idle
	sessions := make([]*session, 0, len(s.sessions))
	for _, e := range s.sessions {
		sessions = append(sessions, e)
	}
	s.mu.Unlock()
	for _, e := range sessions {
		e.end(ErrServerClosed)
	}
	return idle, sessions
}

func (s *Server) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle != nil
}

// enter counts one more that Close waits for, unless it is too late.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		return false
	}
	s.wg.Add(1)
	return true
}

// add makes e known and counts it, until remove.
func (s *Server) add(e *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		return false
	}
	s.wg.Add(1)
	s.sessions[e.id] = e
	return true
}

func (s *Server) remove(e *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[e.id] == e {
		delete(s.sessions, e.id)
		s.wg.Done()
	}
}

func (s *Server) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

func newID() string { return rand.Text() }

// detach is r for keeping, see Socket.Request. It keeps nothing alive that net/http
// needs for a request.
func detach(r *http.Request) *http.Request {
	c := r.WithContext(context.WithoutCancel(r.Context()))
	url := *r.URL
	c.Body, c.URL, c.Header = http.NoBody, &url, make(http.Header)
	for key, values := range r.Header {
		switch key {
		case "Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions":
		default:
			c.Header[key] = slices.Clone(values)
		}
	}
	return c
}
