// Package fanout is the WebSocket connection that this module's transports
// stand on: made so that bytes which are the same for a thousand peers are
// framed once and written raw.
//
// The library (nhooyr.io/websocket) keeps the handshake, reading, control
// frames and their answers. Data frames are ours: [AppendFrame] makes them, and
// [Conn.Write] sends any number of them in one write, [Conn.TryWrite] without
// waiting. All go through one lock and never into the middle of each other's
// frame. There is no compression: it would make the frames differ.
//
// No caller's context reaches the socket; [Conn.Close] is what unblocks a Read
// or a Write, soon, and [Conn.Wait] waits for every goroutine of the connection.
package fanout

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"nhooyr.io/websocket"
)

// Errors of Read and Write; compare with [errors.Is]. None of them is or wraps
// io.EOF.
var (
	// ErrClosed means that Close was called here, or the peer's close frame
	// was answered: nothing more is read or written.
	ErrClosed = errors.New("websocket: closed")
	// ErrLost means that the connection ended without a close frame (1006).
	ErrLost = errors.New("websocket: connection lost")
	// ErrSlow means that a write was not taken within AcceptOptions.WriteTimeout.
	ErrSlow = errors.New("websocket: peer does not read")
	// ErrTooBig means that a message was over AcceptOptions.MaxMessage; the
	// connection is being closed with 1009.
	ErrTooBig = errors.New("websocket: message too big")
	// ErrNotUTF8 means that a text message was not valid UTF-8; the connection
	// is being closed with 1007 (RFC 6455 section 8.1).
	ErrNotUTF8 = errors.New("websocket: text is not utf-8")
	// ErrProtocol means that the peer broke the framing rules of RFC 6455
	// section 5; the connection is being closed with 1002.
	ErrProtocol = errors.New("websocket: protocol violated")
	// ErrOrigin means that the page's origin is not allowed: answered with 403.
	ErrOrigin = errors.New("websocket: origin not allowed")
)

// Close codes of RFC 6455 section 7.4.1 with a meaning of their own here.
const (
	// CloseNoStatus stands for a close frame without a code, both ways.
	CloseNoStatus = 1005
	// CloseAbnormal, given to Close, cuts the connection without a close frame.
	CloseAbnormal = 1006
)

// CloseError is the peer's close frame, as Read returns it by value.
type CloseError struct {
	Code   int    // 1005 if the frame had none
	Reason string // at most 123 bytes, valid UTF-8
}

func (e CloseError) Error() string {
	return fmt.Sprintf("websocket: closed by peer: %d %s", e.Code, e.Reason)
}

const (
	grace     = time.Second            // for writing a close frame, and again for its answer
	deadGrace = 100 * time.Millisecond // for writing it to a peer that Heartbeat called lost
	readSize  = 128                    // of the library's reader: a header and a short message; a longer one goes past it
	bufSize   = 256                    // of the library's writer: two control frames
)

// AcceptOptions configures Accept. The zero value is ready for use.
type AcceptOptions struct {
	// Subprotocols are those the server speaks, the preferred first. A client
	// that names none of them is accepted without one: see [Conn.Subprotocol].
	Subprotocols []string
	// AllowedOrigins are patterns as [OriginAllowed] takes them, besides the
	// same origin.
	AllowedOrigins []string
	// AnyOrigin switches the check of the origin off.
	AnyOrigin bool
	// MaxMessage is the longest message that Read returns, in bytes. Zero
	// means 65536, negative no limit.
	MaxMessage int64
	// WriteTimeout bounds each write; a peer that doesn't take it by then is
	// cut. Zero means 10 s, negative no limit.
	WriteTimeout time.Duration
}

func (o *AcceptOptions) withDefaults() AcceptOptions {
	var c AcceptOptions
	if o != nil {
		c = *o
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 64 << 10
	}
	switch {
	case c.WriteTimeout == 0:
		c.WriteTimeout = 10 * time.Second
	case c.WriteTimeout < 0:
		c.WriteTimeout = 0
	}
	return c
}

