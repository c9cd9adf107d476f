package socketio_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// upgrade opens a WebSocket for a session on polling.
func (p pollClient) upgrade() *wsClient {
	p.w.Helper()
	c, r := p.w.dial("?EIO=4&transport=websocket&sid=" + p.sid)
	if c == nil {
		p.w.Fatalf("the upgrade got %v", r)
	}
	return c
}

// TestUpgrade holds the server to the section "Upgrade" of Engine.IO protocol
// 4, clause by clause.
func TestUpgrade(t *testing.T) {
	for _, tt := range []struct {
		clause string
		f      func(w *world)
	}{
		{"probe, pause, upgrade", func(w *world) {
			p := w.poll().connect()
			hanging := p.hang()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			start := time.Now()
			if r := <-hanging; r != (response{200, "6"}) {
				w.Errorf("the hanging poll got %v", r)
			}
			if d := time.Since(start); d != 100*time.Millisecond {
				w.Errorf("the hanging poll was released after %v", d)
			}
			c.send(text("5"), text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))
			if r := p.get(); r != refusal(3) {
				w.Errorf("a poll after the upgrade got %v", r)
			}
			if r := p.post(`42["message",2]`); r != refusal(3) {
				w.Errorf("a post after the upgrade got %v", r)
			}
			c.want(text("2")) // the heartbeat goes on, over the WebSocket
			c.send(text("3"))
			c.want(text("2"))
			if e := (<-w.sockets).Encoding(); e != socketio.WebSocket {
				w.Errorf("encoding %v", e)
			}
		}},
		{"before the 5 everything goes by polling", func(w *world) {
			p := w.poll().connect()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			s := <-w.sockets
			if err := s.Emit("a"); err != nil {
				w.Error(err)
			}
			c.nothing()
			p.want(`42["a"]`)
			p.send(`42["message",1]`)
			synctest.Wait()
			c.nothing()
			p.want(`42["message-back",1]`)
		}},
		{"what waits at the switch comes first", func(w *world) {
			p := w.poll().connect()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			s := <-w.sockets
			for i := range 3 {
				if err := s.Emit("n", i, []byte{byte(i)}); err != nil {
					w.Error(err)
				}
			}
			c.send(text("5"))
			synctest.Wait()
			if err := s.Emit("last"); err != nil {
				w.Error(err)
			}
			for i := range 3 {
				c.want(text(fmt.Sprintf(`451-["n",%d,{"_placeholder":true,"num":0}]`, i)), frame{2, string(rune(i))})
			}
			c.want(text(`42["last"]`))
		}},
		{"a poll that hangs at the switch is code 3, the session goes on", func(w *world) {
			p := w.poll().connect()
			hanging := p.hang()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			c.send(text("5"))
			if r := <-hanging; r != refusal(3) {
				w.Errorf("got %v", r)
			}
			c.send(text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))
		}},
		{"a poll that comes between probe and switch is released", func(w *world) {
			p := w.poll().connect()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			time.Sleep(time.Second)
			start := time.Now()
			p.want("6")
			if d := time.Since(start); d != 100*time.Millisecond {
				w.Errorf("after %v", d)
			}
		}},
		{"a probe that is never finished is dropped, and polling goes on", func(w *world) {
			for _, probe := range []bool{true, false} {
				p := w.poll().connect()
				start := time.Now()
				c := p.upgrade()
				if probe {
					c.send(text("2probe"))
					c.want(text("3probe"))
				}
				c.closed(1000)
				if d := time.Since(start); d != 10*time.Second {
					w.Errorf("dropped after %v", d)
				}
				p.send(`42["message",1]`)
				p.want(`42["message-back",1]`)
				// And it may be tried again.
				c = p.upgrade()
				c.send(text("2probe"))
				c.want(text("3probe"))
				c.send(text("5"), text(`42["message",2]`))
				c.want(text(`42["message-back",2]`))
			}
		}},
		{"a wrong probe is dropped, and polling goes on", func(w *world) {
			p := w.poll().connect()
			for _, f := range []frame{text("2"), text("5"), text(`42["message",0]`), text(""), {2, "probe"}, {8, ""}} {
				c := p.upgrade()
				c.send(f)
				if f.Op == 8 {
					c.want(f, frame{})
				} else {
					c.closed(1000)
				}
				synctest.Wait()
			}
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			c.send(text(`42["message",0]`)) // not the 5
			c.closed(1000)
			synctest.Wait()
			c = p.upgrade()
			c.conn.Close()
			p.send(`42["message",1]`)
			p.want(`42["message-back",1]`)
		}},
		{"a second websocket is accepted and closed, the session goes on", func(w *world) {
			p := w.poll().connect()
			c := p.upgrade()
			synctest.Wait()
			p.upgrade().closed(1000) // while one is trying
			c.send(text("2probe"))
			c.want(text("3probe"))
			c.send(text("5"))
			synctest.Wait()
			p.upgrade().closed(1000)
			c.send(text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))

			c = w.ws().connect() // one that never polled
			pollClient{w: w, sid: c.sid}.upgrade().closed(1000)
			c.send(text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))
		}},
		{"a goodbye in the middle comes over whichever it ends on", func(w *world) {
			for _, finish := range []bool{true, false} {
				p := w.poll().connect()
				c := p.upgrade()
				c.send(text("2probe"))
				c.want(text("3probe"))
				(<-w.sockets).Disconnect(true)
				time.Sleep(300 * time.Millisecond) // the client doesn't poll any more
				if finish {
					c.send(text("5"))
					c.want(text("41"))
					c.closed(1000)
				} else {
					c.closed(1000) // 1 s after Disconnect
					p.want("41")
					p.want("1")
				}
				w.wantEnd(socketio.ErrDisconnected, 0)
			}
		}},
		{"a session that ends takes its probe along", func(w *world) {
			p := w.poll().connect()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			p.send("1")
			c.closed(1000)
			w.wantEnd(socketio.ErrEngineClosed, 0)
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) { in(t, nil, tt.f) })
	}
}

