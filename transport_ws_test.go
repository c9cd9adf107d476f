package chat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

func TestWebSocketConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, nil)
		ann, bob := s.dial(), s.dial()
		bob.send(`{"op":"subscribe","ref":"no"}`)
		bob.want(`{"reply":"error","ref":"no","code":"not_logged_in","message":"not logged in"}`)
		ann.send(`{"op":"send","ref":"early","text":"hello?"}`)
		ann.want(`{"reply":"error","ref":"early","code":"not_logged_in","message":"not logged in"}`)
		ann.send(`{"op":"login","ref":"1","name":" Ann "}`)
		ann.want(
			`{"reply":"login","ref":"1","user":{"name":"Ann"},"pos":"e-1","token":"k","start":{"at":"e-0","resumed":false,"roster":[]}}`,
			`{"event":"joined","pos":"e-1","prev":"e-0","time":"t","user":{"name":"Ann"}}`)
		bob.quiet() // not logged in, so hears nothing
		bob.send(`{"op":"login","ref":"x","name":"ANN"}`)
		bob.want(`{"reply":"error","ref":"x","code":"name_taken","message":"name is taken"}`)
		bob.send(`{"op":"login","ref":"y","name":"Bob","last":1}`)
		bob.want(
			`{"reply":"login","ref":"y","user":{"name":"Bob"},"pos":"e-2","token":"k","start":{"at":"e-0","resumed":false,"roster":[]}}`,
			`{"event":"joined","pos":"e-1","prev":"e-0","time":"t","user":{"name":"Ann"}}`,
			`{"event":"joined","pos":"e-2","prev":"e-1","time":"t","user":{"name":"Bob"}}`)
		ann.want(`{"event":"joined","pos":"e-2","prev":"e-1","time":"t","user":{"name":"Bob"}}`)

		// Twice with one ID: one message, and one receipt.
		ann.send(`{"op":"send","ref":"2","id":"m1","text":"<b>hi</b> \"\\\n"}`)
		said := `{"event":"said","pos":"e-3","prev":"e-2","time":"t","user":{"name":"Ann"},"id":"m1","text":"<b>hi</b> \"\\\n"}`
		ann.want(`{"reply":"send","ref":"2","id":"m1","pos":"e-3"}`, said)
		ann.send(`{"op":"send","ref":"3","id":"m1","text":"<b>hi</b> \"\\\n"}`)
		ann.want(`{"reply":"send","ref":"3","id":"m1","pos":"e-3"}`)
		bob.want(said)

		// Out and in again on one connection, under another name. Between the two it hears nothing.
		ann.send(`{"op":"logout","ref":"4"}`)
		gone := `{"event":"left","pos":"e-4","prev":"e-3","time":"t","user":{"name":"Ann"},"reason":"logout"}`
		ann.want(`{"reply":"logout","ref":"4","pos":"e-4"}`, gone)
		bob.want(gone)
		bob.send(`{"op":"send","id":"m1","text":"alone"}`)
		alone := `{"event":"said","pos":"e-5","prev":"e-4","time":"t","user":{"name":"Bob"},"id":"m1","text":"alone"}`
		bob.want(`{"reply":"send","id":"m1","pos":"e-5"}`, alone)
		ann.quiet()
		ann.send(`{"op":"login","name":"Anna","after":"` + wsPosition(t, s, 4) + `"}`)
		ann.want(
			`{"reply":"login","user":{"name":"Anna"},"pos":"e-6","token":"k","start":{"at":"e-4","resumed":true}}`, alone,
			`{"event":"joined","pos":"e-6","prev":"e-5","time":"t","user":{"name":"Anna"}}`)
		bob.want(`{"event":"joined","pos":"e-6","prev":"e-5","time":"t","user":{"name":"Anna"}}`)
		ann.quiet()
		bob.quiet()
	})
}

