package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"example.com/chat/internal/fanout"
)

// subprotocol is what a client must offer in Sec-WebSocket-Protocol.
const subprotocol = "chat.v1"

// WebSocketOptions configures [NewWebSocketHandler]. The zero value is ready for use.
type WebSocketOptions struct {
	// Serve configures each connection. Its Source is not used: see Source.
	Serve ServeOptions

	// Source says who is counted for a connection, for [RoomOptions].MaxPerSource. Empty: the connection is not
	// counted. nil means the host of [http.Request].RemoteAddr, of an IPv6 address its /64 network, which is what one
	// customer has. Behind a proxy that would be the proxy: a program there passes a function that reads the header
	// which its proxy sets (and no client can).
	Source func(r *http.Request) string

	// Accept, if it is not nil, is asked before a request becomes a connection. o is what the connection will be served
	// with: a copy of Serve, with Source filled in. Accept may change it, such as UserID to the account that a cookie
	// stands for. If it returns false it has answered the request, and there will be no connection.
	Accept func(w http.ResponseWriter, r *http.Request, o *ServeOptions) bool

	// AllowedOrigins are the pages that may connect, besides those of the same host as the request, and besides clients
	// that send no Origin because they are no pages. Patterns as in [path.Match], without regard to case, for the
	// origin's host and port ("chat.example.com", "localhost:*"), or with "://" for all of it ("https://*.example.com").
	// "*" allows every page: then cookies must not be what a program knows its users by.
	AllowedOrigins []string

	// Heartbeat is after how long without a word from a client it is asked for one, and HeartbeatTimeout how long it then
	// has to say anything at all, before it is lost. Zero means 25 s and 20 s. There is no switching it off: negative
	// means the default as well.
	Heartbeat        time.Duration
	HeartbeatTimeout time.Duration

	// WriteTimeout is how long one write may take (of at most 64 KiB of events, and replies with at most one roster)
	// before the client is ended as too slow. Zero means 10 s. Negative means none: then one that takes nothing is
	// ended only over MaxUnread, or when it says nothing either and has no requests waiting for their answers. All that
	// begins where the system's buffers end, which may be megabytes: [http.Server].ConnContext is a place to make them
	// smaller, by [net.TCPConn.SetWriteBuffer].
	WriteTimeout time.Duration

	// MaxMessage is the longest message of a client, in bytes. Zero means 64 KiB, or more if [RoomOptions].MaxText needs
	// more (six times as much: each byte may come escaped). Negative means none. A longer one ends its connection.
	MaxMessage int
}

// NewWebSocketHandler returns a handler that brings clients to a room over WebSocket (RFC 6455), in the text protocol
// chat.v1. PROTOCOL.md, beside this file, describes that completely enough to write a client from: each frame, each
// error and close code, and whether and when a client should come back.
//
// It serves any path, over TLS or behind a proxy that ends TLS, and owns neither listener nor mux. Pages of the same
// host may connect, others only as AllowedOrigins says. A client that may not come in is refused by HTTP status, before
// there is a connection: 400 without the subprotocol, 403 for the origin, 426 for no WebSocket, 429 with Retry-After for
// [ErrSource] and [ErrAnonymous], 503 for a room that has ended.
//
// ServeHTTP returns after the handshake. The connection lives on until its client or the room ends it: neither the
// request's context nor [http.Server].Shutdown does, so end the room as well. [Room.Close] waits until each connection is
// closed, for a client that doesn't answer 2 s. What panics in it, such as a [NamePolicy], ends the program: net/http no
// longer has a hand on it.
func NewWebSocketHandler(room *Room, o *WebSocketOptions) http.Handler {
	var opts WebSocketOptions
	if o != nil {
		opts = *o
	}
	opts.AllowedOrigins = slices.Clone(opts.AllowedOrigins)
	if opts.Source == nil {
		opts.Source = remoteSource
	}
	if opts.Heartbeat <= 0 {
		opts.Heartbeat = 25 * time.Second
	}
	if opts.HeartbeatTimeout <= 0 {
		opts.HeartbeatTimeout = 20 * time.Second
	}
	if opts.MaxMessage == 0 {
		opts.MaxMessage = 64 << 10
		if text := room.opts.MaxText; text > 1<<40 {
			opts.MaxMessage = -1
		} else if text > opts.MaxMessage/6-1024 {
			opts.MaxMessage = 6 * (text + 1024)
		}
	}
	return &wsHandler{room, opts}
}

type wsHandler struct {
	room *Room
	opts WebSocketOptions
}

// chatV1 is the wire form of events: each one text frame.
var chatV1 = &Format{Append: func(dst []byte, e Event) []byte {
	var text [512]byte
	return fanout.AppendFrame(dst, false, appendEvent(text[:0], e))
}}

