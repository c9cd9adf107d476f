package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// TestAllSeeOneOrder has 50 sessions send 200 messages each, eight at a time, over two rooms on one log, to 100
// subscribers. Each must see what all see, in one order, each event naming the one before it.
func TestAllSeeOneOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const sessions, each, senders, subscribers = 50, 200, 8, 100
		l := chat.NewMemoryLog(nil)
		rooms := []*chat.Room{newRoom(t, &chat.RoomOptions{Log: l}), newRoom(t, &chat.RoomOptions{Log: l})}
		seen := make([][]chat.Event, subscribers)
		var readers, writers sync.WaitGroup
		for i := range seen {
			sub := subscribe(t, rooms[i%2], &chat.SubscribeOptions{MaxUnread: -1})
			readers.Go(func() {
				for len(seen[i]) < sessions*(each+1) {
					e, ok := <-sub.Events()
					if !ok {
						t.Errorf("subscriber %d ended after %d events: %v", i, len(seen[i]), sub.Err())
						return
					}
					seen[i] = append(seen[i], e)
				}
			})
		}
		turns := make(chan int)
		for range senders {
			writers.Go(func() {
				for n := range turns {
					r := rooms[n%2]
					s := login(t, r, fmt.Sprint("n", n))
					var last chat.Position
					for i := range each {
						rcpt := say(t, r, s, fmt.Sprint(i))
						if rcpt.Pos.Seq <= last.Seq {
							t.Errorf("a receipt at %v after one at %v", rcpt.Pos, last)
						}
						last = rcpt.Pos
					}
				}
			})
		}
		for n := range sessions {
			turns <- n
		}
		close(turns)
		writers.Wait()
		readers.Wait()

		if err := chain(chat.Position{Epoch: seen[0][0].Meta().Pos.Epoch}, seen[0]); err != nil {
			t.Error(err)
		}
		said := make(map[string]int)
		for _, e := range seen[0] {
			if e, ok := e.(chat.Said); ok {
				if e.Text != fmt.Sprint(said[e.User.Name]) {
					t.Fatalf("%s says %s, and has said %d", e.User.Name, e.Text, said[e.User.Name])
				}
				said[e.User.Name]++
			}
		}
		if len(said) != sessions {
			t.Errorf("%d speakers", len(said))
		}
		for i := range seen {
			if !slices.Equal(seen[i], seen[0]) {
				t.Errorf("subscriber %d saw something else", i)
			}
		}
	})
}