// wsPosition returns the text of a position of the room's epoch.
func wsPosition(t testing.TB, s *wsServer, seq uint64) string {
	t.Helper()
	sub := s.follow()
	defer sub.Close()
	return chat.Position{Epoch: sub.Start().At.Epoch, Seq: seq}.String()
}

func TestWebSocketSpectators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{Spectators: true, UserID: "17"}}, nil)
		ann, eve := s.dial(), s.dial()
		ann.login("Ann")
		eve.send(`{"op":"subscribe","ref":"1"}`)
		eve.want(`{"reply":"subscribe","ref":"1","start":{"at":"e-1","resumed":false,"roster":[{"name":"Ann","id":"17"}]}}`)
		eve.send(`{"op":"subscribe","ref":"2"}`)
		eve.want(`{"reply":"error","ref":"2","code":"subscribed","message":"subscribed already"}`)
		ann.send(`{"op":"logout"}`)
		gone := `{"event":"left","pos":"e-2","prev":"e-1","time":"t","user":{"name":"Ann","id":"17"},"reason":"logout"}`
		ann.want(`{"reply":"logout","pos":"e-2"}`, gone)
		eve.want(gone)

		// One who hears keeps its place: a login starts nothing anew, and a logout leaves a spectator.
		eve.send(`{"op":"login","name":"Eve"}`)
		in := `{"event":"joined","pos":"e-3","prev":"e-2","time":"t","user":{"name":"Eve","id":"17"}}`
		eve.want(`{"reply":"login","user":{"name":"Eve","id":"17"},"pos":"e-3","token":"k"}`, in)
		ann.want(in)
		time.Sleep(time.Hour) // no login timeout
		ann.quiet()
	})
}

func TestWebSocketResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, &chat.RoomOptions{Window: 500}, &chat.WebSocketOptions{Serve: chat.ServeOptions{Rate: -1}}, nil)
		ann := s.dial()
		ann.login("Ann")
		for i := range 8 {
			ann.send(fmt.Sprintf(`{"op":"send","id":"%d","text":"%d"}`, i, i))
			ann.next()
			ann.next()
		}
		// Ann's are 1 to 9. Who gets in here takes two more: in, and out.
		for _, tt := range []struct{ why, name, hear, want string }{
			{"exactly what follows, and the roster is the reader's own", "B", `"after":"` + wsPosition(t, s, 8) + `"`,
				`{"reply":"login","user":{"name":"B"},"pos":"e-10","token":"k","start":{"at":"e-8","resumed":true}}`},
			{"not in the window any more", "C", `"after":"` + wsPosition(t, s, 1) + `"`,
				`{"reply":"error","code":"trimmed","message":"position is no longer kept"}`},
			{"a start anew instead, that says so", "D", `"fresh":true,"after":"` + wsPosition(t, s, 1) + `"`,
				`{"reply":"login","user":{"name":"D"},"pos":"e-12","token":"k","start":{"at":"e-11","resumed":false,"roster":[{"name":"Ann"}]}}`},
			{"another life of the log", "E", `"after":"1-8"`,
				`{"reply":"error","code":"epoch","message":"position is of another life of the log"}`},
			{"one that was never given out", "F", `"after":"` + wsPosition(t, s, 8000) + `"`,
				`{"reply":"error","code":"ahead","message":"position is not in the log"}`},
			{"a start anew, for that too", "G", `"fresh":true,"after":"1-8"`,
				`{"reply":"login","user":{"name":"G"},"pos":"e-14","token":"k","start":{"at":"e-13","resumed":false,"roster":[{"name":"Ann"}]}}`},
			{"from the last one on, with who was in before it", "H", `"last":1`,
				`{"reply":"login","user":{"name":"H"},"pos":"e-16","token":"k","start":{"at":"e-14","resumed":false,"roster":[{"name":"Ann"},{"name":"G"}]}}`},
		} {
			c := s.dial()
			c.send(fmt.Sprintf(`{"op":"login","name":"%s",%s}`, tt.name, tt.hear))
			if got := wsSettled(c.next()); got != tt.want {
				t.Errorf("%s\n got %s\nwant %s", tt.why, got, tt.want)
			}
			c.bye(1000)
			synctest.Wait()
		}
	})
}

