package chat_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"example.com/chat"
)

// runEvents is how long the run is that the tests below cut at every place.
const runEvents = 60

// TestDropAtEveryIndex kills a client's connection after each event of a run: cleanly between two frames, or in the middle
// of one; so that the server is told, or so that it is not. The client comes back with its token and the last position,
// and has then heard exactly what the log has.
func TestDropAtEveryIndex(t *testing.T) {
	for _, tt := range []struct {
		why  string
		part int
		deaf bool
	}{
		{"between two frames", 0, false},
		{"in the head of a frame", 1, false},
		{"in the middle of a frame", 40, false},
		{"before a frame's last byte", -1, false},
		{"and the server has not noticed when the client is back", 0, true},
	} {
		for k := range runEvents + 1 {
			t.Run(fmt.Sprintf("%s/%d", tt.why, k), func(t *testing.T) {
				h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
				g := &regular{h: h, name: "Ann"}
				g.comeUntil(cut{'d', 2 + k, tt.part, tt.deaf}, k)
				if k < runEvents {
					<-g.line.reached // so that the part has gone out
				}
				g.cutOff()
				g.comeBack()
			})
		}
	}
}

// TestDropWhileTheRoomTalks is the same in a room that does not wait: what happens while the client is away, and while
// it comes back, is not missed either.
func TestDropWhileTheRoomTalks(t *testing.T) {
	for k := range runEvents + 1 {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
			g := &regular{h: h, name: "Ann"}
			g.dial(cut{'d', 2 + k, 0, false})
			g.ask("")
			g.begin(false)
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.act(3 * runEvents)
			}()
			g.hear(k)
			g.cutOff()
			g.dial(cut{})
			g.ask(g.after())
			g.begin(true)
			<-done
			g.hearUpTo(h.end())
			g.speak("last")
			g.check()
		})
	}
}

// TestDropOfASpectator is the same for one who hears without a session.
func TestDropOfASpectator(t *testing.T) {
	for k := range runEvents + 1 {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{Spectators: true})
			h.act(6)
			g := &regular{h: h, spectator: true}
			g.comeUntil(cut{'d', 2 + k, k % 30, false}, k)
			g.cutOff()
			if k%2 == 0 {
				h.act(1)
			}
			g.dial(cut{})
			g.ask(g.after())
			g.begin(true)
			g.hearUpTo(h.end())
			h.act(1)
			g.hear(1)
			g.check()
		})
	}
}

// TestDropAgainWhileComingBack kills the connection by which the client comes back as well, at each of its stages, and
// the one after it too: whatever reached the server by then, the next try hears all that the log has.
func TestDropAgainWhileComingBack(t *testing.T) {
	for _, tt := range []struct {
		why  string
		cut  cut
		hear int  // how many events come through
		let  bool // the reply comes through
	}{
		{"the server hears nothing", cut{'u', 0, 0, false}, 0, false},
		{"half of the handshake's request", cut{'u', 0, 60, false}, 0, false},
		{"its answer is lost", cut{'d', 0, 0, false}, 0, false},
		{"half of its answer", cut{'d', 0, 60, false}, 0, false},
		{"the login is lost", cut{'u', 1, 0, false}, 0, false},
		{"half of the login", cut{'u', 1, 30, false}, 0, false},
		{"the login but for a byte", cut{'u', 1, -1, false}, 0, false},
		{"it is in, but has no reply", cut{'d', 1, 0, false}, 0, false},
		{"and the server does not know that it is gone", cut{'d', 1, 0, true}, 0, false},
		{"half of the reply", cut{'d', 1, 30, false}, 0, false},
		{"the reply but for a byte", cut{'d', 1, -1, false}, 0, false},
		{"the reply, and no event", cut{'d', 2, 0, false}, 0, true},
		{"the reply and half of an event", cut{'d', 2, 30, false}, 0, true},
		{"the reply and some events", cut{'d', 9, 0, false}, 7, true},
		{"the reply and all but its own", cut{'d', 2 + 50, 0, false}, 50, true},
		{"the server does not know that it is gone", cut{'d', 9, 1, true}, 7, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
			g := &regular{h: h, name: "Ann"}
			g.comeUntil(cut{'d', 2 + 11, 20, false}, 11)
			g.cutOff()
			for range 3 { // the third time after it had heard more
				g.dial(tt.cut)
				if g.c != nil {
					g.ask(g.after())
				}
				if tt.let {
					g.begin(true)
					g.hear(min(tt.hear, int(h.end().Seq-g.at.Seq)))
				} else {
					<-g.line.reached
				}
				g.cutOff()
				h.act(6)
			}
			g.comeBack()
		})
	}
}

