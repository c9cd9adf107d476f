package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"example.com/chat"
	"example.com/chat/socketio"
)

// A server is one room and the three ways to it: the page's files, Socket.IO for the page, chat.v1 at /ws.
type server struct {
	log   *slog.Logger
	room  *chat.Room
	sio   *socketio.Server
	pages *pages
	http  *http.Server
}

// newServer makes a server that will listen on that port.
func newServer(c *config, port string, log *slog.Logger) (*server, error) {
	pages, err := newPages(c.page)
	if err != nil {
		return nil, err
	}
	var script []byte // nil: the package's own
	if c.client != "" {
		if script, err = os.ReadFile(c.client); err != nil {
			return nil, err
		}
	}
	names, forms := chat.Nickname, plain
	if c.escape {
		names, forms = harmless, escaped
	}
	room, err := chat.NewRoom(&chat.RoomOptions{
		Log:            c.store,
		Names:          names,
		MaxName:        c.maxName.option(),
		MaxText:        c.maxText.option(),
		MaxMembers:     c.members.option(),
		MaxSubscribers: c.hearers.option(),
		MaxPerSource:   c.perSource.option(),
		MaxAnonymous:   c.anonymous.option(),
		Window:         c.window,
		Logger:         log,
	})
	if err != nil {
		return nil, err
	}
	serve := chat.ServeOptions{
		Spectators: true, // who is not logged in hears the room all the same
		Linger:     c.linger,
		Rate:       c.rate.option(),
		MaxUnread:  c.maxUnread.option(),
	}
	s := &server{log: log, room: room, pages: pages}
	s.sio = socketio.NewServer(&socketio.Options{
		PingInterval:   c.heartbeat,
		PingTimeout:    c.heartbeatTimeout(),
		AllowedOrigins: pages.origins(port),
		Script:         script,
		Logger:         log,
		MaxPayload:     c.maxPayload(),
		MaxConnects:    maxConnects,
		Admit: func(r *http.Request) (release func(), err error) {
			if release, err = room.Admit(source(r)); err != nil {
				err = refusal{err}
			}
			return release, err
		},
		Connect: func(ctx context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
			v, err := arrive(ctx, room, r.PID, r.Offset)
			if err != nil {
				return socketio.Grant{}, &socketio.ConnectError{Message: chat.Code(err)}
			}
			return socketio.Grant{SID: v.sid(), PID: v.pid(), Value: v}, nil
		},
	})
	s.sio.Handle("/", func(socket *socketio.Socket) {
		t := newTransport(socket, forms, socket.Value().(visit), room.Members)
		log.Debug("page gone", "err", t.serve(room, serve))
	})

	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/socket.io/", s.sio)
	mux.Handle("/ws", chat.NewWebSocketHandler(room, &chat.WebSocketOptions{
		Serve:            serve,
		Source:           source,
		AllowedOrigins:   pages.origins(port),
		Heartbeat:        c.heartbeat,
		HeartbeatTimeout: c.heartbeatTimeout(),
	}))
	s.http = &http.Server{
		Handler: mux,
		// A poll hangs for as long as nothing happens, so there is no bound for a whole request or answer.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s, nil
}

// maxConnects is how often a page may connect its socket anew, at once and a minute, before it needs another connection:
// each time it may ask for as much again, as far as the rate limit goes.
const maxConnects = 5

// source is who is counted for a connection, on either way to the room: the remote address, or of an IPv6 address its
// /64 network, which is what one customer has.
func source(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // of a listener of another kind
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// A refusal is why the room lets a connection not in, with the HTTP status that says so.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (r refusal) StatusCode() int {
	if errors.Is(r, chat.ErrSource) || errors.Is(r, chat.ErrAnonymous) {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// How long the end may take that clients are told of, and then the writing of the last answers.
const (
	shutdownTimeout = 5 * time.Second
	answerTimeout   = time.Second
)

// serve serves ln until ctx ends, and then ends in order: nobody new, what was said reaches everybody, and everybody is
// told. It returns the error that ended it before, or nil.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(ln) }()
	var err error
	select {
	case err = <-failed:
		s.end()
	case <-ctx.Done():
		ln.Close()
		s.end()
		<-failed
	}
	return err
}

func (s *server) end() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := errors.Join(s.room.Shutdown(ctx, nil), s.sio.Shutdown(ctx)); err != nil {
		s.log.Warn("not everybody could be told of the end in time", "err", err)
	}
	s.sio.Close()
	// The last answers to polls are on their way. What a browser opened to be quick, and never used, is not waited for.
	ctx, cancel = context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
}