// TestFoldIsTheRosterEverywhere starts subscriptions of every kind while others join and leave, and compares the start
// and all that follows with the fold of the log at each position.
func TestFoldIsTheRosterEverywhere(t *testing.T) {
	for seed := range uint64(4) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			l := chat.NewMemoryLog(nil)
			r := newRoom(t, &chat.RoomOptions{Log: l, Window: 6000})
			whole := subscribe(t, newRoom(t, &chat.RoomOptions{Log: l}), &chat.SubscribeOptions{MaxUnread: -1})

			var others sync.WaitGroup
			stop := make(chan struct{})
			for n := range 6 {
				rnd := rand.New(rand.NewPCG(seed, uint64(n)+10))
				others.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						case <-time.After(time.Duration(rnd.IntN(3)) * time.Millisecond):
						}
						s, err := r.Login(context.Background(), fmt.Sprint("n", n, "-", i), nil)
						if err != nil {
							t.Error(err)
							return
						}
						if rnd.IntN(2) == 0 {
							say(t, r, s, "hi")
						}
						switch rnd.IntN(3) {
						case 0:
							err = r.Logout(context.Background(), s)
						case 1:
							err = r.Kick(context.Background(), s.User().Name, "")
						}
						if err != nil {
							t.Error(err)
						}
						runtime.Gosched()
					}
				})
			}
			type start struct {
				sub   *chat.Subscription
				asked chat.SubscribeOptions
			}
			var starts []start
			var kept chat.Position
			for range 60 {
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
				for range 2 {
					o := chat.SubscribeOptions{Last: rnd.IntN(30), MaxUnread: -1}
					if rnd.IntN(3) == 0 && !kept.IsZero() {
						o.After, o.Fresh = kept, true
					}
					sub := subscribe(t, r, &o)
					starts = append(starts, start{sub, o})
					kept = sub.Start().At
				}
			}
			close(stop)
			others.Wait()
			var all []chat.Event
			for len(all) < int(r.Stats().Events) {
				all = append(all, pending(whole)...)
			}
			rosters := map[chat.Position][]chat.User{{Epoch: kept.Epoch}: {}} // at each position
			roster := []chat.User{}
			for _, e := range all {
				roster = roll(t, roster, []chat.Event{e})
				rosters[e.Meta().Pos] = roster
			}
			diff(t, "members at the end", roster, r.Members())
			for _, s := range starts {
				st := s.sub.Start()
				if st.Resumed {
					if st.At != s.asked.After || st.Roster != nil {
						t.Errorf("asked for %v, resumed %+v", s.asked.After, st)
					}
				} else {
					diff(t, fmt.Sprintf("seed %d: the roster at %v, last %d", seed, st.At, s.asked.Last), rosters[st.At], st.Roster)
				}
				// The window holds 6000 bytes: who does not read loses it, with a word.
				got := pending(s.sub)
				if err := chain(st.At, got); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				fold := rosters[st.At]
				for _, e := range got {
					fold = roll(t, fold, []chat.Event{e})
					if !slices.Equal(fold, rosters[e.Meta().Pos]) {
						t.Fatalf("seed %d: the fold at %v is not the roster", seed, e.Meta().Pos)
					}
				}
				if s.sub.Err() == nil && (len(got) == 0 && st.At != all[len(all)-1].Meta().Pos || len(got) > 0 && got[len(got)-1] != all[len(all)-1]) {
					t.Errorf("seed %d: a reader has not all, and no reason", seed)
				}
			}
		})
	}
}

// TestEndsRace races logout, loss, kick and the room's end on one session, 200 times. There is one Left each, and who was
// told to be the first was.
func TestEndsRace(t *testing.T) {
	count := make(map[chat.Reason]int)
	for seed := range uint64(200) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			ctx := context.Background()
			l := chat.NewMemoryLog(nil)
			r, other := newRoom(t, &chat.RoomOptions{Log: l}), newRoom(t, &chat.RoomOptions{Log: l})
			sub := subscribe(t, other, nil)
			own := login(t, r, "Own")
			g := serve(t, r, nil)
			g.ask(chat.LoginRequest{Name: "Ann"})
			var logout, twice error
			races := []func(){
				func() { g.in <- chat.LogoutRequest{} },
				func() {
					if seed%2 == 0 {
						g.lose(io.ErrUnexpectedEOF)
					} else {
						g.lose(io.EOF)
					}
				},
				func() { _ = r.Kick(ctx, "Ann", "") },
				func() { _ = other.Kick(ctx, "Own", "") },
				func() { logout = r.Logout(ctx, own) },
				func() { twice = r.Logout(ctx, own) },
				func() {
					if seed%3 == 0 {
						r.Close()
					} else if err := r.Shutdown(ctx, nil); err != nil {
						t.Error(err)
					}
				},
			}
			rnd.Shuffle(len(races), func(i, j int) { races[i], races[j] = races[j], races[i] })
			var wg sync.WaitGroup
			for _, f := range races {
				wg.Go(f)
				for range rnd.IntN(3) {
					runtime.Gosched()
				}
			}
			wg.Wait()
			r.Close()
			g.end()
			lefts := make(map[string][]chat.Reason)
			for _, e := range pending(sub) {
				if left, ok := e.(chat.Left); ok {
					lefts[left.User.Name] = append(lefts[left.User.Name], left.Reason)
					count[left.Reason]++
				}
			}
			if len(lefts["Ann"]) != 1 || len(lefts["Own"]) != 1 {
				t.Fatalf("seed %d: %v", seed, lefts)
			}
			if logout == nil && twice == nil || lefts["Own"][0] == chat.Logout && logout != nil && twice != nil {
				t.Errorf("seed %d: left for %v, and the two logouts were told %v and %v", seed, lefts["Own"][0], logout, twice)
			}
			diff(t, "the roster", []chat.User{}, other.Members())
		})
	}
	for _, reason := range []chat.Reason{chat.Logout, chat.Lost, chat.Goodbye, chat.Kicked, chat.Shutdown} {
		if count[reason] == 0 {
			t.Errorf("nobody left for %v: the race shows nothing of it", reason)
		}
	}
}

