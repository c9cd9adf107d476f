package chat_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/chat"
)

// A hall is a room on real sockets, whose clients come through lines that the test cuts.
type hall struct {
	t      testing.TB
	log    *chat.MemoryLog
	room   *chat.Room
	addr   string       // of the server
	middle net.Listener // where lines are joined
	said   int          // how many sessions the script has made
	in     []*chat.Session
}

// newHall serves a room on log until the test ends. A session lingers for longer than any test lasts, unless o says
// otherwise.
func newHall(t testing.TB, log *chat.MemoryLog, ro *chat.RoomOptions, o chat.ServeOptions) *hall {
	t.Helper()
	var opts chat.RoomOptions
	if ro != nil {
		opts = *ro
	}
	opts.Log = log
	o.Rate = -1
	if o.Linger == 0 {
		o.Linger = 24 * time.Hour
	}
	h := &hall{t: t, log: log}
	var err error
	if h.middle, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.middle.Close() })
	h.room = newRoom(t, &opts)
	server := httptest.NewServer(chat.NewWebSocketHandler(h.room, &chat.WebSocketOptions{Serve: o}))
	h.addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		h.room.Close()
		server.Close()
	})
	return h
}

// A cut says where a line goes dead, each way counted in units: the first is the head of the HTTP request, or of its
// answer, and then each frame is one.
type cut struct {
	side  byte // 'u': what goes up to the server; 'd': what comes down from it; else the line is whole
	units int  // how many pass
	part  int  // how many bytes of the next one do; -1: all but the last
	deaf  bool // the server is not told: for it the connection stands
}

// A line is one client's connection: two of TCP, with the test between them.
type line struct {
	cut            cut
	client, server *net.TCPConn
	reached        chan struct{} // closed when the first unit is there that is not to pass
	wg             sync.WaitGroup
}

// line connects to the server, and returns the client's end of it as well.
func (h *hall) line(c cut) (*line, net.Conn) {
	dial := func(addr string) *net.TCPConn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			h.t.Fatal(err)
		}
		return conn.(*net.TCPConn)
	}
	l := &line{cut: c, server: dial(h.addr), reached: make(chan struct{})}
	end := dial(h.middle.Addr().String())
	mid, err := h.middle.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	l.client = mid.(*net.TCPConn)
	l.wg.Go(func() { l.carry(l.server, l.client, 'u', true) })
	l.wg.Go(func() { l.carry(l.client, l.server, 'd', false) })
	h.t.Cleanup(func() {
		reset(l.client)
		reset(l.server)
		l.wg.Wait()
		end.Close()
	})
	return l, end
}

// carry copies from one end to the other what is to pass.
func (l *line) carry(dst, src *net.TCPConn, side byte, masked bool) {
	if l.cut.side != side {
		_, _ = io.Copy(dst, src) // until the line is killed
		return
	}
	br := bufio.NewReader(src)
	for n := 0; ; n++ {
		b, err := unit(br, n == 0, masked)
		if err != nil {
			return
		}
		if n < l.cut.units {
			if _, err := dst.Write(b); err != nil {
				return
			}
			continue
		}
		part := min(l.cut.part, len(b)-1)
		if part < 0 {
			part = len(b) - 1
		}
		_, _ = dst.Write(b[:part])
		close(l.reached)
		if n == 0 {
			l.kill() // whose dial would wait for ever
		}
		return
	}
}

// unit reads a head of HTTP, or a frame.
func unit(br *bufio.Reader, head, masked bool) ([]byte, error) {
	var b []byte
	for head {
		s, err := br.ReadSlice('\n')
		if b = append(b, s...); err != nil || len(s) <= 2 {
			return b, err
		}
	}
	h, err := br.Peek(2)
	if err != nil {
		return nil, err
	}
	n, size := 2, int(h[1]&0x7f)
	if size == 126 {
		if h, err = br.Peek(4); err != nil {
			return nil, err
		}
		n, size = 4, int(binary.BigEndian.Uint16(h[2:]))
	} else if size == 127 {
		return nil, errors.New("a longer frame than these tests have")
	}
	if masked {
		n += 4
	}
	b = make([]byte, n+size)
	_, err = io.ReadFull(br, b)
	return b, err
}