// A Conn is the server's end of one WebSocket. Read must not be called at the
// same time as itself; everything else may be called from any goroutine. Who
// accepted it calls Close and then Wait in the end, always.
type Conn struct {
	ws   *websocket.Conn
	wire *wire
	in   *bufio.Reader // the library's
	max  int64
	done chan struct{} // closed by the goroutine that Close starts

	beats sync.WaitGroup // calls of beat that are due or under way

	mu      sync.Mutex // guards the fields below
	idle    sync.Cond  // on mu: reading fell
	reading bool       // somebody is within the library's Read
	closing bool       // Close was called
	broken  bool       // the peer's framing can't be followed any more
	given   bool       // Heartbeat gave the peer up
	rest    io.Reader  // what is left of a message that was too big

	timer             *time.Timer // nil until Heartbeat
	interval, timeout time.Duration
	pinged            int64 // the life that a ping was last sent for
	lost              func()
}

// Accept answers a WebSocket handshake. On an error the response has been
// written. It takes the connection by [http.Hijacker], also from below a
// middleware's Unwrap.
func Accept(w http.ResponseWriter, r *http.Request, o *AcceptOptions) (*Conn, error) {
	opts := o.withDefaults()
	if !opts.AnyOrigin && !OriginAllowed(r, opts.AllowedOrigins) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return nil, ErrOrigin
	}
	h := &hijacker{ResponseWriter: w, timeout: opts.WriteTimeout}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       opts.Subprotocols,
		InsecureSkipVerify: true, // checked above
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return nil, fmt.Errorf("websocket: handshake refused: %w", err)
	}
	ws.SetReadLimit(-1) // message has its own, with a typed error
	c := &Conn{ws: ws, wire: h.wire, in: h.in, max: opts.MaxMessage, done: make(chan struct{}), pinged: -1}
	c.idle.L = &c.mu
	return c, nil
}

// Subprotocol is the one agreed on, or empty.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Read returns the next whole message; the bytes are the caller's. It returns a
// [CloseError] for the peer's close frame, ErrClosed soon after Close was
// called, and otherwise ErrLost, ErrTooBig, ErrNotUTF8 or ErrProtocol. After an
// error it is of no more use, and Close is due.
func (c *Conn) Read() (data []byte, binary bool, err error) {
	c.mu.Lock()
	if c.closing || c.reading {
		defer c.mu.Unlock()
		return nil, false, ErrClosed
	}
	c.read(true)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.read(false)
		c.mu.Unlock()
	}()
	for {
		data, binary, err = c.message()
		c.mu.Lock()
		closing := c.closing
		c.mu.Unlock()
		switch {
		case err == nil && closing:
			// Read on for the peer's answer to our close frame.
		case err == nil, err == ErrTooBig, err == ErrNotUTF8, err == ErrProtocol:
			return data, binary, err
		case closing:
			return nil, false, ErrClosed
		default:
			return nil, false, err
		}
	}
}

// read says that somebody is within the library's Read, or waits for something to
// read, or has done so. mu is held.
func (c *Conn) read(begins bool) {
	c.reading = begins
	c.wire.life.Store(c.wire.now())
	c.idle.Broadcast()
}

// Next is Read for a goroutine that does nothing else for long: it waits with
// little stack, and calls f with what Read returns in a goroutine whose stack
// goes with it, and returns when f has.
func (c *Conn) Next(f func(data []byte, binary bool, err error)) {
	c.await()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(c.Read())
	}()
	<-done
}