// A session that lingers is taken up again, by its token, from the last event that the client had.
func TestWebSocketLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{Linger: time.Minute}}, nil)
		bob, ann := s.dial(), s.dial()
		bob.login("Bob")
		ann.send(`{"op":"login","name":"Ann"}`)
		var in struct{ Token string }
		if err := json.Unmarshal([]byte(ann.next()), &in); err != nil {
			t.Fatal(err)
		}
		ann.send(`{"op":"send","id":"1","text":"one"}`)
		ann.want(`{"event":"joined","pos":"e-2","prev":"e-1","time":"t","user":{"name":"Ann"}}`,
			`{"reply":"send","id":"1","pos":"e-3"}`,
			`{"event":"said","pos":"e-3","prev":"e-2","time":"t","user":{"name":"Ann"},"id":"1","text":"one"}`)
		ann.drop()
		time.Sleep(30 * time.Second)
		bob.send(`{"op":"send","id":"1","text":"where are you"}`)
		synctest.Wait()
		ann = s.dial()
		ann.send(`{"op":"login","token":"` + in.Token + `","after":"` + wsPosition(t, s, 3) + `"}`)
		ann.want(`{"reply":"login","user":{"name":"Ann"},"pos":"e-5","token":"k","start":{"at":"e-3","resumed":true}}`,
			`{"event":"said","pos":"e-4","prev":"e-3","time":"t","user":{"name":"Bob"},"id":"1","text":"where are you"}`,
			`{"event":"resumed","pos":"e-5","prev":"e-4","time":"t","user":{"name":"Ann"}}`)
		ann.send(`{"op":"send","id":"1","text":"one"}`) // it may not have had the answer
		ann.want(`{"reply":"send","id":"1","pos":"e-3"}`)

		// The same from elsewhere, while it is connected: the older connection is told not to come back.
		other := s.dial()
		other.send(`{"op":"login","token":"` + in.Token + `"}`)
		other.want(`{"reply":"login","user":{"name":"Ann"},"pos":"e-6","token":"k","start":{"at":"e-5","resumed":false,"roster":[{"name":"Bob"},{"name":"Ann"}]}}`)
		ann.wantClose(4502, `{"code":"taken_over"}`)
		other.send(`{"op":"logout"}`)
		other.next()
		last := s.dial()
		synctest.Wait()
		last.send(`{"op":"login","token":"` + in.Token + `"}`)
		last.want(`{"reply":"error","code":"token","message":"no session of that token"}`)
	})
}

// Promise 6, over WebSocket.
func TestNoGhostsWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, nil)
		here := s.dial()
		here.login("Here") // it answers pings, and stays
		sub := s.follow()

		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Ghost"}`)
		word := time.Now()
		told := make(chan string)
		go func() { told <- p.closed() }() // it reads, but answers no ping
		if r := wsLeft(t, sub); r != chat.Lost {
			t.Errorf("left: %v", r)
		}
		if d := time.Since(word); d > 45*time.Second {
			t.Errorf("a ghost for %v", d)
		}
		if got := <-told; got != `4003 {"code":"lost"}` {
			t.Errorf("told %s", got)
		}
		synctest.Wait()
		if !s.log.says("no answer to a ping") {
			t.Error("the logger was not told why")
		}

		// A word of any kind counts: here, the answer to nothing.
		p = s.raw()
		p.send(0x81, `{"op":"login","name":"Slowpoke"}`)
		go func() { told <- p.closed() }()
		for range 10 {
			time.Sleep(44 * time.Second)
			p.send(0x8A, "")
		}
		word = time.Now()
		if r := wsLeft(t, sub); r != chat.Lost {
			t.Errorf("left: %v", r)
		}
		if d := time.Since(word); d > 45*time.Second || d < 40*time.Second {
			t.Errorf("a ghost for %v", d)
		}
		<-told

		time.Sleep(time.Hour)
		if d := cmp.Diff([]chat.User{{Name: "Here"}}, s.room.Members()); d != "" {
			t.Errorf("members (-want +got):\n%s", d)
		}
	})
}