// kill resets the connection: no close frame, no FIN, and what was not yet read by then is lost.
func (l *line) kill() {
	reset(l.client)
	if !l.cut.deaf {
		reset(l.server)
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // an error: it is closed already
	_ = c.Close()
}

// A regular is a client that comes back, as PROTOCOL.md tells it to.
type regular struct {
	h         *hall
	name      string
	spectator bool // it never logs in

	token  string
	at     chat.Position // of the last event that it dealt with, or where its hearing began
	from   chat.Position // where its hearing began
	before []chat.User   // who was in then
	heard  []chat.Event  // since then

	c    *wsClient
	line *line
}

// A wsReply is a reply of the server's.
type wsReply struct {
	Reply, Ref, ID, Code, Message, Token string

	User  chat.User
	Pos   chat.Position
	Start *struct {
		At      chat.Position
		Resumed bool
		Roster  []chat.User
	}
}

// dial connects over a line with a cut. If that is in the handshake there is no connection.
func (g *regular) dial(c cut) {
	h := g.h
	l, end := h.line(c)
	g.line, g.c = l, nil
	hc := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return end, nil },
	}}
	early := c.side != 0 && c.units == 0
	ws, _, err := dialWS(h.t, "ws://"+h.addr+"/ws", hc)
	if early != (err != nil) {
		h.t.Fatalf("the handshake, with the cut %+v: %v", c, err)
	}
	g.c = ws
}

// ask sends what begins or takes up its hearing; more is put into the request as it is.
func (g *regular) ask(more string) {
	req := `{"op":"login","name":"` + g.name + `"`
	switch {
	case g.spectator:
		req = `{"op":"subscribe"`
	case g.token != "":
		req = `{"op":"login","token":"` + g.token + `"`
	}
	g.c.send(req + more + "}")
}

// after is the member of a request that asks for what follows the last event.
func (g *regular) after() string { return `,"after":"` + g.at.String() + `"` }

// reply reads a reply, which the next frame has to be.
func (g *regular) reply() wsReply {
	g.h.t.Helper()
	frame := g.c.next()
	var rep wsReply
	if err := json.Unmarshal([]byte(frame), &rep); err != nil || rep.Reply == "" {
		g.h.t.Fatalf("not a reply: %s (%v)", frame, err)
	}
	return rep
}

// begin reads the reply to ask, which has to be one that lets it hear; resumed says which kind it has to be.
func (g *regular) begin(resumed bool) wsReply {
	t := g.h.t
	t.Helper()
	rep := g.reply()
	if rep.Start == nil {
		t.Fatalf("let in as %+v", rep)
	}
	s := rep.Start
	if s.Resumed != resumed || resumed && (s.At != g.at || s.Roster != nil) || !resumed && s.Roster == nil {
		t.Fatalf("resumed, and not fresh, should be %v, after %v: %+v", resumed, g.at, *s)
	}
	if !resumed {
		g.from, g.at, g.before, g.heard = s.At, s.At, s.Roster, nil
	}
	if !g.spectator {
		g.token = rep.Token
	}
	return rep
}

// hear reads n events.
func (g *regular) hear(n int) {
	g.h.t.Helper()
	for range n {
		e := decodeEvent(g.h.t, g.c.next())
		g.heard, g.at = append(g.heard, e), e.Meta().Pos
	}
}

// hearUpTo reads events up to the one at p.
func (g *regular) hearUpTo(p chat.Position) {
	g.h.t.Helper()
	for g.at.Seq < p.Seq {
		g.hear(1)
	}
	if g.at != p {
		g.h.t.Fatalf("heard of %v, and never of %v", g.at, p)
	}
}

// cutOff kills its connection. Nothing comes from it afterwards.
func (g *regular) cutOff() {
	g.h.t.Helper()
	g.line.kill()
	if g.c == nil {
		return
	}
	for f := range g.c.frames {
		g.h.t.Errorf("a frame came past the cut: %s", f)
	}
	if strings.HasPrefix(g.c.ended(), "close ") {
		g.h.t.Errorf("a connection that was killed ended with a %s", g.c.ended())
	}
}

// comeUntil comes over a line with a cut, and hears so many events of a run, which goes on to its end.
func (g *regular) comeUntil(c cut, events int) {
	g.h.t.Helper()
	g.dial(c)
	g.ask("")
	g.begin(false)
	g.h.act(runEvents)
	g.hear(events)
}

// comeBack comes over a whole line, goes on where it was, and has then missed nothing.
func (g *regular) comeBack() {
	g.h.t.Helper()
	g.dial(cut{})
	g.ask(g.after())
	g.hearUpTo(g.begin(true).Pos)
	g.speak("last")
	g.check()
}