// await waits for the next message to begin, if the connection can do that.
func (c *Conn) await() {
	c.mu.Lock()
	if c.closing || c.reading || c.in.Buffered() > 0 {
		c.mu.Unlock()
		return
	}
	c.read(true)
	c.mu.Unlock()
	c.wire.await()
	c.mu.Lock()
	c.read(false)
	c.mu.Unlock()
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooled = 64 << 10

// message reads one message within the limits. The caller is the one reader.
func (c *Conn) message() ([]byte, bool, error) {
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, false, c.readError(err)
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooled {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	if c.max < 0 {
		_, err = buf.ReadFrom(r)
	} else {
		_, err = buf.ReadFrom(io.LimitReader(r, c.max+1))
	}
	if err != nil {
		return nil, false, c.readError(err)
	}
	if c.max >= 0 && int64(buf.Len()) > c.max {
		c.mu.Lock()
		c.rest = r
		c.mu.Unlock()
		c.Close(1009, "message too big")
		return nil, false, ErrTooBig
	}
	binary := typ == websocket.MessageBinary
	if !binary && !utf8.Valid(buf.Bytes()) {
		c.Close(1007, "text is not utf-8")
		return nil, false, ErrNotUTF8
	}
	return bytes.Clone(buf.Bytes()), binary, nil
}

// readError turns the library's error into one of ours. What is neither a close
// frame nor the end of the connection below is the peer's framing.
func (c *Conn) readError(err error) error {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return CloseError{Code: int(ce.Code), Reason: strings.ToValidUTF8(ce.Reason, "\uFFFD")}
	}
	if cause := c.wire.lost(); cause != nil {
		if errors.Is(cause, ErrLost) || errors.Is(cause, ErrSlow) {
			return cause
		}
		return fmt.Errorf("%w: %v", ErrLost, cause)
	}
	c.mu.Lock()
	c.broken = true
	c.mu.Unlock()
	c.Close(1002, "protocol violated")
	return ErrProtocol
}

// Write sends whole frames, as AppendFrame makes them, in one write, and keeps
// none of the bytes. It blocks for at most WriteTimeout, and returns ErrSlow at
// it, ErrLost or ErrClosed; after an error nothing goes out any more.
func (c *Conn) Write(frames []byte) error { return c.wire.data(frames) }

// TryWrite is Write for who must not wait. It reports false at once, and
// nothing is taken, if another write is under way or waits (also the rest of an
// earlier TryWrite), if the connection below has no way to write without
// blocking, or if nothing goes out any more: Write says why. True means taken
// over: what the socket has no room for now is written by a goroutine of the
// connection's, within WriteTimeout, and the bytes must not be changed any more.
// A failure of that is what the next Write returns; Read tells as well.
//
// TCP and Unix sockets have a way, on every Unix. So has a connection with a
// method TryWrite(p []byte) (n int, err error), which takes as much of p as
// there is room for. TLS has none.
func (c *Conn) TryWrite(frames []byte) bool { return c.wire.try(frames) }

// Heartbeat calls lost, at most once, from a goroutine of its own, when nothing
// at all came from the peer for interval and then nothing for timeout after the
// ping that it sends then. Only time within Read counts. It needs no goroutine
// between those. It is not called after Close, nor when a write has failed
// before: Read tells. lost may call Close but not Wait. A Conn has one
// Heartbeat; both durations are more than 0.
func (c *Conn) Heartbeat(interval, timeout time.Duration, lost func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.lost != nil {
		return
	}
	c.interval, c.timeout, c.lost = interval, timeout, lost
	c.wire.life.Store(c.wire.now())
	c.beats.Add(1)
	c.timer = time.AfterFunc(interval, c.beat)
}

func (c *Conn) beat() {
	defer c.beats.Done()
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	life := c.wire.life.Load()
	silent := time.Duration(c.wire.now() - life)
	var next time.Duration
	ping := false
	switch {
	case !c.reading:
		next = c.interval // the next Read counts as life
	case silent < c.interval:
		next = c.interval - silent
	case silent < c.interval+c.timeout:
		next = min(c.interval, c.interval+c.timeout-silent) // an answer's own interval may end before
		ping = c.pinged != life
		c.pinged = life
	default:
		c.given = true
		c.mu.Unlock()
		c.lost()
		return
	}
	c.beats.Add(1)
	c.timer.Reset(next)
	c.mu.Unlock()
	if ping {
		c.wire.control(AppendControl(nil, OpPing, nil), c.timeout)
	}
}

// Close starts to close the connection and returns at once. It may be called at
// any time, from anywhere and often: the first call counts. A goroutine writes
// the close frame, gives that at most 1 s (it comes behind a write under way),
// gives the peer at most 1 s to answer, and cuts. Data still coming in is
// dropped. A peer that Heartbeat gave up is cut without waiting. The reason is
// cut to 123 bytes between two runes.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.closing = true
	given := c.given
	if c.timer != nil && c.timer.Stop() {
		c.beats.Done()
	}
	c.mu.Unlock()
	patience := grace
	if given {
		patience = deadGrace
	}
	c.wire.hurry(patience)
	go func() {
		defer close(c.done)
		answered := code != CloseAbnormal && c.wire.bid(appendClose(nil, code, reason)) && !given && c.drain()
		if answered {
			c.wire.Conn.Close()
		}
		c.wire.cut()
		c.ws.CloseNow() // ends the library's goroutine; the connection is closed already
		c.beats.Wait()
		c.wire.rests.Wait()
	}()
}

