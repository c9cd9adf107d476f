package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"nhooyr.io/websocket"
)

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

// A page stands for a page in a browser: a Socket.IO client, as small as the tests need it. In a bubble its methods are
// exact: what has not come within a second of virtual time doesn't come.
type page struct {
	t    *testing.T
	name string // in what the test prints
	http *http.Client
	url  string // http://host/
	sid  string // on polling
	ws   *websocket.Conn
	ctx  context.Context
	stop context.CancelFunc // tears the connection, without a word
	done chan struct{}      // closed when the connection has ended

	mu     sync.Mutex // guards the fields below
	mute   bool       // answers no ping
	held   bool       // makes no further poll
	got    []string   // received and not looked at yet
	acks   int        // asked for so far
	pid    string     // by which it comes back
	socket string     // the socket's id
	offset string     // of the last event that had one
}

// transports are how a page may be connected.
var transports = []string{"polling", "websocket"}

// newPage connects a page and waits until it is connected.
func newPage(t *testing.T, name, transport string, dial dialFunc) *page {
	t.Helper()
	return newPageAt(t, name, transport, "http://chat.test/", "", dial)
}

// back is the page again, on a new connection, with what it has from the one before.
func (p *page) back(transport string, dial dialFunc) *page {
	p.t.Helper()
	p.mu.Lock()
	auth := fmt.Sprintf(`{"pid":%q,"offset":%q}`, p.pid, p.offset)
	if p.offset == "" {
		auth = fmt.Sprintf(`{"pid":%q}`, p.pid)
	}
	pid, offset := p.pid, p.offset
	p.mu.Unlock()
	again := newPageAt(p.t, p.name, transport, p.url, auth, dial)
	again.mu.Lock()
	defer again.mu.Unlock()
	if again.pid == pid {
		again.offset = cmp.Or(again.offset, offset)
	}
	return again
}

func newPageAt(t *testing.T, name, transport, url, auth string, dial dialFunc) *page {
	t.Helper()
	tr := &http.Transport{DialContext: dial}
	p := &page{t: t, name: name, url: url, done: make(chan struct{}), http: &http.Client{Transport: tr}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		p.stop()
		<-p.done
		tr.CloseIdleConnections()
	})
	p.open(transport)
	read := p.poll
	if p.ws != nil {
		read = p.listen
	}
	connected := make(chan struct{})
	go func() {
		defer close(p.done)
		read(sync.OnceFunc(func() { close(connected) }))
	}()
	p.send("40" + auth) // CONNECT
	select {
	case <-connected:
	case <-p.done:
		select {
		case <-connected: // and then it ended
		default:
			t.Fatalf("%s: connection ended before it began: %v", name, p.got)
		}
	}
	return p
}

// open does the handshake.
func (p *page) open(transport string) {
	p.t.Helper()
	query := "socket.io/?EIO=4&transport=" + transport
	var err error
	if transport == "websocket" {
		p.ws, _, err = websocket.Dial(p.ctx, p.url+query, &websocket.DialOptions{HTTPClient: p.http})
	} else {
		var body string
		if body, err = p.request(http.MethodGet, query, ""); err == nil {
			var open struct{ SID string }
			err = json.Unmarshal([]byte(strings.TrimPrefix(body, "0")), &open)
			p.sid = open.SID
		}
	}
	if err != nil {
		p.t.Fatalf("%s: handshake: %v", p.name, err)
	}
}

// request makes one request of polling.
func (p *page) request(method, query, body string) (string, error) {
	return fetch(p.ctx, p.http, method, p.url+query, body)
}

// fetch makes a request; any other answer than 200 is an error.
func fetch(ctx context.Context, client *http.Client, method, url, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, data)
	}
	return string(data), err
}

func (p *page) query() string { return "socket.io/?EIO=4&transport=polling&sid=" + p.sid }

// poll reads on polling, listen on a WebSocket, until the connection ends.
func (p *page) poll(connected func()) {
	for {
		p.mu.Lock()
		held := p.held
		p.mu.Unlock()
		if held {
			<-p.ctx.Done()
		}
		body, err := p.request(http.MethodGet, p.query(), "")
		if err != nil {
			p.receive("end", connected)
			return
		}
		for _, packet := range strings.Split(body, "\x1e") {
			if packet == "1" {
				p.receive("end", connected)
				return
			}
			p.receive(packet, connected)
		}
	}
}

func (p *page) listen(connected func()) {
	defer p.ws.CloseNow() // stop ends a Read, but not what comes between two
	for {
		_, data, err := p.ws.Read(p.ctx)
		if err != nil {
			p.receive("end", connected)
			return
		}
		p.receive(string(data), connected)
	}
}