func TestWebSocketHeartbeatOptions(t *testing.T) {
	for _, tt := range []struct {
		why               string
		interval, timeout time.Duration
		min, max          time.Duration
	}{
		{"shorter", 2 * time.Second, time.Second, 2 * time.Second, 3 * time.Second},
		{"it can't be switched off", -1, -1, 40 * time.Second, 45 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, nil, &chat.WebSocketOptions{Heartbeat: tt.interval, HeartbeatTimeout: tt.timeout}, nil)
			sub := s.follow()
			p := s.raw()
			p.send(0x81, `{"op":"login","name":"Ghost"}`)
			go p.closed()
			start := time.Now()
			r := wsLeft(t, sub)
			if d := time.Since(start); r != chat.Lost || d < tt.min || d > tt.max {
				t.Errorf("%s: %v after %v", tt.why, r, d)
			}
		})
	}
}

func TestWebSocketGoodbye(t *testing.T) {
	for _, tt := range []struct {
		why  string
		end  func(p *rawPeer)
		want chat.Reason
	}{
		{"close(1000)", func(p *rawPeer) { p.send(0x88, "\x03\xE8bye") }, chat.Goodbye},
		{"a tab closed: 1001", func(p *rawPeer) { p.send(0x88, "\x03\xE9") }, chat.Goodbye},
		{"close() in a browser: no code", func(p *rawPeer) { p.send(0x88, "") }, chat.Goodbye},
		{"a client in trouble: 1011", func(p *rawPeer) { p.send(0x88, "\x03\xF3") }, chat.Lost},
		{"a code of its own: 3000", func(p *rawPeer) { p.send(0x88, "\x0B\xB8") }, chat.Lost},
		{"the connection breaks", func(p *rawPeer) { p.Close() }, chat.Lost},
		{"in the middle of a frame", func(p *rawPeer) { io.WriteString(p, "\x81\xFF"); p.Close() }, chat.Lost},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, nil, nil, nil)
			sub := s.follow()
			p := s.raw()
			p.send(0x81, `{"op":"login","name":"Ann"}`)
			go io.Copy(io.Discard, p.br)
			synctest.Wait()
			start := time.Now()
			tt.end(p)
			if r := wsLeft(t, sub); r != tt.want {
				t.Errorf("%s: left as %v, want %v", tt.why, r, tt.want)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("%s: after %v", tt.why, d)
			}
		})
	}
}

// Promise 9, over WebSocket: one who stops reading is ended by the write deadline, in a room that is all but quiet, and
// nobody else notices.
func TestSlowWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, nil)
		ann, bob := s.dial(), s.dial()
		ann.login("Ann")
		bob.login("Bob")
		ann.next()
		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Stuck"}`)
		for range 2 {
			if _, _, err := p.next(); err != nil {
				t.Fatal(err)
			}
		}
		ann.next()
		bob.next()
		start := time.Now()
		for i := range 5 {
			ann.send(fmt.Sprintf(`{"op":"send","text":"%d"}`, i))
			ann.next()
			for _, c := range []*wsClient{ann, bob} {
				if f := c.next(); !strings.Contains(f, fmt.Sprintf(`"text":"%d"`, i)) {
					t.Errorf("got %s", f)
				}
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("a peer that doesn't read delayed the others by %v", d)
		}
		bob.want(`{"event":"left","pos":"e-9","prev":"e-8","time":"t","user":{"name":"Stuck"},"reason":"slow"}`)
		if d := time.Since(start); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("ended after %v, not by the write deadline of 10 s", d)
		}
		time.Sleep(2 * time.Second)
		if n := s.room.Stats().Slow; n != 1 || !s.log.has(chat.ErrSlow) {
			t.Errorf("%d ended for slowness in Stats; the logger was told: %v", n, s.log.has(chat.ErrSlow))
		}
	})
}

