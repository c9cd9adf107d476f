package socketio_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

func units(enc socketio.Encoding, names ...string) (b []byte) {
	for _, name := range names {
		var err error
		if b, err = socketio.AppendEvent(b, enc, "/", name); err != nil {
			panic(err) // names that a test thought of
		}
	}
	return b
}

// try is TryWriteEncoded of events without arguments, when nothing else is under
// way, with what it should be.
func (w *world) try(want bool, s *socketio.Socket, enc socketio.Encoding, names ...string) {
	w.Helper()
	synctest.Wait()
	if got := s.TryWriteEncoded(enc, units(enc, names...)); got != want {
		w.Errorf("TryWriteEncoded of %v in %v: %v, want %v", names, enc, got, want)
	}
}

// What TryWriteEncoded takes, and what it leaves to WriteEncoded.
func TestTryWriteEncoded(t *testing.T) {
	const room = 20
	event := func(name string) frame { return text(`42["` + name + `"]`) }
	for _, tt := range []struct {
		why string
		f   func(w *world)
	}{
		{"a websocket with room takes it at once, in order with the rest", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			if err := s.Emit("a"); err != nil {
				w.Error(err)
			}
			w.try(true, s, socketio.WebSocket, "b")
			c.want(event("a"), event("b"))
			w.try(true, s, socketio.Polling, "c") // and converts it
			c.want(event("c"))
			w.try(true, s, socketio.WebSocket) // nothing
			if err := s.Emit("d"); err != nil {
				w.Error(err)
			}
			c.want(event("d"))
		}},
		{"a websocket that is full in the middle of a frame takes it, and nothing before that is through", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			w.net.ends[0].hold(true)
			w.try(true, s, socketio.WebSocket, "one", "two", "three")
			w.try(false, s, socketio.WebSocket, "no")
			wrote := make(chan error)
			go func() { wrote <- s.Emit("four") }()
			w.try(false, s, socketio.WebSocket, "no")
			w.net.ends[0].hold(false)
			c.want(event("one"), event("two"), event("three"), event("four"))
			if err := <-wrote; err != nil {
				w.Error(err)
			}
			w.try(true, s, socketio.WebSocket, "five")
			c.want(event("five"))
		}},
		{"a websocket that never has room again ends in time", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			close(c.stall) // reads one more frame
			w.try(true, s, socketio.WebSocket, "read")
			w.try(true, s, socketio.WebSocket, strings.Repeat("x", 2*room))
			w.wantEnd(socketio.ErrSlow, 10*time.Second)
			w.try(false, s, socketio.WebSocket, "no")
			if err := s.Emit("no"); err != socketio.ErrSlow {
				w.Errorf("Emit: %v", err)
			}
		}},
		{"polling takes it while less than the bound waits", func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			w.try(true, s, socketio.WebSocket, "a") // and converts it
			w.try(true, s, socketio.Polling, strings.Repeat("x", 100))
			w.try(false, s, socketio.Polling, "no")
			p.want("42[\"a\"]\x1e42[\"" + strings.Repeat("x", 100) + "\"]")
			w.try(true, s, socketio.Polling, "b")
			p.want(`42["b"]`)
			hanging := p.hang()
			w.try(true, s, socketio.Polling, "c")
			if r := <-hanging; r.Body != `42["c"]` {
				w.Errorf("the hanging poll got %v", r)
			}
		}},
		{"a write that waits for a poll is not overtaken", func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			b := units(socketio.Polling, "b")
			for range 100 {
				w.try(true, s, socketio.Polling, strings.Repeat("x", 100))
				go s.Emit("a")
				w.try(false, s, socketio.Polling, "no")
				go p.get()
				for !s.TryWriteEncoded(socketio.Polling, b) {
					runtime.Gosched()
				}
				synctest.Wait()
				p.want("42[\"a\"]\x1e42[\"b\"]")
			}
		}},
		{"what is no run of whole units is WriteEncoded's to refuse", func(w *world) {
			w.poll().connect()
			s := <-w.sockets
			if b := []byte{0x81}; s.TryWriteEncoded(socketio.WebSocket, b) || s.WriteEncoded(socketio.WebSocket, b) == nil {
				w.Error("half a frame was taken")
			}
		}},
		{"after the end it is false, and WriteEncoded says why", func(w *world) {
			w.ws().connect()
			s := <-w.sockets
			s.Disconnect(false)
			w.try(false, s, socketio.WebSocket, "no")
			if err := s.Emit("no"); err != socketio.ErrDisconnected {
				w.Errorf("Emit after Disconnect: %v", err)
			}
			p := w.poll().connect()
			s = <-w.sockets
			p.send("1")
			w.try(false, s, socketio.Polling, "no")
			if err := s.Emit("no"); err != socketio.ErrEngineClosed {
				w.Errorf("Emit after the client's close: %v", err)
			}
		}},
		{"a connection that can only be written to by waiting is WriteEncoded's", func(w *world) {
			w.net.room = 0
			c := w.ws().connect()
			s := <-w.sockets
			w.try(false, s, socketio.WebSocket, "no")
			if err := s.Emit("a"); err != nil {
				w.Error(err)
			}
			c.want(event("a"))
		}},
		{"nothing comes before what waited for a poll at the switch", func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			w.try(true, s, socketio.Polling, "a", strings.Repeat("x", 50))
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			synctest.Wait()
			end := w.net.ends[len(w.net.ends)-1]
			end.hold(true)
			c.send(text("5"))
			w.try(false, s, socketio.WebSocket, "no")
			end.hold(false)
			c.want(event("a"), event(strings.Repeat("x", 50)))
			w.try(true, s, socketio.WebSocket, "b")
			c.want(event("b"))
		}},
		{"a ping comes behind what is half out", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			time.Sleep(24 * time.Second)
			end := w.net.ends[0]
			end.hold(true)
			w.try(true, s, socketio.WebSocket, "one", "two")
			time.Sleep(2 * time.Second)
			end.hold(false)
			c.want(event("one"), event("two"), text("2"))
			c.send(text("3"))
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			in(t, &socketio.Options{MaxUnread: 100}, func(w *world) {
				w.net.room = room
				tt.f(w)
			})
		})
	}
}

