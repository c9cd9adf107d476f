package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
	"example.com/chat/chattest"
)

// TestMain lets the tests run the program in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("LINECHAT_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTransport holds it to the contract: in virtual time over pipes, where a peer that does not read is a full socket, and
// over TCP as the program listens.
func TestTransport(t *testing.T) {
	t.Run("pipes", func(t *testing.T) {
		chattest.TestTransport(t, chattest.Connector{Bubble: true, NoReceipts: true, Open: func() (chattest.Ends, error) {
			here, there := net.Pipe()
			return ends(here, there), nil
		}})
	})
	t.Run("tcp", func(t *testing.T) {
		chattest.TestTransport(t, chattest.Connector{NoReceipts: true, Open: func() (chattest.Ends, error) {
			ln, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
			if err != nil {
				return chattest.Ends{}, err
			}
			defer ln.Close()
			here, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				return chattest.Ends{}, err
			}
			there, err := ln.Accept()
			if err != nil {
				return chattest.Ends{}, errors.Join(err, here.Close())
			}
			// What TCP holds back is soon full, long before it would give the peer up by itself: see keepalive.go.
			err = errors.Join(here.(*net.TCPConn).SetReadBuffer(16<<10), there.(*net.TCPConn).SetWriteBuffer(16<<10))
			return ends(here, there), err
		}})
	})
}

func ends(here, there net.Conn) chattest.Ends {
	transport := newTransport(there)
	return chattest.Ends{Transport: transport, Peer: linePeer{here, bufio.NewReader(here)}, Close: func() error {
		<-transport.gone
		return nil
	}}
}

// A linePeer is a client that reads only when asked to.
type linePeer struct {
	net.Conn
	in *bufio.Reader
}

func (p linePeer) line(s string) error {
	_, err := io.WriteString(p, s+"\n")
	return err
}

func (p linePeer) Send(req chat.Request) error {
	switch req := req.(type) {
	case chat.LoginRequest:
		return p.line(req.Name)
	case chat.SendRequest:
		return p.line(req.Text)
	}
	return errors.ErrUnsupported
}

func (p linePeer) Malformed() error { return p.line("\xff") }
func (p linePeer) Goodbye() error   { return p.line("/quit") }

func (p linePeer) Drop(half bool) error {
	var err error
	if half {
		_, err = io.WriteString(p, "hel")
	}
	return errors.Join(err, p.Conn.Close())
}

var forms = []struct {
	re   *regexp.Regexp
	make func(name, text string) any
}{
	{regexp.MustCompile(`^Welcome, (.*?)\. ()`), func(name, _ string) any { return chat.LoginReply{User: chat.User{Name: name}} }},
	{regexp.MustCompile(`^! (.*)()`), func(text, _ string) any { return chat.ErrorReply{Err: errors.New(text)} }},
	{regexp.MustCompile(`^\* (.*) joined()$`), func(name, _ string) any { return chat.Joined{User: chat.User{Name: name}} }},
	{regexp.MustCompile(`^\* (.*) left \((.*)\)$`), func(name, _ string) any { return chat.Left{User: chat.User{Name: name}} }},
	{regexp.MustCompile(`^<(.*?)> (.*)$`), func(name, text string) any { return chat.Said{User: chat.User{Name: name}, Text: text} }},
}

var causes = map[string]error{
	"as you said": io.EOF, "kicked: first": chat.ErrKicked, "room is shutting down": chat.ErrClosed, "closed": chat.ErrClosed,
}

func (p linePeer) Read() (any, error) {
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if cause, ok := strings.CutPrefix(line, "Bye: "); ok {
			return nil, causes[strings.TrimSuffix(cause, "\n")]
		}
		for _, f := range forms {
			if m := f.re.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				return f.make(m[1], m[2]), nil
			}
		}
	}
}

// A terminal is somebody with netcat.
type terminal struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// room serves a room until end is called, which returns what serve did.
func room(t *testing.T) (addr string, end func() error) {
	t.Helper()
	ln, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln); close(served) }()
	end = func() error { cancel(); return <-served }
	t.Cleanup(func() { end() })
	return ln.Addr().String(), end
}

func dial(t *testing.T, addr string) *terminal {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // so that nothing hangs
		t.Fatal(err)
	}
	return &terminal{t, conn, bufio.NewReader(conn)}
}

func (c *terminal) types(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("%.20q: %v", s, err)
	}
}