// One who reads, but less than the room says, is ended by its bound, and told.
func TestSlowWebSocketIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{MaxUnread: 10_000}}, nil)
		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Slow"}`)
		synctest.Wait()
		ann := login(t, s.room, "Ann") // no connection, so not slow herself
		for range 5 {
			say(t, s.room, ann, strings.Repeat("x", 4000))
		}
		synctest.Wait()
		if got := p.closed(); got != `4002 {"code":"slow"}` {
			t.Errorf("told %s", got)
		}
	})
}

// What is due at a time goes out in one write: the reply, and the events after it.
func TestWebSocketOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, nil)
		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Ann"}`)
		b := make([]byte, 1<<16)
		n, err := p.Read(b) // of a pipe: one write
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[:n]); !strings.Contains(got, `"reply"`) || !strings.Contains(got, `"event"`) {
			t.Errorf("one write brought %q", got)
		}
	})
}

// Promises 1 and 14, over WebSocket: all get the same frames in the same order, each naming the one before, whatever
// strangers send meanwhile.
func TestOneOrderWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, sends = 20, 20
		s := serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{Rate: -1}}, nil)
		var all []*wsClient
		for i := range clients {
			c := s.dial()
			c.send(fmt.Sprintf(`{"op":"login","ref":"in","name":"c%d"}`, i))
			synctest.Wait() // so the first hears all
			all = append(all, c)
		}
		bad := s.dial()
		for _, c := range all {
			go func() {
				for i := range sends {
					c.send(fmt.Sprintf(`{"op":"send","ref":"%d","text":"%d"}`, i, i))
				}
			}()
		}
		for range 100 {
			bad.send(`{"op":"send","name":7}`)
		}
		synctest.Wait()
		var want []string
		for i, c := range all {
			var events []string
			for len(c.frames) > 0 {
				if f := <-c.frames; strings.HasPrefix(f, `{"event":`) {
					events = append(events, f)
				} else if strings.Contains(f, `"error"`) {
					t.Errorf("refused: %s", f)
				}
			}
			if i == 0 {
				want = events
				continue
			}
			// Each hears from its own login on.
			if len(events) < clients*sends || !slices.Equal(events, want[len(want)-len(events):]) {
				t.Errorf("client %d got %d events, others than the %d of client 0", i, len(events), len(want))
			}
		}
		if len(want) != clients*(sends+1) {
			t.Errorf("%d events", len(want))
		}
		for i, f := range want {
			if got, link := wsSettled(f), fmt.Sprintf(`"pos":"e-%d","prev":"e-%d"`, i+1, i); !strings.Contains(got, link) {
				t.Errorf("event %d is %s", i, got)
			}
		}
	})
}

// The handler is an http.Handler like another: below a prefix, over TLS, on real sockets.
func TestWebSocketOverTLS(t *testing.T) {
	room := newRoom(t, nil)
	mux := http.NewServeMux()
	mux.Handle("/rooms/7/", http.StripPrefix("/rooms/7", chat.NewWebSocketHandler(room, nil)))
	server := httptest.NewTLSServer(mux)
	defer server.Close()
	c, _, err := dialWS(t, server.URL+"/rooms/7/talk", server.Client(), "Origin: "+server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.login("Ann")
	c.send(`{"op":"send","text":"over TLS"}`)
	c.next()
	if f := c.next(); !strings.Contains(f, "over TLS") {
		t.Errorf("got %s", f)
	}
	if err := room.Shutdown(context.Background(), nil); err != nil {
		t.Error(err)
	}
	c.wantClose(4000, `{"code":"shutdown","retry_after_ms":1000}`)
}
