// Sioecho is a Socket.IO server, or one of Engine.IO alone, that sends back what it gets: what test suites for servers of
// these protocols ask for, and a small thing to point a client at.
//
//	go run ./examples/sioecho                 Socket.IO 5 at http://localhost:3000/socket.io/
//	go run ./examples/sioecho -mode eio       Engine.IO 4 at http://localhost:3000/engine.io/
//
// In mode eio it echoes every message, text and binary. In mode sio it has the namespaces / and /custom. To who connects it
// emits auth with the auth payload that came, {} if none did. It answers the event message with message-back and the same
// arguments, and acknowledges the event message-with-ack with the same arguments.
//
// The suites want short times: -ping-interval 300ms -ping-timeout 200ms -connect-timeout 1s.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"example.com/chat/socketio"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: it serves until ctx ends, and returns the exit code. 0 is an end as asked for, 1 is a server that
// could not go on, 2 is a command line that it did not understand.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "sioecho: %v (-h lists the flags)\n", err)
		return 2
	}
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		fmt.Fprintf(stderr, "sioecho: %v (-addr sets another address)\n", err)
		return 1
	}
	srv, path := c.server()
	mux := http.NewServeMux()
	mux.Handle(path, srv)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintf(stdout, "sioecho: %s at %s%s\n", c.mode, address(c.addr, ln.Addr()), path)

	failed := make(chan error, 1)
	go func() { failed <- web.Serve(ln) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		srv.Close()
		web.Close()
		err = <-failed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		srv.Close()
		fmt.Fprintf(stderr, "sioecho: %v\n", err)
		return 1
	}
	return 0
}

// address is where clients on this machine find a listener that was asked to listen on asked.
func address(asked string, got net.Addr) string {
	host, _, _ := net.SplitHostPort(asked)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(got.String())
	return "http://" + net.JoinHostPort(host, port)
}

// server returns the server, and the path that clients of its protocol ask for.
func (c *config) server() (*socketio.Server, string) {
	o := &socketio.Options{
		PingInterval:   time.Duration(c.pingInterval),
		PingTimeout:    time.Duration(c.pingTimeout),
		ConnectTimeout: time.Duration(c.connectTimeout),
		MaxPayload:     c.maxPayload,
		AllowedOrigins: []string{"http://localhost:*", "http://127.0.0.1:*"}, // suites run in browsers, too
	}
	if c.mode == "eio" {
		return socketio.NewEngine(o, echoMessages), "/engine.io/"
	}
	srv := socketio.NewServer(o)
	srv.Handle("/", echoEvents)
	srv.Handle("/custom", echoEvents)
	return srv, "/socket.io/"
}

// echoMessages is the whole of mode eio.
func echoMessages(c *socketio.Conn) {
	for {
		m, err := c.Receive()
		if err != nil {
			return
		}
		if err := c.Send(m); err != nil {
			return
		}
	}
}

// echoEvents is the whole of mode sio.
func echoEvents(s *socketio.Socket) {
	auth := s.Auth()
	if auth == nil {
		auth = json.RawMessage("{}")
	}
	if err := s.Emit("auth", auth); err != nil {
		return
	}
	for {
		e, err := s.Receive()
		if err != nil {
			return
		}
		switch e.Name {
		case "message":
			err = s.Emit("message-back", e.Values)
		case "message-with-ack":
			err = e.Ack(e.Values)
		}
		if err != nil && !errors.Is(err, socketio.ErrNoAck) { // the client may not have asked for one
			return
		}
	}
}

// A config is what the command line says.
type config struct {
	mode           string
	addr           string
	pingInterval   period
	pingTimeout    period
	connectTimeout period
	maxPayload     int64
}

// A period is a flag for a duration above 0: with a unit as in 300ms, or in milliseconds, as the protocol counts.
type period time.Duration

func (p period) String() string { return time.Duration(p).String() }

func (p *period) Set(s string) error {
	d, err := time.ParseDuration(s)
	if n, notANumber := strconv.ParseInt(s, 10, 32); notANumber == nil {
		d, err = time.Duration(n)*time.Millisecond, nil
	}
	if err != nil || d < time.Millisecond {
		return errors.New("want a duration such as 300ms, of 1ms and more")
	}
	*p = period(d)
	return nil
}

// parse reads the command line. The error says what is wrong with it in one line; it is [flag.ErrHelp] if it asked for
// help, which then stands in help.
func parse(args []string, help io.Writer) (*config, error) {
	c := &config{
		pingInterval: period(25 * time.Second), pingTimeout: period(20 * time.Second), connectTimeout: period(45 * time.Second),
	}
	fs := flag.NewFlagSet("sioecho", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // Parse would print every flag after each mistake
	fs.StringVar(&c.mode, "mode", "sio", "the `protocol`: sio is Socket.IO at /socket.io/, eio Engine.IO alone at /engine.io/")
	fs.StringVar(&c.addr, "addr", ":3000", "listen on this `host:port`; port 0 takes a free one")
	fs.Var(&c.pingInterval, "ping-interval", "ask each client after this `time` whether it is there")
	fs.Var(&c.pingTimeout, "ping-timeout", "end the connection of one that does not answer within this `time`")
	fs.Var(&c.connectTimeout, "connect-timeout", "end a connection that is in no namespace for this `time` (mode sio)")
	fs.Int64Var(&c.maxPayload, "max-payload", 1e6, "take at most `n` bytes in a request's body or a WebSocket message")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, "Sioecho sends back what it gets, over Socket.IO or Engine.IO alone.\n\nFlags:\n\n")
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return nil, err
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case c.mode != "sio" && c.mode != "eio":
		return nil, fmt.Errorf("-mode: %q is neither sio nor eio", c.mode)
	case c.maxPayload <= 0:
		return nil, fmt.Errorf("-max-payload: %d is not a size", c.maxPayload)
	}
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	return c, nil
}