// However early it comes after the switch, and however much had waited for a
// poll, that goes first.
func TestTryWriteBehindTheSwitch(t *testing.T) {
	const waiting = 5000
	for range 5 {
		in(t, nil, func(w *world) {
			w.net.room = boundless
			p := w.poll().connect()
			s := <-w.sockets
			for range waiting {
				w.try(true, s, socketio.Polling, "early")
			}
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			b := units(socketio.WebSocket, "late")
			tried := make(chan struct{})
			go func() {
				defer close(tried)
				for s.Encoding() == socketio.Polling || !s.TryWriteEncoded(socketio.WebSocket, b) {
					runtime.Gosched()
				}
			}()
			c.send(text("5"))
			for i := range waiting {
				if f := c.next(); f != text(`42["early"]`) {
					w.Fatalf("frame %d is %q", i, f.Payload)
				}
			}
			c.want(text(`42["late"]`))
			<-tried
		})
	}
}

// Many write at once, waiting or not, with heartbeats between, to sockets that
// have little room, on either transport and across the switch: each writer's
// events arrive once, whole and in its order.
func TestTryWritesAndWrites(t *testing.T) {
	const writers, each = 4, 60
	for seed := range uint64(40) {
		in(t, &socketio.Options{PingInterval: 5 * time.Millisecond, MaxUnread: 200}, func(w *world) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			w.net.room = 1 + rnd.IntN(80)
			var c *wsClient
			var p pollClient
			mode := rnd.IntN(3) // a WebSocket, polling, and polling that switches to one
			if mode == 0 {
				c = w.ws().connect()
			} else {
				p = w.poll().connect()
			}
			s := <-w.sockets
			var wg sync.WaitGroup
			for k := range writers {
				rnd := rand.New(rand.NewPCG(seed, uint64(10+k)))
				wg.Go(func() {
					for i := 0; i < each; {
						enc := s.Encoding()
						var b []byte
						for range min(1+rnd.IntN(3), each-i) {
							var err error
							if b, err = socketio.AppendEvent(b, enc, "/", "n", k, i, strings.Repeat("x", rnd.IntN(40))); err != nil {
								w.Error(err)
							}
							i++
						}
						time.Sleep(max(0, time.Duration(rnd.IntN(4)-1)) * time.Millisecond / 2)
						if rnd.IntN(3) > 0 && s.TryWriteEncoded(enc, b) {
							continue
						}
						if err := s.WriteEncoded(enc, b); err != nil {
							w.Errorf("seed %d: writer %d: %v", seed, k, err)
							return
						}
					}
				})
			}
			var next [writers]int
			got := 0
			take := func(packet string, pong func()) {
				w.Helper()
				var k, i int
				switch {
				case packet == "2":
					pong()
					return
				case packet == "6":
					return
				}
				if _, err := fmt.Sscanf(packet, `42["n",%d,%d,`, &k, &i); err != nil || !strings.HasSuffix(packet, `"]`) {
					w.Fatalf("seed %d: got %q", seed, packet)
				}
				if i != next[k] {
					w.Fatalf("seed %d: writer %d: event %d, want %d", seed, k, i, next[k])
				}
				next[k]++
				got++
			}
			payload := func(body string) {
				w.Helper()
				for _, packet := range strings.Split(body, "\x1e") {
					take(packet, func() { p.send("3") })
				}
			}
			polls := boundless
			if mode == 2 {
				polls = rnd.IntN(10)
			}
			for ; mode > 0 && polls > 0 && got < writers*each; polls-- {
				payload(p.get().Body)
			}
			if mode == 2 && got < writers*each {
				hanging := p.hang()
				c = p.upgrade()
				c.send(text("2probe"))
				c.want(text("3probe"))
				if r := <-hanging; r.Status == 200 {
					payload(r.Body)
				}
				c.send(text("5"))
			}
			for got < writers*each {
				take(c.next().Payload, func() { c.send(text("3")) })
			}
			wg.Wait()
			synctest.Wait()
			for c != nil && len(c.frames) > 0 {
				take(c.next().Payload, func() {})
			}
			if got != writers*each {
				w.Errorf("seed %d: %d of %d arrived", seed, got, writers*each)
			}
		})
	}
}

const boundless = 1 << 30