// sees compares the next lines.
func (c *terminal) sees(lines ...string) {
	c.t.Helper()
	var got []string
	for range lines {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%v, then %v; want %v", got, err, lines)
		}
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	if d := cmp.Diff(lines, got); d != "" {
		c.t.Errorf("lines (-want +got):\n%s", d)
	}
}

// isOut waits until the connection ends.
func (c *terminal) isOut() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Errorf("%q and %v, not the end", rest, err)
	}
}

func TestConversation(t *testing.T) {
	addr, end := room(t)
	ann := dial(t, addr)
	ann.types("ann\nhi\n") // at once, as from a script
	ann.sees("Your name?", "Welcome, ann. /quit leaves.", "* ann joined", "<ann> hi")

	bob := dial(t, addr)
	bob.types("ANN\r\n")
	bob.sees("Your name?", "! name is taken")
	bob.types("\xff\xfe\n") // where a name is asked for
	bob.sees("! malformed request: not UTF-8, or over 4096 bytes")
	bob.types("bob\r\n") // from telnet
	bob.sees("Welcome, bob. /quit leaves.", "* ann is here", "* bob joined")
	ann.sees("* bob joined")

	bob.types(strings.Repeat("x", 100_000) + "\n" + "\xff\n" + "\n")
	bob.sees("! malformed request: not UTF-8, or over 4096 bytes", "! malformed request: not UTF-8, or over 4096 bytes",
		"! text is empty or not valid UTF-8")
	bob.types("red: \x1b[31m\n") // nobody's terminal obeys
	for _, c := range []*terminal{bob, ann} {
		c.sees("<bob> red: \uFFFD[31m")
	}

	cy := dial(t, addr)
	cy.types("cy\n")
	ann.sees("* cy joined")
	cy.conn.Close()
	ann.sees("* cy left (lost)")
	bob.sees("* cy joined", "* cy left (lost)")
	bob.types("/quit\n")
	bob.sees("Bye: as you said")
	bob.isOut()
	ann.sees("* bob left (goodbye)")

	dee := dial(t, addr)
	dee.types("ann\n")
	dee.sees("Your name?", "! name is taken") // an answer: so the room has her, and not only the listener
	if err := end(); err != nil {
		t.Error(err)
	}
	for _, c := range []*terminal{ann, dee} {
		c.sees("Bye: room is shutting down")
		c.isOut()
	}
}

// TestMouths shows that nobody's name, and nothing somebody says, looks like what another says.
func TestMouths(t *testing.T) {
	addr, _ := room(t)
	eve := dial(t, addr)
	eve.sees("Your name?")
	for _, row := range []struct{ name, why string }{
		{"ann> I resign <eve", "words of another's"},
		{"<ann", "a name in brackets of its own"},
		{"ann>", "the end of a name"},
		{"ann\uFF1E so \uFF1Ceve", "they are shown as > and <"},
	} {
		t.Log(row.why)
		eve.types(row.name + "\n")
		eve.sees("! name not allowed: may not hold < or >")
	}
	eve.types("eve\n")
	eve.sees("Welcome, eve. /quit leaves.", "* eve joined")
	for _, row := range []struct{ text, want, why string }{
		{"a\u2028<ann> b", "a\uFFFD<ann> b", "a line separator"},
		{"a\u2029<ann> b", "a\uFFFD<ann> b", "a paragraph separator"},
		{"a\u0085<ann> b", "a\uFFFD<ann> b", "a next line, which is a control character"},
		{"a\u202Ecod.exe", "a\uFFFDcod.exe", "what follows would be read from the right"},
		{"a\u200Bb", "a\uFFFDb", "nobody sees it"},
		{"grüße, 漢字 <-> 🙂", "grüße, 漢字 <-> 🙂", "all else stays"},
	} {
		t.Log(row.why)
		eve.types(row.text + "\n")
		eve.sees("<eve> " + row.want)
	}
}

// TestVanished adds up how long somebody may seem to be here who is not: at worst something is said right before the last
// question of TCP goes unanswered, and then it counts anew.
func TestVanished(t *testing.T) {
	k := listen.KeepAliveConfig
	if d := k.Idle + time.Duration(k.Count)*k.Interval + unanswered; !k.Enable || d > 45*time.Second {
		t.Errorf("%v until somebody who vanished is lost", d)
	}
}

// TestSize keeps what is to be read in one go so short.
func TestSize(t *testing.T) {
	for _, name := range []string{"main.go", "transport.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n >= 150 {
			t.Errorf("%s has %d lines, not less than 150", name, n)
		}
	}
}