// TestDropBeforeTheLoginsReply shows what a client meets that has no token, for it was killed too early: its own name is
// taken, for as long as its session lingers.
func TestDropBeforeTheLoginsReply(t *testing.T) {
	for _, tt := range []struct {
		why string
		cut cut
	}{
		{"no byte of it", cut{'d', 1, 0, false}},
		{"half of it", cut{'d', 1, 30, false}},
		{"and the server has not noticed", cut{'d', 1, 0, true}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
			g := &regular{h: h, name: "Ann"}
			g.dial(tt.cut)
			g.ask("")
			<-g.line.reached
			g.cutOff()
			h.act(6)
			g.dial(cut{})
			g.ask(`,"last":100`)
			diff(t, "the refusal", wsReply{Reply: "error", Code: "name_taken", Message: "name is taken"}, g.reply())
			// The connection is good for another name, and nothing of the room was missed.
			g.name = "Ann2"
			g.ask(`,"last":100`)
			g.hearUpTo(g.begin(false).Pos)
			g.speak("last")
			g.check()
		})
	}
}

// TestDropBeforeTheLoginsReplyIsWaitedOut is the same in virtual time: trying again as PROTOCOL.md says lets the client
// in under its name as soon as the session that it never heard of is over.
func TestDropBeforeTheLoginsReplyIsWaitedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const linger = time.Minute
		s := serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{Linger: linger}}, nil)
		sub := s.follow()
		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Ann"}`)
		next(t, sub)
		p.Close()
		lost := time.Now()
		rnd := rand.New(rand.NewPCG(1, 2))
		tries := 0
		for most := time.Second; ; most = min(2*most, 30*time.Second) {
			tries++
			c := s.dial()
			c.send(`{"op":"login","name":"Ann"}`)
			got := wsSettled(c.next())
			if strings.HasPrefix(got, `{"reply":"login"`) {
				break
			}
			if want := `{"reply":"error","code":"name_taken","message":"name is taken"}`; got != want {
				t.Fatalf("try %d: %s", tries, got)
			}
			c.drop()
			time.Sleep(time.Duration(rnd.Int64N(int64(most))))
		}
		if d := time.Since(lost); tries < 3 || d < linger || d > linger+30*time.Second {
			t.Errorf("in after %d tries and %v", tries, d)
		}
		if got := words([]chat.Event{next(t, sub), next(t, sub)}); got != "-Ann(lost) +Ann" {
			t.Errorf("the others saw %s", got)
		}
	})
}

// TestDropAndRefused shows each refusal of a position after a loss: it has no effect, the connection and the session stay,
// and with fresh the same client is in again, is told that something may be missing, and hears on from where it is told.
func TestDropAndRefused(t *testing.T) {
	for _, tt := range []struct {
		why       string
		window    int
		spectator bool
		spoil     func(g *regular)
		want      wsReply
	}{
		{"what it missed is trimmed", 8000, false, func(g *regular) { g.h.act(2 * runEvents) },
			wsReply{Code: "trimmed", Message: "position is no longer kept"}},
		{"and for a spectator", 8000, true, func(g *regular) { g.h.act(2 * runEvents) },
			wsReply{Code: "trimmed", Message: "position is no longer kept"}},
		{"of another life of the log", 0, false, func(g *regular) { g.at.Epoch++ },
			wsReply{Code: "epoch", Message: "position is of another life of the log"}},
		{"and for a spectator", 0, true, func(g *regular) { g.at.Epoch++ },
			wsReply{Code: "epoch", Message: "position is of another life of the log"}},
		{"ahead of the log", 0, false, func(g *regular) { g.at.Seq += 1000 },
			wsReply{Code: "ahead", Message: "position is not in the log"}},
		{"and for a spectator", 0, true, func(g *regular) { g.at.Seq += 1000 },
			wsReply{Code: "ahead", Message: "position is not in the log"}},
	} {
		for k := 0; k <= 20; k += 10 {
			t.Run(fmt.Sprintf("%s/%d", tt.why, k), func(t *testing.T) {
				h := newHall(t, chat.NewMemoryLog(nil), &chat.RoomOptions{Window: tt.window}, chat.ServeOptions{Spectators: tt.spectator})
				h.act(6)
				g := &regular{h: h, name: "Ann", spectator: tt.spectator}
				g.dial(cut{'d', 2 + k, 0, false})
				g.ask("")
				g.begin(false)
				h.act(k + 1)
				g.hear(k)
				g.cutOff()
				tt.spoil(g)
				end := h.end()
				g.dial(cut{})
				tt.want.Reply, tt.want.Ref = "error", "7"
				for range 2 { // once more is no better
					g.ask(g.after() + `,"ref":"7"`)
					diff(t, "the refusal", tt.want, g.reply())
				}
				if h.end() != end {
					t.Error("a refusal put something into the log")
				}
				g.ask(g.after() + `,"fresh":true,"last":3`)
				rep := g.begin(false)
				if g.at.Seq+3 != end.Seq {
					t.Errorf("hearing begins after %v; the log's end was %v", g.at, end)
				}
				if g.spectator {
					h.act(1)
				} else if rep.User.Name != "Ann" || rep.Pos.Seq != end.Seq+1 {
					t.Errorf("the session was not taken up: %+v", rep)
				}
				g.hearUpTo(h.end())
				if !g.spectator {
					g.speak("last")
				}
				g.check()
			})
		}
	}
}