// TestAReaderThatStops stops a reader for 2 s of a load. It gets everything, or its place and the reason, from which it
// goes on; the others are not late by any time, and the heap does not grow with what it has not read.
func TestAReaderThatStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const readers, perSecond, size, window = 20, 2000, 1000, 1 << 20
		l := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxBytes: window})
		r := newRoom(t, &chat.RoomOptions{Log: l, Window: window})
		ann := login(t, r, "Ann")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var worst time.Duration
		for range readers {
			sub := subscribe(t, r, nil)
			wg.Go(func() {
				last := sub.Start().At
				for {
					select {
					case e, ok := <-sub.Events():
						if !ok {
							t.Errorf("a reader that reads ended: %v", sub.Err())
							return
						}
						if err := chain(last, []chat.Event{e}); err != nil {
							t.Error(err)
						}
						last = e.Meta().Pos
						mu.Lock()
						worst = max(worst, time.Since(e.Meta().Time))
						mu.Unlock()
					case <-ctx.Done():
						sub.Close()
						return
					}
				}
			})
		}
		text := strings.Repeat("x", size)
		load := func(d time.Duration) {
			for range int(d.Seconds() * perSecond) {
				say(t, r, ann, text)
				time.Sleep(time.Second / perSecond)
			}
		}
		load(2200 * time.Millisecond) // until the log remembers as much as it will

		// Two stop, for 2 s and for less.
		stops, briefly := subscribe(t, r, nil), subscribe(t, r, nil)
		load(200 * time.Millisecond) // what briefly has not read is within the bound
		synctest.Wait()
		got := pending(briefly)
		if err := chain(briefly.Start().At, got); err != nil || len(got) != 400 || briefly.Err() != nil {
			t.Errorf("a reader that stopped for 200 ms has %d events, %v, %v", len(got), err, briefly.Err())
		}
		briefly.Close()
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		load(800 * time.Millisecond)
		before := heap()
		load(time.Second)
		if after := heap(); after > before+2*window {
			t.Errorf("the heap grew from %d to %d bytes while a reader stood still", before, after)
		}
		load(100 * time.Millisecond)

		var slow chat.SlowError
		have := rest(stops)
		if !errors.As(stops.Err(), &slow) {
			t.Fatalf("after 2 s: %v", stops.Err())
		}
		if err := chain(stops.Start().At, have); err != nil || slow.Pos != have[len(have)-1].Meta().Pos {
			t.Errorf("it has %d events, %v, up to %v; its place is %v", len(have), err, have[len(have)-1].Meta().Pos, slow.Pos)
		}
		// That place is no longer kept by now; so it is refused, and not resumed with a gap.
		if _, err := r.Subscribe(ctx, &chat.SubscribeOptions{After: slow.Pos}); !errors.Is(err, chat.ErrTrimmed) {
			t.Errorf("resuming there: %v", err)
		}
		cancel()
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		if worst > 0 {
			t.Errorf("the others were late by %v", worst)
		}
	})
}

