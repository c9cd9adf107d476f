package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// TestSweep has many readers of every kind in one room: that take all at once, that refuse at random, that let Deliver
// wait, that go in the middle, subscriptions; and says so much that several sweepers are at work. Each has all events in
// order and once, and nothing of the transport runs beside itself.
func TestSweep(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 6))
			r := newRoom(t, nil)
			ann := login(t, r, "Ann")
			var guests []*guest
			var subs []*chat.Subscription
			for i := range 200 {
				if i%10 == 0 {
					subs = append(subs, subscribe(t, r, &chat.SubscribeOptions{MaxUnread: -1}))
					continue
				}
				g := newGuest(t)
				if i%4 == 0 {
					dice := rand.New(rand.NewPCG(seed, uint64(i)))
					g.batch = func(*chat.Batch) error {
						time.Sleep(time.Duration(dice.IntN(3)) * 10 * time.Millisecond)
						return nil
					}
				}
				g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true, MaxUnread: -1, Rate: -1})
				g.ask(chat.SubscribeRequest{})
				guests = append(guests, g)
			}
			have := make([][]chat.Event, len(subs))
			for range 100 {
				say(t, r, ann, "some text")
				switch rnd.IntN(10) {
				case 0:
					synctest.Wait()
				case 1:
					time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
				case 2:
					guests[rnd.IntN(len(guests))].in <- chat.BadRequest{Err: errors.New("nonsense")}
				case 3:
					g := guests[len(guests)-1]
					guests = guests[:len(guests)-1]
					g.goodbye()
				case 4:
					i := rnd.IntN(len(subs))
					have[i] = append(have[i], pending(subs[i])...)
				}
			}
			time.Sleep(10 * time.Second)
			for i, g := range guests {
				if err := chain(subs[0].Start().At, g.events()); err != nil || len(g.events()) != 100 {
					t.Errorf("seed %d: client %d has %d events: %v", seed, i, len(g.events()), err)
				}
			}
			for i, s := range subs {
				events := append(have[i], pending(s)...)
				if err := chain(s.Start().At, events); err != nil || len(events) != 100 {
					t.Errorf("seed %d: subscription %d has %d events: %v", seed, i, len(events), err)
				}
			}
		})
	}
}

// A held is a transport whose TryDeliver stands still, which none should, so that a test sees what happens meanwhile.
type held struct {
	*guest
	inside, release chan struct{}
}

func newHeld(t *testing.T) *held {
	return &held{newGuest(t), make(chan struct{}), make(chan struct{})}
}

func (h *held) serve(r *chat.Room, o *chat.ServeOptions) {
	go func() {
		defer close(h.served)
		h.err = r.Serve(context.Background(), h, o)
	}()
}

func (h *held) TryDeliver(b *chat.Batch) bool {
	h.enter(1, 1)
	defer h.enter(1, -1)
	if len(b.Events()) > 0 {
		h.inside <- struct{}{}
		<-h.release
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep(b)
	return true
}

// TestOvertakenWhileAWriteIsUnderWay shows a client that the window leaves behind while it is being given something: it is
// ended as slow, at the place up to which it has all.
func TestOvertakenWhileAWriteIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, &chat.RoomOptions{Window: 2000})
		ann := login(t, r, "Ann")
		h := newHeld(t)
		h.serve(r, &chat.ServeOptions{Spectators: true})
		h.ask(chat.SubscribeRequest{})
		first := say(t, r, ann, "first")
		<-h.inside
		for range 100 {
			say(t, r, ann, "more")
		}
		h.release <- struct{}{}
		<-h.served
		var slow chat.SlowError
		if !errors.As(h.err, &slow) || slow.Pos != first.Pos {
			t.Errorf("Serve: %v, want a SlowError at %v", h.err, first.Pos)
		}
		diff(t, "what it has", "Ann:first", words(h.events()))
	})
}

// TestEndedWhileAWriteIsUnderWay ends a client while it is being given something: that it has, and nothing after it.
func TestEndedWhileAWriteIsUnderWay(t *testing.T) {
	for _, row := range []struct {
		why string
		end func(r *chat.Room, h *held)
	}{
		{"it is kicked", func(r *chat.Room, h *held) {
			if err := r.Kick(context.Background(), "Bob", "enough"); err != nil {
				t.Error(err)
			}
		}},
		{"it says goodbye", func(r *chat.Room, h *held) { h.goodbye() }},
		{"it is lost", func(r *chat.Room, h *held) { h.lose(io.ErrUnexpectedEOF) }},
		{"the room closes", func(r *chat.Room, h *held) { go r.Close() }},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoom(t, nil)
				ann := login(t, r, "Ann")
				h := newHeld(t)
				h.serve(r, nil)
				h.in <- chat.LoginRequest{Name: "Bob"} // by Deliver, for its roster is made first
				synctest.Wait()
				say(t, r, ann, "first")
				<-h.inside
				row.end(r, h)
				synctest.Wait()
				select {
				case <-h.served:
					t.Error("Serve has returned while the transport is being called")
				default:
				}
				h.release <- struct{}{}
				<-h.served
				time.Sleep(time.Minute)
				diff(t, "what it has", "+Bob Ann:first", words(h.events()))
			})
		})
	}
}

