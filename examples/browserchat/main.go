// Browserchat serves a chat page and the room behind it: open it in two browsers and chat.
//
//	go run ./examples/browserchat
//
// The page speaks Socket.IO, in the events of a well-known small chat page; transport.go is its [chat.Transport], and
// the place to look for how one is written. The same room is at /ws for clients that speak chat.v1, the protocol of
// [chat.NewWebSocketHandler].
//
// The limits are flags, so that the program can be measured and tried; -h lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"example.com/chat"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	first := make(chan os.Signal, 1)
	signal.Notify(first, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-first
		signal.Stop(first) // before anything is told: a second signal ends the program at once
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it serves until ctx ends, and returns the exit code. 0 is an end as asked for, 1 is a server that
// could not go on, 2 is a command line that it did not understand.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "browserchat: %v (-h lists the flags)\n", err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.level}))
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		fmt.Fprintf(stderr, "browserchat: %v (-addr sets another address)\n", err)
		return 1
	}
	s, err := newServer(c, port(ln.Addr()), log)
	if err != nil {
		ln.Close()
		fmt.Fprintf(stderr, "browserchat: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "browserchat: open %s\n", address(c.addr, ln.Addr()))
	if note := s.pages.caveat(c.addr, port(ln.Addr())); note != "" {
		fmt.Fprintf(stderr, "browserchat: %s\n", note)
	}
	if err := s.serve(ctx, ln); err != nil {
		fmt.Fprintf(stderr, "browserchat: %v\n", err)
		return 1
	}
	return 0
}

// port returns the port of a listener's address; empty if it has none.
func port(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// address is what to open in a browser on this machine, for a listener that was asked to listen on asked.
func address(asked string, got net.Addr) string {
	host, _, _ := net.SplitHostPort(asked)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port(got)) + "/"
}

// A config is what the command line says.
type config struct {
	addr      string
	page      string // a file, or empty
	client    string // a file, or empty
	escape    bool
	rate      limit
	members   limit
	hearers   limit
	perSource limit
	anonymous limit
	maxText   limit
	maxName   limit
	maxUnread limit
	window    int
	heartbeat time.Duration
	linger    time.Duration
	level     slog.Level
	store     chat.Log // nil: one in memory, as the command line always says
}

// A limit is a flag for a limit. On the command line 0 is none, in the options of [chat] negative is.
type limit int

func (l limit) String() string { return strconv.Itoa(int(l)) }

func (l *limit) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return errors.New("want a whole number, 0 for no limit")
	}
	*l = limit(n)
	return nil
}

func (l limit) option() int {
	if l == 0 {
		return -1
	}
	return int(l)
}

// parse reads the command line. The error says what is wrong with it in one line; it is [flag.ErrHelp] if it asked for
// help, which then stands in help.
func parse(args []string, help io.Writer) (*config, error) {
	c := &config{
		rate: 20, members: 10_000, hearers: 20_000, perSource: 100, anonymous: 5_000,
		maxText: 4096, maxName: 64, maxUnread: 1 << 20, level: slog.LevelWarn,
	}
	fs := flag.NewFlagSet("browserchat", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // Parse would print every flag after each mistake
	fs.StringVar(&c.addr, "addr", ":3000", "listen on this `host:port`; port 0 takes a free one")
	fs.StringVar(&c.page, "page", "", "serve the page in this `file` instead of the program's own")
	fs.StringVar(&c.client, "client", "",
		"serve the script in this `file` at /socket.io/socket.io.js instead of the program's own")
	fs.BoolVar(&c.escape, "escape", false, "for a page that writes with innerHTML: escape names and texts, refuse names\n"+
		"that hold any of <>&\"' (on by default with -page)")
	fs.Var(&c.rate, "rate", "at most `n` requests a second from a connection, in a burst twice as many")
	fs.Var(&c.members, "max-members", "at most `n` users")
	fs.Var(&c.hearers, "max-subscribers", "at most `n` connections that hear the room")
	fs.Var(&c.perSource, "max-per-source", "at most `n` connections from an address; behind a proxy all come from the proxy's")
	fs.Var(&c.anonymous, "max-anonymous", "at most `n` connections that are not logged in")
	fs.Var(&c.maxText, "max-text", "at most `n` bytes in a message")
	fs.Var(&c.maxName, "max-name", "at most `n` bytes in a name; without a limit 512")
	fs.Var(&c.maxUnread, "max-unread", "end a connection that is `n` bytes behind")
	fs.IntVar(&c.window, "window", 4<<20, "keep `n` bytes of recent events for those who are behind; can't be switched off")
	fs.DurationVar(&c.heartbeat, "heartbeat", 25*time.Second,
		"ask each page every `time` whether it is there; one that does not answer within\n"+
			"four fifths of it is gone; can't be switched off")
	fs.DurationVar(&c.linger, "linger", 2*time.Minute,
		"keep the name of one whose connection broke for this `time`, so that the page can come back\n"+
			"as if nothing had happened; 0: not at all")
	fs.TextVar(&c.level, "log", c.level, "log what is of this `level` or above: debug, info, warn or error")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, "Browserchat serves a chat page and the room behind it.\n\nFlags (n = 0 switches a limit off):\n\n")
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	escapeSet := false
	fs.Visit(func(f *flag.Flag) { escapeSet = escapeSet || f.Name == "escape" })
	if !escapeSet {
		c.escape = c.page != ""
	}
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if c.heartbeat < shortestHeartbeat {
		return nil, fmt.Errorf("-heartbeat: %v is too short, and a heartbeat can't be switched off: at least %v",
			c.heartbeat, shortestHeartbeat)
	}
	if c.window <= 0 {
		return nil, fmt.Errorf("-window: %d is not a size, and the window can't be switched off", c.window)
	}
	if c.maxName > 512 {
		return nil, fmt.Errorf("-max-name: %d is over 512", c.maxName)
	}
	return c, nil
}

// shortestHeartbeat keeps a mistake from becoming a flood of pings.
const shortestHeartbeat = 100 * time.Millisecond

// heartbeatTimeout is how long an answer to a heartbeat may take: 20 s for the default, the same share of others.
func (c *config) heartbeatTimeout() time.Duration { return c.heartbeat / 5 * 4 }

// maxPayload is what Socket.IO takes at a time, in bytes: its usual limit, or what the longest message needs if each byte
// of it comes escaped.
func (c *config) maxPayload() int64 {
	if c.maxText == 0 {
		return -1
	}
	return max(1e6, 6*(int64(c.maxText)+1024))
}