// TestSlowGoesOnWithoutAGap ends a reader as slow, has it resume from its place at once, and so on: together it has all.
func TestSlowGoesOnWithoutAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		o := &chat.SubscribeOptions{MaxUnread: 4000}
		sub := subscribe(t, r, o)
		last := sub.Start().At
		ends := 0
		for i := range 2000 {
			say(t, r, ann, "some text")
			synctest.Wait() // so that each is offered before the next is said
			if i%100 == 99 {
				got := pending(sub)
				if err := chain(last, got); err != nil {
					t.Fatal(err)
				}
				if len(got) > 0 {
					last = got[len(got)-1].Meta().Pos
				}
				var slow chat.SlowError
				if errors.As(sub.Err(), &slow) {
					if slow.Pos != last {
						t.Fatalf("its place is %v, it has all up to %v", slow.Pos, last)
					}
					ends++
					sub = subscribe(t, r, &chat.SubscribeOptions{After: slow.Pos, MaxUnread: 4000})
				}
			}
		}
		got := pending(sub)
		if err := chain(last, got); err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			last = got[len(got)-1].Meta().Pos
		}
		if last.Seq != 2001 || ends < 3 {
			t.Errorf("after %d ends the last is %v", ends, last)
		}
	})
}

// TestTwoRoomsOnOneLog shows the promises across nodes: one order, a name taken, a kick across, receipts.
func TestTwoRoomsOnOneLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := chat.NewMemoryLog(nil)
		a, b := newRoom(t, &chat.RoomOptions{Log: l}), newRoom(t, &chat.RoomOptions{Log: l})
		sa, sb := subscribe(t, a, nil), subscribe(t, b, nil)
		ann := login(t, a, "Ann")
		bob := login(t, b, "Bob")
		if _, err := b.Login(ctx, "ANN", nil); !errors.Is(err, chat.ErrNameTaken) {
			t.Errorf("a name of the other node: %v", err)
		}
		if _, err := b.Send(ctx, ann, "hi", nil); !errors.Is(err, chat.ErrSession) {
			t.Errorf("a session of the other node: %v", err)
		}
		first, second := say(t, a, ann, "one"), say(t, b, bob, "two")
		if second.Pos.Seq != first.Pos.Seq+1 || second.Pos.Epoch != first.Pos.Epoch {
			t.Errorf("receipts %v, %v", first, second)
		}
		g := serve(t, a, nil)
		g.ask(chat.LoginRequest{Name: "Cid"})
		if err := b.Kick(ctx, "cid", "across"); err != nil {
			t.Error(err)
		}
		if err, _ := g.end(); err != (chat.KickedError{Note: "across"}) {
			t.Errorf("kicked from the other node: %v", err)
		}
		if err := b.Kick(ctx, "Ann", ""); err != nil {
			t.Error(err)
		}
		if _, err := a.Send(ctx, ann, "still here", nil); !errors.Is(err, chat.ErrSession) {
			t.Errorf("after that: %v", err)
		}
		<-ann.Done()
		var kicked chat.KickedError
		if !errors.As(ann.Err(), &kicked) {
			t.Errorf("the session: %v", ann.Err())
		}
		// A third room, opened later, has the same history and the same roster; what one shut down ended, all see.
		c := newRoom(t, &chat.RoomOptions{Log: l})
		diff(t, "a third room's roster", b.Members(), c.Members())
		all := subscribe(t, c, &chat.SubscribeOptions{Last: 100})
		if err := b.Shutdown(ctx, nil); err != nil {
			t.Error(err)
		}
		want := "+Ann +Bob Ann:one Bob:two +Cid -Cid(kicked) -Ann(kicked) -Bob(shutdown)"
		events := pending(sa)
		diff(t, "as the first room saw it", want, words(events))
		diff(t, "the second", events, rest(sb))
		diff(t, "the third", events, pending(all))
		diff(t, "members", []chat.User{}, a.Members())
	})
}