// drain reads and drops until the peer has answered our close frame, for at
// most grace, after a Read that is still under way and does the same. It
// reports whether the connection below may be closed in peace.
func (c *Conn) drain() bool {
	c.wire.Conn.SetReadDeadline(time.Now().Add(grace))
	c.mu.Lock()
	for c.reading {
		c.idle.Wait()
	}
	c.reading = true
	rest, broken := c.rest, c.broken
	c.mu.Unlock()
	if broken {
		io.Copy(io.Discard, c.wire.Conn)
		return false
	}
	if rest != nil {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return false
		}
	}
	for {
		_, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return websocket.CloseStatus(err) != -1
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return false
		}
	}
}

// Wait returns when the connection is closed, and the goroutines of Close,
// Heartbeat and TryWrite have ended. Close must have been called, here or by an
// error of Read's, or will be.
func (c *Conn) Wait() { <-c.done }

// A hijacker hands the library our wire instead of the server's connection, and
// a small reader and writer over it: with the server's own, writes would bypass
// the wire, and a silent connection would keep 4 KiB for reading.
type hijacker struct {
	http.ResponseWriter
	timeout time.Duration
	wire    *wire
	in      *bufio.Reader
	refused bool
}

// WriteHeader answers 501 instead of 101 if the connection can't be taken over,
// for the library only asks after having written 101.
func (h *hijacker) WriteHeader(code int) {
	if h.refused {
		return
	}
	if code == http.StatusSwitchingProtocols && !hijackable(h.ResponseWriter) {
		h.refused = true
		http.Error(h.ResponseWriter, "this server does not hand over its connections", http.StatusNotImplemented)
		return
	}
	h.ResponseWriter.WriteHeader(code)
	if f, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok && code == http.StatusSwitchingProtocols {
		f.WriteHeaderNow() // some frameworks keep the header back
	}
}

// Write keeps the library's text for an error that was already answered.
func (h *hijacker) Write(p []byte) (int, error) {
	if h.refused {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h.refused {
		return nil, nil, http.ErrNotSupported
	}
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire = newWire(nc, h.timeout)
	if early, err := rw.Reader.Peek(rw.Reader.Buffered()); err == nil && len(early) > 0 {
		h.wire.early = bytes.Clone(early)
	}
	h.in = bufio.NewReaderSize(h.wire, readSize)
	return h.wire, bufio.NewReadWriter(h.in, bufio.NewWriterSize(h.wire, bufSize)), nil
}

func hijackable(w http.ResponseWriter) bool {
	for {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}