// receive takes one packet. An event becomes its JSON, ["name", …]; an answer "ack 1 […]"; the end of the connection
// "end", and "disconnect" before it if the server asked the page to stay away.
func (p *page) receive(packet string, connected func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case packet == "2":
		if !p.mute {
			go p.send("3")
		}
	case strings.HasPrefix(packet, "0"), packet == "6":
	case strings.HasPrefix(packet, "40"):
		var is struct{ SID, PID string }
		if err := json.Unmarshal([]byte(packet[2:]), &is); err != nil {
			p.t.Errorf("%s: %s: %v", p.name, packet, err)
		}
		p.socket, p.pid = is.SID, is.PID
		connected()
	case strings.HasPrefix(packet, "42"):
		event, offset := cutOffset(packet[2:])
		if (offset == "") != strings.HasPrefix(event, `["updateUserList",`) {
			p.t.Errorf("%s: %s has the offset %q", p.name, event, offset)
		}
		// An event for all stands after everything before it. One for the page alone must not say that it has got what
		// is still to come.
		before, at := sequence(p.offset), sequence(offset)
		if own := event == `["loginSuccess"]` || event == `["loginOut"]`; offset != "" && (at < before || at == before && !own) {
			p.t.Errorf("%s: %s has the offset %s after %s", p.name, event, offset, p.offset)
		}
		p.offset = cmp.Or(offset, p.offset)
		p.got = append(p.got, canonical(event))
	case strings.HasPrefix(packet, "43"):
		id, args, _ := strings.Cut(packet[2:], "[")
		p.got = append(p.got, "ack "+id+" "+canonical("["+args))
	case strings.HasPrefix(packet, "44"):
		p.got = append(p.got, "refused "+packet[2:])
		connected() // as far as it will ever be
	case packet == "41":
		p.got = append(p.got, "disconnect")
	default:
		p.got = append(p.got, packet)
	}
}

// cutOffset takes the last argument off an event if it is an offset, and the nulls before it.
func cutOffset(event string) (rest, offset string) {
	if at := trailing.FindStringSubmatchIndex(event); at != nil {
		return event[:at[0]] + "]", event[at[2]:at[3]]
	}
	return event, ""
}

// sequence is the second half of an offset; 0 of none.
func sequence(offset string) uint64 {
	_, seq, _ := strings.Cut(offset, "-")
	n, _ := strconv.ParseUint(seq, 10, 64)
	return n
}

var trailing = regexp.MustCompile(`(?:,null)*,"([0-9a-f]+-[0-9]+)"\]$`)

// epoch is the first half of a position, which is another for each room.
var epoch = regexp.MustCompile(`"pos":"[0-9a-f]+-`)

// canonical is the same JSON without needless escapes, and with E for the epoch of a position.
func canonical(data string) string {
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return fmt.Sprintf("not JSON: %q", data)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return epoch.ReplaceAllString(strings.TrimSuffix(b.String(), "\n"), `"pos":"E-`)
}

// send sends packets of Engine.IO.
func (p *page) send(packets ...string) {
	var err error
	if p.ws != nil {
		for _, packet := range packets {
			err = errors.Join(err, p.ws.Write(p.ctx, websocket.MessageText, []byte(packet)))
		}
	} else {
		_, err = p.request(http.MethodPost, p.query(), strings.Join(packets, "\x1e"))
	}
	if err != nil && p.ctx.Err() == nil {
		p.t.Logf("%s: send %q: %v", p.name, packets, err)
	}
}

// hold lets a page on polling take nothing any more.
func (p *page) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// emit sends an event, given as JSON.
func (p *page) emit(event string) { p.send("42" + event) }

// ask sends an event that asks for an answer, which comes as "ack n […]", counted from 1.
func (p *page) ask(event string) {
	p.mu.Lock()
	p.acks++
	id := p.acks
	p.mu.Unlock()
	p.send(fmt.Sprintf("42%d%s", id, event))
}

// want checks what the page has received since it was last asked: exactly this.
func (p *page) want(why string, events ...string) {
	p.t.Helper()
	if diff := gocmp.Diff(events, p.take()); diff != "" {
		p.t.Errorf("%s: %s received (-want +got):\n%s", why, p.name, diff)
	}
}

// take returns what the page has received since it was last asked.
func (p *page) take() []string {
	settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// settle lets everything that is under way arrive.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// login logs in, and drops what the page receives.
func (p *page) login(name string) {
	p.t.Helper()
	p.emit(fmt.Sprintf(`["login",%q]`, name))
	if got := p.take(); !slices.Contains(got, `["loginSuccess"]`) {
		p.t.Fatalf("%s: not logged in: %v", name, got)
	}
}

// A v1 is a client of chat.v1, the WebSocket adapter's protocol.
type v1 struct {
	t    *testing.T
	ws   *websocket.Conn
	done chan struct{}

	mu  sync.Mutex // guards got
	got []string   // received and not looked at yet
}

func newV1(t *testing.T, dial dialFunc) *v1 {
	t.Helper()
	tr := &http.Transport{DialContext: dial}
	ws, _, err := websocket.Dial(t.Context(), "http://chat.test/ws", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{"chat.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &v1{t: t, ws: ws, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		<-c.done
	})
	go func() {
		defer close(c.done)
		for {
			_, data, err := ws.Read(ctx)
			line := fmt.Sprintf("end %d", websocket.CloseStatus(err))
			if err == nil {
				line = frame(data)
			}
			c.mu.Lock()
			c.got = append(c.got, line)
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	settle() // until the room knows it
	return c
}

// frame is what a test looks at of a frame, in one line.
func frame(data []byte) string {
	var f struct {
		Reply, Ref, Event, Text, Reason string
		User                            struct{ Name string }
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Sprintf("not JSON: %q", data)
	}
	if f.Reply != "" {
		return "reply " + f.Reply + " " + f.Ref
	}
	return strings.TrimSpace(f.Event + " " + f.User.Name + " " + f.Text + f.Reason)
}

func (c *v1) send(request string) {
	c.t.Helper()
	if err := c.ws.Write(c.t.Context(), websocket.MessageText, []byte(request)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *v1) want(why string, lines ...string) {
	c.t.Helper()
	settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := gocmp.Diff(lines, c.got); diff != "" {
		c.t.Errorf("%s: client of chat.v1 received (-want +got):\n%s", why, diff)
	}
	c.got = nil
}

// A dialFunc connects to a server under test.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A pipeListener is a listener of pipes, for virtual time: a real socket would not be part of a bubble.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