func (h *wsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !hasToken(r.Header, "Upgrade", "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		refuse(w, http.StatusUpgradeRequired, malformed("this is a WebSocket"))
		return
	}
	if !fanout.OriginAllowed(r, h.opts.AllowedOrigins) {
		refuse(w, http.StatusForbidden, malformed("pages of this origin may not connect"))
		return
	}
	if !hasToken(r.Header, "Sec-WebSocket-Protocol", subprotocol) {
		refuse(w, http.StatusBadRequest, malformed("the subprotocol %s is not offered", subprotocol))
		return
	}
	serve := h.opts.Serve
	serve.Source = h.opts.Source(r)
	if h.opts.Accept != nil && !h.opts.Accept(w, r, &serve) {
		return
	}
	release, err := h.room.Admit(serve.Source)
	if err != nil {
		status := http.StatusServiceUnavailable
		if errors.Is(err, ErrSource) || errors.Is(err, ErrAnonymous) {
			status = http.StatusTooManyRequests
		}
		refuse(w, status, err)
		return
	}
	if !h.room.hold() {
		release()
		refuse(w, http.StatusServiceUnavailable, ErrClosed)
		return
	}
	accepted := false
	defer func() {
		if !accepted { // also where w panics
			release()
			h.room.wg.Done()
		}
	}()
	t, err := h.accept(w, r)
	if err != nil {
		return // and answered
	}
	accepted = true
	// The request's context ends now; its values are of use to a log.
	go h.serve(context.WithoutCancel(r.Context()), t, &serve, release)
}

// accept answers a WebSocket handshake, which was checked.
func (h *wsHandler) accept(w http.ResponseWriter, r *http.Request) (*wsTransport, error) {
	conn, err := fanout.Accept(w, r, &fanout.AcceptOptions{
		Subprotocols: []string{subprotocol},
		AnyOrigin:    true,
		MaxMessage:   int64(h.opts.MaxMessage),
		WriteTimeout: h.opts.WriteTimeout,
	})
	if err != nil {
		return nil, err
	}
	t := &wsTransport{conn: conn}
	conn.Heartbeat(h.opts.Heartbeat, h.opts.HeartbeatTimeout, t.lost)
	return t, nil
}

// serve serves t, whose source is counted until release, and returns when it is closed. The room waits for that, so that
// a program which ends with its room doesn't cut off what clients are told.
func (h *wsHandler) serve(ctx context.Context, t *wsTransport, o *ServeOptions, release func()) {
	defer h.room.wg.Done()
	defer release()
	defer t.conn.Wait()
	source := o.Source
	o.Source = "" // it is counted
	if err := h.room.Serve(ctx, t, o); err != nil {
		h.ended(source, err)
	}
}

func (h *wsHandler) ended(source string, err error) {
	level := h.room.opts.Logger.Debug
	if errors.Is(err, ErrSlow) {
		level = h.room.opts.Logger.Info
	}
	level("chat: a connection has ended", "source", source, "err", err)
}

// hold makes Close wait for one more wg.Done, unless the room is dead.
func (r *Room) hold() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		return false
	}
	r.wg.Add(1)
	return true
}

// refuse answers a request that does not become a connection.
func refuse(w http.ResponseWriter, status int, err error) {
	if ms := retryAfter(err); ms > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((ms+999)/1000, 10))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(appendReply(nil, ErrorReply{Err: err}), '\n')) // a client that is gone doesn't matter
}

// hasToken reports whether a comma-separated header holds token, without regard to case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for field := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(field), token) {
				return true
			}
		}
	}
	return false
}

// remoteSource is who is counted for a request if the program doesn't say.
func remoteSource(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // of a listener of another kind
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}

// A wsTransport is the [Transport] of one WebSocket.
type wsTransport struct {
	conn   *fanout.Conn
	silent atomic.Bool // the heartbeat gave the peer up
}

var (
	errSilent = errors.New("no answer to a ping")
	errBinary = errors.New("a binary frame")
)

// lost is called by the heartbeat.
func (t *wsTransport) lost() {
	t.silent.Store(true)
	t.Close(ErrLost)
}

func (t *wsTransport) Receive() (req Request, err error) {
	t.conn.Next(func(data []byte, binary bool, e error) { req, err = t.request(data, binary, e) })
	return req, err
}

// request is what came.
func (t *wsTransport) request(data []byte, binary bool, err error) (Request, error) {
	var bye fanout.CloseError
	switch {
	case errors.As(err, &bye) && (bye.Code == 1000 || bye.Code == 1001 || bye.Code == fanout.CloseNoStatus):
		return nil, io.EOF
	case err != nil && t.silent.Load():
		return nil, errSilent
	case err != nil:
		return nil, ours(err)
	case binary:
		t.conn.Close(closeBinary, "binary frames are not taken")
		return nil, errBinary
	}
	return decodeRequest(data), nil
}

// Deliver writes replies and events in one write.
func (t *wsTransport) Deliver(b *Batch) error { return ours(t.conn.Write(frames(b))) }

// TryDeliver is T8's.
func (t *wsTransport) TryDeliver(b *Batch) bool { return t.conn.TryWrite(frames(b)) }

// frames returns what is in b. Events alone are as the room encoded them, without a copy.
func frames(b *Batch) []byte {
	var replies []byte
	for _, rep := range b.Replies() {
		var text [512]byte
		replies = fanout.AppendFrame(replies, false, appendReply(text[:0], rep))
	}
	if replies == nil {
		return b.Encoded(chatV1)
	}
	return append(replies, b.Encoded(chatV1)...)
}

// Close tells the peer why, and returns at once: conn.Wait waits for the rest.
func (t *wsTransport) Close(cause error) error {
	t.conn.Close(closing(cause))
	return nil
}

// ours turns an error of the connection into one that a room knows, where there is one.
func ours(err error) error {
	if errors.Is(err, fanout.ErrSlow) {
		return fmt.Errorf("%w: %w", ErrSlow, err)
	}
	return err
}
