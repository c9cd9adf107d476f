package chat_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"example.com/chat"
)

// A wire is a Format that counts what it is asked for.
type wire struct {
	chat.Format
	mu    sync.Mutex
	units map[chat.Position]int // how often each event was encoded
	lists map[chat.Position]int // how often each roster was
}

// newWire makes one whose units are up to pad bytes longer than the text. slack: Append asks for more room than it needs.
func newWire(pad int, slack bool) *wire {
	w := &wire{units: make(map[chat.Position]int), lists: make(map[chat.Position]int)}
	w.Format.Append = func(dst []byte, e chat.Event) []byte {
		w.mu.Lock()
		w.units[e.Meta().Pos]++
		w.mu.Unlock()
		if slack {
			dst = append(dst, make([]byte, 300)...)[:len(dst)]
		}
		return appendUnit(dst, e, pad)
	}
	w.Format.Roster = func(dst []byte, at chat.Position, users []chat.User) []byte {
		w.mu.Lock()
		w.lists[at]++
		w.mu.Unlock()
		return appendList(dst, at, users)
	}
	return w
}

// appendUnit makes a unit; some events have none in this form.
func appendUnit(dst []byte, e chat.Event, pad int) []byte {
	switch e := e.(type) {
	case chat.Said:
		dst = fmt.Appendf(dst, "%v %s: %s", e.At.Pos, e.User.Name, e.Text)
		return append(dst, bytes.Repeat([]byte{'.'}, int(e.At.Pos.Seq)*7919%(pad+1))...)
	case chat.Joined:
		return fmt.Appendf(dst, "%v +%s;", e.At.Pos, e.User.Name)
	}
	return dst
}

func appendList(dst []byte, at chat.Position, users []chat.User) []byte {
	return fmt.Appendf(dst, "%v %v;", at, users)
}

// TestSharedBytes compares what connections are given with what encoding by itself gives, for every run, whatever its
// length, over the bounds of pages, for readers that keep up and for some that the window has nearly left behind. What
// was handed out never changes.
func TestSharedBytes(t *testing.T) {
	for seed := range uint64(15) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 4))
			pad := []int{0, 30, 900, 5000, 40_000}[seed%5]
			slack := seed%2 == 0
			longest, window := 200, 1000<<(seed%7)
			if seed%3 == 2 { // some pages
				longest, window = 30_000, 1<<20
			}
			w := newWire(pad, slack)
			l := chat.NewMemoryLog(nil)
			whole := subscribe(t, newRoom(t, &chat.RoomOptions{Log: l}), &chat.SubscribeOptions{MaxUnread: -1})
			r := newRoom(t, &chat.RoomOptions{Log: l, Window: window, MaxText: longest})
			var truth []chat.Event
			type kept struct{ bytes, copy []byte }
			var mu sync.Mutex
			var handed []kept
			wrong := 0
			ann := login(t, r, "Ann")
			var guests []*guest
			var resumes []func()
			connect := func() {
				g := newGuest(t)
				g.quick = rnd.IntN(2) == 0
				asks := rnd.IntN(4) != 0
				g.batch = func(b *chat.Batch) error {
					if !asks {
						return nil
					}
					var want []byte
					lists := false
					for _, e := range b.Events() {
						want = appendUnit(want, e, pad)
						switch e.(type) {
						case chat.Joined, chat.Left:
							lists = true
						}
					}
					got := b.Encoded(&w.Format)
					list := b.Roster(&w.Format)
					mu.Lock()
					defer mu.Unlock()
					if !bytes.Equal(got, want) && wrong < 3 {
						wrong++
						t.Errorf("seed %d: a run of %d events, %d bytes, is not what encoding it gives, %d bytes", seed, len(b.Events()), len(got), len(want))
					}
					if cap(got) > len(got) && len(b.Events()) > 0 {
						_ = append(got, '!') // must not reach what others have
					}
					if lists {
						last := b.Events()[len(b.Events())-1].Meta().Pos
						// The truth is the log's: this connection may be far behind.
						if want := appendList(nil, last, rosterAt(t, whole, &truth, last)); !bytes.Equal(list, want) {
							t.Errorf("seed %d: the list is %s, want %s", seed, list, want)
						}
					} else if list != nil {
						t.Errorf("seed %d: a list where nothing changed it", seed)
					}
					handed = append(handed, kept{got, bytes.Clone(got)}, kept{list, bytes.Clone(list)})
					return nil
				}
				g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true, MaxUnread: -1})
				g.ask(chat.SubscribeRequest{Hear: chat.SubscribeOptions{Last: rnd.IntN(20)}})
				guests, resumes = append(guests, g), append(resumes, nil)
			}
			for range 4 {
				connect()
			}
			for i := range 150 {
				switch rnd.IntN(8) {
				case 0:
					s := login(t, r, fmt.Sprint("n", i))
					if rnd.IntN(2) == 0 {
						if err := r.Logout(context.Background(), s); err != nil {
							t.Error(err)
						}
					}
				case 1:
					if n := rnd.IntN(len(guests)); resumes[n] == nil {
						resumes[n] = guests[n].stall()
					} else {
						resumes[n]()
						resumes[n] = nil
					}
				case 2:
					if len(guests) < 12 {
						connect()
					}
				default:
					say(t, r, ann, string(bytes.Repeat([]byte{'x'}, 1+rnd.IntN(longest))))
				}
				if rnd.IntN(2) == 0 {
					synctest.Wait()
				}
			}
			for _, resume := range resumes {
				if resume != nil {
					resume()
				}
			}
			synctest.Wait()
			for _, h := range handed {
				if !bytes.Equal(h.bytes, h.copy) {
					t.Fatalf("seed %d: bytes that were handed out have changed", seed)
				}
			}
			if len(handed) < 50 {
				t.Errorf("seed %d: %d runs only", seed, len(handed))
			}
		})
	}
}