// check compares all that it heard since its hearing began with the log.
func (g *regular) check() {
	t := g.h.t
	t.Helper()
	if err := chain(g.from, g.heard); err != nil {
		t.Error(err)
	}
	truth := g.h.truth()
	i := slices.IndexFunc(truth, func(e chat.Event) bool { return e.Meta().Prev == g.from })
	if i < 0 {
		t.Fatalf("hearing began after %v, which is nowhere in the log", g.from)
	}
	diff(t, "what the log has, and what was heard", truth[i:], g.heard)
	diff(t, "who was in where hearing began", roll(t, []chat.User{}, truth[:i]), g.before)
	diff(t, "who is in, and who should be after what was heard", g.h.room.Members(), roll(t, g.before, g.heard))
}

// speak says a last word: its event has to come right after all that was heard, so that nothing is doubled or late.
func (g *regular) speak(id string) {
	g.h.t.Helper()
	g.c.send(`{"op":"send","id":"` + id + `","text":"back"}`)
	if rep := g.reply(); rep.Reply != "send" || rep.ID != id {
		g.h.t.Fatalf("the answer to a message: %+v", rep)
	}
	g.hear(1)
}

// truth is what stands in the log, as a room reads it that was opened for this.
func (h *hall) truth() []chat.Event {
	h.t.Helper()
	ctx := context.Background()
	recs, err := h.log.Read(ctx, chat.Position{}, 1<<30)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := chat.NewRoom(&chat.RoomOptions{Log: h.log})
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	sub := subscribe(h.t, r, &chat.SubscribeOptions{After: chat.Position{Epoch: recs[0].Pos.Epoch}})
	var events []chat.Event
	for _, rec := range recs {
		e := <-sub.Events()
		if e == nil || e.Meta().Pos != rec.Pos {
			h.t.Fatalf("the record at %v is read as %+v", rec.Pos, e)
		}
		events = append(events, inMS(e))
	}
	return events
}

// end is the position of the log's last record.
func (h *hall) end() chat.Position {
	h.t.Helper()
	s, err := h.log.Snapshot(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return s.At
}

// act makes n events, one each: joins, messages, resumes and leaves, mixed.
func (h *hall) act(n int) {
	ctx := context.Background()
	for i := range n {
		var err error
		switch last := len(h.in) - 1; {
		case i%6 == 0 || last < 0:
			var s *chat.Session
			s, err = h.room.Login(ctx, fmt.Sprint("n", h.said), &chat.LoginOptions{Linger: time.Hour})
			h.in = append(h.in, s)
			h.said++
		case i%6 == 3:
			h.in[0], err = h.room.Resume(ctx, h.in[0].Token(), true)
		case i%12 == 5:
			err, h.in = h.room.Logout(ctx, h.in[0]), h.in[1:]
		case i%12 == 11:
			err, h.in = h.room.Kick(ctx, h.in[last].User().Name, "<b>\u2028 & \"so\""), h.in[:last]
		default:
			_, err = h.room.Send(ctx, h.in[i%len(h.in)], strings.Repeat("wörd ", 1+i%40), nil)
		}
		if err != nil {
			h.t.Errorf("event %d: %v", i, err)
			return
		}
	}
}

// inMS is an event as it looks when its time has come in milliseconds.
func inMS(e chat.Event) chat.Event {
	switch e := e.(type) {
	case chat.Joined:
		e.At.Time = e.At.Time.Truncate(time.Millisecond)
		return e
	case chat.Said:
		e.At.Time = e.At.Time.Truncate(time.Millisecond)
		return e
	case chat.Left:
		e.At.Time = e.At.Time.Truncate(time.Millisecond)
		return e
	case chat.Resumed:
		e.At.Time = e.At.Time.Truncate(time.Millisecond)
		return e
	}
	panic("not an event")
}

// decodeEvent reads an event's frame.
func decodeEvent(t testing.TB, frame string) chat.Event {
	t.Helper()
	var f struct {
		Event, ID, Text, Reason, Note string
		Pos, Prev                     chat.Position
		Time                          time.Time
		User                          chat.User
	}
	if err := json.Unmarshal([]byte(frame), &f); err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	m := chat.Meta{Pos: f.Pos, Prev: f.Prev, Time: f.Time}
	switch f.Event {
	case "joined":
		return chat.Joined{At: m, User: f.User}
	case "said":
		return chat.Said{At: m, User: f.User, ID: f.ID, Text: f.Text}
	case "resumed":
		return chat.Resumed{At: m, User: f.User}
	case "left":
		for r := chat.Logout; r <= chat.Shutdown; r++ {
			if r.String() == f.Reason {
				return chat.Left{At: m, User: f.User, Reason: r, Note: f.Note}
			}
		}
	}
	t.Fatalf("not an event: %s", frame)
	return nil
}