// TestDropAndTheServerIsNew shows a client through the whole recipe of PROTOCOL.md where the server has lost its log: its
// position is refused, then its token, and then it is in by name, anew.
func TestDropAndTheServerIsNew(t *testing.T) {
	g := &regular{h: newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{}), name: "Ann"}
	g.comeUntil(cut{'d', 2 + 7, 0, false}, 7)
	g.cutOff()

	g.h = newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
	g.h.act(4)
	g.dial(cut{})
	g.ask(g.after())
	diff(t, "its position", wsReply{Reply: "error", Code: "epoch", Message: "position is of another life of the log"}, g.reply())
	g.ask(g.after() + `,"fresh":true`)
	diff(t, "its token", wsReply{Reply: "error", Code: "token", Message: "no session of that token"}, g.reply())
	g.token = ""
	g.ask(g.after() + `,"fresh":true`)
	g.hearUpTo(g.begin(false).Pos)
	g.speak("last")
	g.check()
}

// TestDropToAnotherNode is a drop at every index where the client comes back to another room on the same log, which was
// opened before or after it was killed.
func TestDropToAnotherNode(t *testing.T) {
	for k := range runEvents + 1 {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
			g := &regular{h: h, name: "Ann"}
			var other *hall
			open := func() { other = newHall(t, h.log, nil, chat.ServeOptions{}) }
			if k%2 == 0 {
				open()
			}
			g.comeUntil(cut{'d', 2 + k, k % 50, k%3 == 0}, k)
			g.cutOff()
			if k%2 == 1 {
				open()
			}
			g.h = other
			g.comeBack()
		})
	}
}

// TestDropCutsWhereItSays holds the tests above to what they say: a client gets exactly the events before the cut, and
// the part of the next one, and is then reset.
func TestDropCutsWhereItSays(t *testing.T) {
	// With the long name an event's payload has over 125 bytes, however short its position is, and its header four.
	for _, tt := range []struct {
		cut  cut
		want string // the last bytes that come
	}{
		{cut{'d', 3, 0, false}, `"user":{"name":"Ann of Green Gables"}}`},
		{cut{'d', 2, 10, false}, `{"even`},
	} {
		h := newHall(t, chat.NewMemoryLog(nil), nil, chat.ServeOptions{})
		l, end := h.line(tt.cut)
		p := &rawPeer{Conn: end, t: t}
		if _, err := io.WriteString(p, "GET /ws HTTP/1.1\r\nHost: chat.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		p.send(0x81, `{"op":"login","name":"Ann of Green Gables"}`)
		var got strings.Builder
		b := make([]byte, 1)
		for !strings.HasSuffix(wsEpochs.ReplaceAllString(got.String(), `"e-$1"`), tt.want) {
			if _, err := p.Read(b); err != nil {
				t.Fatalf("%+v: %v after %q", tt.cut, err, got.String())
			}
			got.WriteByte(b[0])
		}
		h.act(3)
		<-l.reached
		l.kill()
		more, err := io.ReadAll(p)
		if len(more) > 0 || err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("%+v: then came %q, and %v", tt.cut, more, err)
		}
	}
}