// rosterAt is the fold of the log at a position, read on from whole as far as needed.
func rosterAt(t *testing.T, whole *chat.Subscription, truth *[]chat.Event, at chat.Position) []chat.User {
	for uint64(len(*truth)) < at.Seq {
		*truth = append(*truth, <-whole.Events())
	}
	return roll(t, []chat.User{}, (*truth)[:at.Seq])
}

// TestEncodedOnce counts how often a format is asked, with many connections that keep up: once for each event and each
// list, and for another format again.
func TestEncodedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		formats := []*wire{newWire(10, false), newWire(3000, false)}
		for i := range 40 {
			g := newGuest(t)
			g.quick = i%3 == 0
			w := formats[i%2]
			g.batch = func(b *chat.Batch) error {
				b.Encoded(&w.Format)
				b.Encoded(&w.Format)
				b.Roster(&w.Format)
				return nil
			}
			g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
			g.ask(chat.SubscribeRequest{})
		}
		for i := range 100 {
			say(t, r, ann, "hi")
			if i%5 == 0 {
				login(t, r, fmt.Sprint("n", i))
			}
			synctest.Wait()
		}
		for i, w := range formats {
			if len(w.units) != 120 || len(w.lists) != 20 {
				t.Errorf("format %d: %d events and %d lists encoded", i, len(w.units), len(w.lists))
			}
			for pos, n := range w.units {
				if n != 1 {
					t.Errorf("format %d: the event at %v was encoded %d times", i, pos, n)
				}
			}
			for pos, n := range w.lists {
				if n != 1 {
					t.Errorf("format %d: the list at %v was encoded %d times", i, pos, n)
				}
			}
		}
	})
}

// TestListsOfLaggards shows that the list of one position is encoded once for all who get it, also while others get that
// of another.
func TestListsOfLaggards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		w := newWire(0, false)
		turn := make(chan struct{})
		const n = 6
		for range n {
			g := newGuest(t)
			g.batch = func(b *chat.Batch) error { // each has its batch, and asks for the list when it is let
				if len(b.Events()) > 0 {
					<-turn
					b.Roster(&w.Format)
				}
				return nil
			}
			g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
			g.ask(chat.SubscribeRequest{})
		}
		login(t, r, "Ann")
		synctest.Wait() // all hold the batch that ends at 1
		late := newGuest(t)
		late.batch = func(b *chat.Batch) error {
			b.Roster(&w.Format)
			return nil
		}
		late.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
		late.ask(chat.SubscribeRequest{})
		for i := range n {
			login(t, r, fmt.Sprint("n", i))
			synctest.Wait() // late gets the list of this one
			turn <- struct{}{}
			synctest.Wait() // and another that of the first
		}
		for pos, times := range w.lists {
			if pos.Seq == 1 && times > 1 {
				t.Errorf("the list at %v was encoded %d times", pos, times)
			}
		}
		close(turn)
	})
}

// TestEncodedForManyWhoComeBack shows that those who are far behind share what is encoded for them as well, also when one
// at the head was first: each event is encoded about once, and not for each of them.
func TestEncodedForManyWhoComeBack(t *testing.T) {
	for _, headFirst := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			ann := login(t, r, "Ann")
			w := newWire(0, false)
			come := func(hear chat.SubscribeOptions) {
				g := newGuest(t)
				g.quick = true
				g.batch = func(b *chat.Batch) error {
					b.Encoded(&w.Format)
					return nil
				}
				g.serve(context.Background(), r, &chat.ServeOptions{Spectators: true})
				g.ask(chat.SubscribeRequest{Hear: hear})
			}
			start := say(t, r, ann, "start")
			for range 1000 {
				say(t, r, ann, string(bytes.Repeat([]byte{'x'}, 800))) // four pages
			}
			if headFirst {
				come(chat.SubscribeOptions{Last: 1})
			}
			for range 100 {
				come(chat.SubscribeOptions{After: start.Pos})
			}
			total := 0
			for _, n := range w.units {
				total += n
			}
			// Those in the page where the one at the head began may be encoded again for each until it is reached.
			if limit := 1001 + 100*330; total > limit || !headFirst && total != 1000 {
				t.Errorf("one at the head first: %v, %d events were encoded", headFirst, total)
			}
		})
	}
}