// Whenever the switch happens, what is emitted arrives once, whole and in
// order, also bytes that were encoded before it.
func TestUpgradeLosesNothing(t *testing.T) {
	for seed := range uint64(30) {
		in(t, nil, func(w *world) {
			const n = 200
			rnd := rand.New(rand.NewPCG(seed, 1))
			w.net.room = rnd.IntN(60)
			p := w.poll().connect()
			s := <-w.sockets
			sent := make(chan struct{})
			pause, try := make([]time.Duration, n), make([]bool, n) // before each, and how
			for i := range pause {
				pause[i] = max(0, time.Duration(rnd.IntN(4)-1)) * time.Millisecond
				try[i] = rnd.IntN(2) == 0
			}
			go func() {
				defer close(sent)
				for i := range n {
					enc := s.Encoding()
					b, err := socketio.AppendEvent(nil, enc, "/", "n", i)
					if err != nil {
						w.Error(err)
					}
					time.Sleep(pause[i])
					if try[i] && s.TryWriteEncoded(enc, b) {
						continue
					}
					if err := s.WriteEncoded(enc, b); err != nil {
						w.Errorf("seed %d: write %d: %v", seed, i, err)
					}
				}
			}()
			var got []string
			for range rnd.IntN(4) {
				time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
				got = append(got, strings.Split(p.get().Body, "\x1e")...)
			}
			hanging := p.hang()
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			if rnd.IntN(2) == 0 {
				r := <-hanging
				got = append(got, strings.Split(r.Body, "\x1e")...)
				hanging = nil
			}
			c.send(text("5"))
			if hanging != nil {
				if r := <-hanging; r.Status == 200 {
					got = append(got, strings.Split(r.Body, "\x1e")...)
				}
			}
			<-sent
			synctest.Wait()
			for len(c.frames) > 0 {
				got = append(got, c.next().Payload)
			}
			i := 0
			for _, g := range got {
				if g == "6" {
					continue
				}
				if want := fmt.Sprintf(`42["n",%d]`, i); g != want {
					w.Fatalf("seed %d: packet %q, want %q", seed, g, want)
				}
				i++
			}
			if i != n {
				w.Errorf("seed %d: %d of %d arrived", seed, i, n)
			}
		})
	}
}

// A post that is still acted on at the switch comes before what the WebSocket
// brings.
func TestUpgradeWaitsForPost(t *testing.T) {
	inWith(t, &socketio.Options{MaxUnread: 100}, newHTTP(), hold, func(w *world) {
		const n = 50
		p := w.poll().connect()
		c := p.upgrade()
		c.send(text("2probe"))
		c.want(text("3probe"))
		var packets []string
		for i := range n {
			packets = append(packets, fmt.Sprintf(`42["e%d"]`, i))
		}
		posted := make(chan response, 1)
		go func() { posted <- p.post(strings.Join(packets, "\x1e")) }()
		synctest.Wait()
		if len(posted) > 0 {
			w.Fatal("the post is through")
		}
		c.send(text("5"))
		go c.send(text(fmt.Sprintf(`42["e%d"]`, n)))
		for i := range n + 1 {
			synctest.Wait()
			w.next <- struct{}{}
			if got, want := <-w.names, fmt.Sprintf("e%d", i); got != want {
				w.Errorf("received %s, want %s", got, want)
			}
		}
		if r := <-posted; r != ok {
			w.Errorf("the post got %v", r)
		}
		close(w.next)
	})
}