// TestNewcomerDuringASweep lets clients come while the events of before are being handed over: nobody who was there is
// passed over, wherever the sweep stands.
func TestNewcomerDuringASweep(t *testing.T) {
	const n = 40
	for place := range n {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			ann := login(t, r, "Ann")
			h := newHeld(t)
			guests := make([]*guest, n)
			for i := range guests {
				if i == place {
					guests[i] = h.guest
					h.serve(r, &chat.ServeOptions{Spectators: true})
				} else {
					guests[i] = serve(t, r, &chat.ServeOptions{Spectators: true})
				}
				guests[i].ask(chat.SubscribeRequest{})
			}
			say(t, r, ann, "hi")
			<-h.inside
			for range 5 {
				serve(t, r, &chat.ServeOptions{Spectators: true})
			}
			synctest.Wait()
			h.release <- struct{}{}
			synctest.Wait()
			for i, g := range guests {
				diff(t, fmt.Sprintf("what client %d has when client %d took its time", i, place), "Ann:hi", words(g.events()))
			}
			h.goodbye()
			synctest.Wait()
		})
	}
}

// TestEndedWhileEventsArePut ends subscriptions at the moment when a sweeper has events for them: what comes out of the
// channel has no gap, and nothing twice. There are two sweepers, for one that hands over interrupts nobody.
func TestEndedWhileEventsArePut(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for range 20 {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			ann := login(t, r, "Ann")
			var subs []*chat.Subscription
			a, b := newHeld(t), newHeld(t)
			for i := range 200 {
				switch i {
				case 1:
					a.serve(r, &chat.ServeOptions{Spectators: true})
					a.ask(chat.SubscribeRequest{})
				case 40:
					b.serve(r, &chat.ServeOptions{Spectators: true})
					b.ask(chat.SubscribeRequest{})
				default:
					subs = append(subs, subscribe(t, r, nil))
				}
			}
			say(t, r, ann, "first")
			<-a.inside
			<-b.inside
			for range 20 {
				say(t, r, ann, "more")
			}
			for _, h := range []*held{a, b} {
				h.release <- struct{}{}
				<-h.inside // the next, in a group with subscriptions
			}
			go r.Close()
			time.Sleep(time.Minute)
			b.release <- struct{}{} // whoever gave it that now interrupts all
			synctest.Wait()
			a.release <- struct{}{}
			for _, s := range subs {
				events := rest(s)
				if err := chain(s.Start().At, events); err != nil {
					t.Errorf("%s: %v", words(events), err)
				}
			}
			r.Close()
		})
	}
}

// TestPlaceOfOneCutForSlowness shows that a client's place is after what it was given without waiting, too, when the
// transport says where it reads that the peer takes nothing.
func TestPlaceOfOneCutForSlowness(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		g := newGuest(t)
		g.tries = 1 // the next two it takes at once
		g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
		g.ask(chat.SubscribeRequest{})
		for range 3 {
			rcpt := say(t, r, ann, "hi")
			synctest.Wait()
			if g.tries == 4 {
				g.lose(chat.ErrSlow)
				err, _ := g.end()
				if want := (chat.SlowError{Pos: rcpt.Pos}); err != want {
					t.Errorf("Serve: %v, want %v", err, want)
				}
				return
			}
		}
		t.Error("its TryDeliver was not called")
	})
}

// TestNobodyWaitsForTheSlow counts the time that others lose by clients which take nothing: none.
func TestNobodyWaitsForTheSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		began := time.Now()
		var late atomic.Int64
		for i := range 300 {
			g := newGuest(t)
			g.quick = true
			g.batch = func(*chat.Batch) error {
				if d := time.Since(began); d > 0 {
					late.Store(int64(d))
				}
				return nil
			}
			g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
			g.ask(chat.SubscribeRequest{})
			if i%3 == 0 {
				g.stall()
			}
		}
		for range 50 {
			say(t, r, ann, "some text")
			synctest.Wait()
		}
		if d := late.Load(); d > 0 {
			t.Errorf("one of the others was given something after %v", time.Duration(d))
		}
		if n := r.Stats().Slow; n != 0 {
			t.Errorf("%d were ended before their bound", n)
		}
		for range 300 {
			say(t, r, ann, fmt.Sprintf("%4000d", 1))
			synctest.Wait()
		}
		if n := r.Stats().Slow; n != 100 || late.Load() > 0 {
			t.Errorf("%d were ended as slow, others were late by %v", n, time.Duration(late.Load()))
		}
	})
}

// TestGoroutinesOfAnIdleConnection counts them: one that reads, and the WebSocket library's own.
func TestGoroutinesOfAnIdleConnection(t *testing.T) {
	const n = 50
	r := newRoom(t, &chat.RoomOptions{MaxPerSource: -1})
	srv := httptest.NewServer(chat.NewWebSocketHandler(r, &chat.WebSocketOptions{Serve: chat.ServeOptions{Spectators: true}}))
	defer srv.Close()
	defer r.Close()
	before := runtime.NumGoroutine()
	for range n {
		conn, in := listen(t, srv.Listener.Addr().String())
		defer conn.Close()
		_ = in
	}
	ann := login(t, r, "Ann")
	say(t, r, ann, "hi")
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine()-before > 2*n { // some are on their way out
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines for %d connections", runtime.NumGoroutine()-before, n)
		}
		runtime.Gosched()
	}
}
