package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

func TestPromise09SlowIsToldNeverLiedTo(t *testing.T) {
	for _, row := range []struct {
		why       string
		window    int
		maxUnread int
	}{
		{"further behind than it may be", 0, 10_000},
		{"the window has moved on", 10_000, -1},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := chat.NewMemoryLog(nil)
				r := newRoom(t, &chat.RoomOptions{Log: l, Window: row.window})
				whole := newRoom(t, &chat.RoomOptions{Log: l}) // its window holds all
				ann := login(t, r, "Ann")
				stopped := subscribe(t, r, &chat.SubscribeOptions{MaxUnread: row.maxUnread})
				reads := subscribe(t, r, &chat.SubscribeOptions{MaxUnread: row.maxUnread})
				g := serve(t, r, &chat.ServeOptions{Spectators: true, MaxUnread: row.maxUnread})
				g.ask(chat.SubscribeRequest{}, chat.LoginRequest{Name: "Slow"})
				g.stall()

				begin := time.Now()
				var heard []chat.Event
				for range 200 {
					say(t, r, ann, strings.Repeat("x", 100))
					heard = append(heard, pending(reads)...)
				}
				if time.Since(begin) != 0 {
					t.Error("a slow reader delayed the others")
				}
				if err := chain(reads.Start().At, heard); err != nil || reads.Err() != nil {
					t.Errorf("a reader that reads: %v; %v", err, reads.Err())
				}

				// It gets what it was given, without a gap, then the reason with its place there; from which it goes on.
				got := rest(stopped)
				var slow chat.SlowError
				if !errors.As(stopped.Err(), &slow) || !errors.Is(stopped.Err(), chat.ErrSlow) {
					t.Fatalf("a reader that stopped: %v", stopped.Err())
				}
				if err := chain(stopped.Start().At, got); err != nil || len(got) == 0 || slow.Pos != got[len(got)-1].Meta().Pos {
					t.Errorf("it has %d events, %v, and is told that it stopped at %v", len(got), err, slow.Pos)
				}
				if row.window == 0 && slow.Behind < int64(row.maxUnread) {
					t.Errorf("ended %d bytes behind, %d are allowed", slow.Behind, row.maxUnread)
				}
				// So does a connection, and its user leaves for that reason.
				err, cause := g.end()
				if !errors.As(err, &slow) || cause != err {
					t.Errorf("a connection that stopped: %v, told %v", err, cause)
				}
				synctest.Wait()
				heard = append(heard, pending(reads)...)
				if !strings.Contains(words(heard), "-Slow(slow)") {
					t.Error("its user did not leave")
				}
				again := subscribe(t, whole, &chat.SubscribeOptions{After: got[len(got)-1].Meta().Pos, MaxUnread: -1})
				diff(t, "what it had and what came after", heard, append(got, pending(again)...))
				if st := r.Stats(); st.Slow != 2 {
					t.Errorf("Stats counts %d", st.Slow)
				}
			})
		})
	}
}

// TestPromise09TakenIsNotRead shows that what a connection has been given to write, and has not written, counts as well.
func TestPromise09TakenIsNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		g := serve(t, r, &chat.ServeOptions{Spectators: true, MaxUnread: 4000})
		g.ask(chat.SubscribeRequest{})
		g.stall()
		say(t, r, ann, strings.Repeat("x", 3000)) // this it has in hand
		synctest.Wait()
		say(t, r, ann, strings.Repeat("x", 400))
		synctest.Wait()
		select {
		case <-g.served:
			t.Fatalf("ended within the bound: %v", g.err)
		default:
		}
		say(t, r, ann, strings.Repeat("x", 600))
		var slow chat.SlowError
		if err, _ := g.end(); !errors.As(err, &slow) || slow.Behind < 4000 || slow.Behind > 5000 {
			t.Errorf("over the bound: %v", err)
		}
	})
}

func TestPromise10ResumingIsExactOrRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRoom(t, &chat.RoomOptions{Window: 4000})
		all := subscribe(t, r, nil)
		ann := login(t, r, "Ann")
		var events []chat.Event
		for i := range 60 {
			say(t, r, ann, fmt.Sprint(i))
			if i%9 == 0 {
				login(t, r, fmt.Sprint("n", i))
			}
			events = append(events, pending(all)...)
		}
		epoch := events[0].Meta().Pos.Epoch
		kept := 0
		for i, e := range events {
			p := e.Meta().Pos
			sub, err := r.Subscribe(ctx, &chat.SubscribeOptions{After: p})
			if errors.Is(err, chat.ErrTrimmed) {
				if kept > 0 {
					t.Errorf("%v is trimmed, and the one before it is not", p)
				}
				// A fresh start instead, marked as one.
				sub, err = r.Subscribe(ctx, &chat.SubscribeOptions{After: p, Fresh: true, Last: 3})
				if err != nil || sub.Start().Resumed || sub.Start().Roster == nil {
					t.Errorf("a fresh start: %v, %+v", err, sub.Start())
				}
				diff(t, "the last three", events[len(events)-3:], pending(sub))
				sub.Close()
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			kept++
			diff(t, "the start", chat.Start{At: p, Resumed: true}, sub.Start())
			if i < len(events)-1 {
				diff(t, "after "+p.String(), events[i+1:], pending(sub))
			} else if got := pending(sub); len(got) != 0 {
				t.Errorf("after the last: %s", words(got))
			}
			sub.Close()
		}
		if kept < 10 || kept == len(events) {
			t.Errorf("%d of %d positions are kept: the test shows nothing", kept, len(events))
		}
		last := events[len(events)-1].Meta().Pos
		for _, row := range []struct {
			why   string
			after chat.Position
			is    error
		}{
			{"before the window", chat.Position{Epoch: epoch, Seq: 0}, chat.ErrTrimmed},
			{"one after the last", chat.Position{Epoch: epoch, Seq: last.Seq + 1}, chat.ErrAhead},
			{"far after it", chat.Position{Epoch: epoch, Seq: 1 << 63}, chat.ErrAhead},
			{"another life", chat.Position{Epoch: epoch + 1, Seq: last.Seq}, chat.ErrEpoch},
		} {
			if _, err := r.Subscribe(ctx, &chat.SubscribeOptions{After: row.after}); !errors.Is(err, row.is) {
				t.Errorf("%s: %v", row.why, err)
			}
			g := serve(t, r, nil)
			g.ask(chat.LoginRequest{Name: "Bob", Hear: chat.SubscribeOptions{After: row.after}})
			if rep, ok := g.last().(chat.ErrorReply); !ok || !errors.Is(rep.Err, row.is) {
				t.Errorf("%s: a login there: %v", row.why, g.last())
			}
			g.goodbye()
		}
		// More than the window holds is as much as it holds.
		sub := subscribe(t, r, &chat.SubscribeOptions{Last: 1 << 40})
		diff(t, "all that is kept", events[len(events)-kept+1:], pending(sub))
		if n := r.Stats().Members; n != 8 {
			t.Errorf("%d members: a refused login had an effect", n)
		}
	})
}

func TestPromise11ContextsBoundCalls(t *testing.T) {
	calls := []struct {
		why  string
		call func(ctx context.Context, r *chat.Room, s *chat.Session) error
		then string // what the log holds when it is back
	}{
		{"login", func(ctx context.Context, r *chat.Room, _ *chat.Session) error {
			_, err := r.Login(ctx, "Bob", nil)
			return err
		}, "+Bob -Bob(lost)"},
		{"send", func(ctx context.Context, r *chat.Room, s *chat.Session) error {
			_, err := r.Send(ctx, s, "hi", nil)
			return err
		}, "Ann:hi"},
		{"logout", func(ctx context.Context, r *chat.Room, s *chat.Session) error {
			return r.Logout(ctx, s)
		}, "-Ann(logout)"},
		{"kick", func(ctx context.Context, r *chat.Room, _ *chat.Session) error {
			return r.Kick(ctx, "Ann", "")
		}, "-Ann(kicked)"},
	}
	for _, row := range calls {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newHeldLog(nil)
				r := newRoom(t, &chat.RoomOptions{Log: l})
				sub := subscribe(t, r, nil)
				ann := login(t, r, "Ann")

				// One that has ended before has no effect.
				ended, cancel := context.WithCancel(context.Background())
				cancel()
				if err := row.call(ended, r, ann); !errors.Is(err, context.Canceled) || errors.Is(err, chat.ErrUnknown) {
					t.Errorf("with a context that has ended: %v", err)
				}
				synctest.Wait()
				if n := l.held(); n != 0 {
					t.Errorf("and %d appends", n)
				}

				// One that ends while the log hangs.
				l.set(all(hold))
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				begin := time.Now()
				err := row.call(ctx, r, ann)
				if took := time.Since(begin); took != time.Second || !errors.Is(err, chat.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %v: %v", took, err)
				}
				time.Sleep(time.Hour)
				if got := words(pending(sub)); got != "+Ann" {
					t.Errorf("while the log hangs: %s", got)
				}
				l.set(nil)
				l.release()
				diff(t, "when it is back", row.then, words(pending(sub)))
			})
		})
	}
	t.Run("a login that never lands", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newHeldLog(nil)
			r := newRoom(t, &chat.RoomOptions{Log: l})
			login(t, newRoom(t, &chat.RoomOptions{Log: l}), "Ann")
			l.set(only(isJoin, lostUnknown))
			if _, err := r.Login(context.Background(), "Ann", nil); !errors.Is(err, chat.ErrUnknown) {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			l.set(nil) // the room asks again, and hears that the name is taken
			time.Sleep(time.Minute)
			diff(t, "members", []chat.User{{Name: "Ann"}}, r.Members())
			if err := r.Shutdown(context.Background(), nil); err != nil {
				t.Errorf("and nothing of it is left for Shutdown to wait for: %v", err)
			}
		})
	})
	t.Run("subscribe and serve", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			ctx, cancel := context.WithCancel(context.Background())
			sub, err := r.Subscribe(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			cancel() // it bounds the call, not the subscription
			login(t, r, "Ann")
			diff(t, "after its context", "+Ann", words(pending(sub)))
			if _, err := r.Subscribe(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("with a context that has ended: %v", err)
			}
		})
	})
}

func TestPromise12EndsAreClean(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l})
		other := newRoom(t, &chat.RoomOptions{Log: l.MemoryLog})
		ann := login(t, r, "Ann")
		sub := subscribe(t, r, nil)
		g := serve(t, r, nil)
		g.ask(chat.LoginRequest{Name: "Bob"})
		late := serve(t, r, nil)
		resume := g.stall()

		// A message is under way when the room is told to shut down: it is delivered.
		l.set(only(isSaid, hold))
		receipt := make(chan error, 1)
		go func() {
			_, err := r.Send(ctx, ann, "last words", nil)
			receipt <- err
		}()
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(ctx, &chat.ShutdownOptions{RetryAfter: 5 * time.Second}) }()
		synctest.Wait()
		late.ask(chat.LoginRequest{Name: "Late"})
		if rep, ok := late.last().(chat.ErrorReply); !ok || !errors.Is(rep.Err, chat.ErrClosed) {
			t.Errorf("a newcomer: %v", late.last())
		}
		for _, row := range []struct {
			why string
			err error
		}{
			{"login", second(r.Login(ctx, "Cid", nil))},
			{"send", second(r.Send(ctx, ann, "too late", nil))},
			{"subscribe", second(r.Subscribe(ctx, nil))},
			{"kick", r.Kick(ctx, "Ann", "")},
			{"serve", r.Serve(ctx, newGuest(t), nil)},
			{"admit", second(r.Admit("somewhere"))},
		} {
			if !errors.Is(row.err, chat.ErrClosed) {
				t.Errorf("%s while the room shuts down: %v", row.why, row.err)
			}
		}
		l.release()
		if err := <-receipt; err != nil {
			t.Errorf("the message under way: %v", err)
		}
		synctest.Wait()
		if len(down) != 0 {
			t.Error("it did not wait for who has not read yet")
		}
		resume()
		synctest.Wait()
		diff(t, "a connection that was behind", "+Bob Ann:last words", words(g.events()))
		for _, g := range []*guest{g, late} {
			if err, cause := g.end(); err != (chat.ShutdownError{RetryAfter: 5 * time.Second}) || cause != err {
				t.Errorf("a connection: %v, told %v", err, cause)
			}
		}
		if got := words(rest(sub)); !strings.HasPrefix(got, "+Bob Ann:last words -") || strings.Count(got, "(shutdown)") != 2 || !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("a subscription is read to its end: %s, %v", got, sub.Err())
		}
		if err := <-down; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		diff(t, "the roster elsewhere", []chat.User{}, other.Members())
		if r.Close() != nil || r.Shutdown(ctx, nil) != nil {
			t.Error("twice is harmless")
		}
		if st := r.Stats(); st.Members+st.Subscribers+st.Connections != 0 {
			t.Errorf("left: %+v", st)
		}
	})
}

// second returns the error of a call that has another result.
func second[T any](_ T, err error) error { return err }

// TestPromise12ALogOutOfReach shows how long the ends take when the log answers nothing.
func TestPromise12ALogOutOfReach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(nil)
		setUp := func() (r *chat.Room, s *chat.Session, g *guest, sub *chat.Subscription) {
			l.set(nil)
			r = newRoom(t, &chat.RoomOptions{Log: l})
			s = login(t, r, fmt.Sprint("Ann", r.Stats().Members))
			g = serve(t, r, nil)
			g.ask(chat.LoginRequest{Name: fmt.Sprint("Bob", r.Stats().Members)})
			sub = subscribe(t, r, nil)
			l.set(all(hold))
			return r, s, g, sub
		}
		r, s, g, sub := setUp()
		begin := time.Now()
		if r.Close(); time.Since(begin) != time.Second {
			t.Errorf("Close took %v", time.Since(begin))
		}
		<-s.Done()
		if err, _ := g.end(); !errors.Is(err, chat.ErrClosed) || !errors.Is(s.Err(), chat.ErrClosed) {
			t.Errorf("the connection: %v; the session: %v", err, s.Err())
		}
		if rest(sub); !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("the subscription: %v", sub.Err())
		}

		r, s, _, sub = setUp()
		hung, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go r.Send(hung, s, "held", nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begin = time.Now()
		if err := r.Shutdown(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 6*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(begin))
		}
		if rest(sub); !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("the subscription: %v", sub.Err())
		}
	})
}

// TestPromise12CloseWaits shows that no goroutine of the room is left when Close returns, also where a transport takes its
// time to give up.
func TestPromise12CloseWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		g := newGuest(t)
		g.batch = func(*chat.Batch) error {
			time.Sleep(3 * time.Second)
			return nil
		}
		g.serve(context.Background(), r, nil)
		g.ask(chat.LoginRequest{Name: "Ann"})
		begin := time.Now()
		r.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.inside != [2]int{} || time.Since(begin) != 3*time.Second {
			t.Errorf("after %v Close returned, with calls of the transport running: %v", time.Since(begin), g.inside)
		}
	})
}

// TestPromise12TheLogEnds shows what all are told when the log itself ends.
func TestPromise12TheLogEnds(t *testing.T) {
	for _, why := range []error{chat.ErrTrimmed, chat.ErrEpoch, chat.ErrClosed} {
		bubble(t, func(t *testing.T) {
			l := newHeldLog(nil)
			r := newRoom(t, &chat.RoomOptions{Log: l})
			sub := subscribe(t, r, nil)
			ann := login(t, r, "Ann")
			g := serve(t, r, nil)
			g.ask(chat.LoginRequest{Name: "Bob"})
			l.set(all(hold))
			done := make(chan error, 1)
			go func() { done <- r.Logout(context.Background(), ann) }()
			synctest.Wait()
			l.end(why)
			if got := words(rest(sub)); got != "+Ann +Bob" || !errors.Is(sub.Err(), why) {
				t.Errorf("a subscription: %s, %v", got, sub.Err())
			}
			if err, _ := g.end(); !errors.Is(err, why) {
				t.Errorf("a connection: %v", err)
			}
			<-ann.Done()
			if err := <-done; !errors.Is(err, chat.ErrUnknown) || !errors.Is(ann.Err(), why) {
				t.Errorf("a logout under way: %v; its session: %v", err, ann.Err())
			}
			if _, err := r.Login(context.Background(), "Cid", nil); !errors.Is(err, why) {
				t.Errorf("a login: %v", err)
			}
			if _, err := r.Subscribe(context.Background(), nil); !errors.Is(err, why) {
				t.Errorf("a subscription: %v", err)
			}
			begin := time.Now()
			if r.Close(); time.Since(begin) != 0 {
				t.Error("Close waited")
			}
			l.release()
		})
	}
}

func TestPromise13LimitsAreOnByDefault(t *testing.T) {
	ctx := context.Background()
	max := func(of error, n int) func(error) bool {
		return func(err error) bool {
			var l chat.LimitError
			return errors.As(err, &l) && l.Limit == of && l.Max == n && errors.Is(err, of)
		}
	}
	for _, row := range []struct {
		why string
		o   chat.RoomOptions // with the number n instead of the default
		n   int              // the number
		is  func(error) bool
		use func(t *testing.T, r *chat.Room, i int) error // uses the limit once more
	}{
		{"members", chat.RoomOptions{MaxMembers: 3}, 3, max(chat.ErrRoomFull, 3), func(_ *testing.T, r *chat.Room, i int) error {
			return second(r.Login(ctx, fmt.Sprint("n", i), nil))
		}},
		{"subscribers", chat.RoomOptions{MaxSubscribers: 4}, 4, max(chat.ErrSubscribers, 4), func(_ *testing.T, r *chat.Room, i int) error {
			return second(r.Subscribe(ctx, nil))
		}},
		{"connections of a source", chat.RoomOptions{}, 100, max(chat.ErrSource, 100), func(_ *testing.T, r *chat.Room, i int) error {
			return second(r.Admit("10.0.0.1"))
		}},
		{"connections of a source, asked for", chat.RoomOptions{MaxPerSource: 2}, 2, max(chat.ErrSource, 2), func(t *testing.T, r *chat.Room, i int) error {
			g := serve(t, r, &chat.ServeOptions{Source: "10.0.0.1", LoginTimeout: -1})
			synctest.Wait()
			select {
			case <-g.served:
				return g.err
			default:
				return nil
			}
		}},
		{"connections not logged in", chat.RoomOptions{MaxAnonymous: 2}, 2, max(chat.ErrAnonymous, 2), func(t *testing.T, r *chat.Room, i int) error {
			g := serve(t, r, &chat.ServeOptions{LoginTimeout: -1})
			synctest.Wait()
			select {
			case <-g.served:
				return g.err
			default:
				return nil
			}
		}},
		{"requests a second", chat.RoomOptions{}, 40, max(chat.ErrRate, 20), requester(nil)},
		{"requests a second, asked for", chat.RoomOptions{}, 10, max(chat.ErrRate, 5), requester(&chat.ServeOptions{Rate: 5})},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoom(t, &row.o)
				for i := range row.n {
					if err := row.use(t, r, i); err != nil {
						t.Fatalf("number %d of %d: %v", i+1, row.n, err)
					}
				}
				err := row.use(t, r, row.n)
				if !row.is(err) {
					t.Errorf("one more: %v", err)
				}
				if n := r.Stats().Refused[chat.Code(err)]; n != 1 {
					t.Errorf("Stats counts %d under %q", n, chat.Code(err))
				}
			})
		})
	}

	t.Run("bytes", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			long := login(t, r, strings.Repeat("n", 64))
			if _, err := r.Login(ctx, strings.Repeat("m", 65), nil); !max(chat.ErrNameTooLong, 64)(err) {
				t.Errorf("a name of 65 bytes: %v", err)
			}
			say(t, r, long, strings.Repeat("x", 4096))
			if _, err := r.Send(ctx, long, strings.Repeat("x", 4097), nil); !max(chat.ErrTextTooLong, 4096)(err) {
				t.Errorf("a text of 4097 bytes: %v", err)
			}
			none := newRoom(t, &chat.RoomOptions{MaxText: -1, MaxName: -1})
			s := login(t, none, strings.Repeat("n", 500))
			say(t, none, s, strings.Repeat("x", 1<<20))
		})
	})

	t.Run("time without a login", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			begin := time.Now()
			idle, brief := serve(t, r, nil), serve(t, r, &chat.ServeOptions{LoginTimeout: 5 * time.Second})
			in, watches := serve(t, r, nil), serve(t, r, &chat.ServeOptions{Spectators: true})
			in.ask(chat.LoginRequest{Name: "Ann"})
			if err, _ := brief.end(); !max(chat.ErrLoginTimeout, 5)(err) || time.Since(begin) != 5*time.Second {
				t.Errorf("5 s: %v after %v", err, time.Since(begin))
			}
			if err, _ := idle.end(); !max(chat.ErrLoginTimeout, 60)(err) || time.Since(begin) != time.Minute {
				t.Errorf("by default: %v after %v", err, time.Since(begin))
			}
			in.ask(chat.LogoutRequest{})
			begin = time.Now()
			if err, _ := in.end(); !max(chat.ErrLoginTimeout, 60)(err) || time.Since(begin) != time.Minute {
				t.Errorf("after a logout: %v after %v", err, time.Since(begin))
			}
			time.Sleep(time.Hour)
			select {
			case <-watches.served:
				t.Errorf("a spectator: %v", watches.err)
			default:
			}
		})
	})

	t.Run("negative is none", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, &chat.RoomOptions{MaxMembers: -1, MaxSubscribers: -1, MaxPerSource: -1, MaxAnonymous: -1})
			for range 200 {
				if _, err := r.Admit("one"); err != nil {
					t.Fatal(err)
				}
			}
			use := requester(&chat.ServeOptions{Rate: -1, LoginTimeout: -1})
			for i := range 500 {
				if err := use(t, r, i); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// requester returns a function that makes a request over one connection, and returns how it was refused.
func requester(o *chat.ServeOptions) func(t *testing.T, r *chat.Room, i int) error {
	var g *guest
	return func(t *testing.T, r *chat.Room, i int) error {
		if i == 0 {
			g = serve(t, r, o)
			g.ask(chat.LoginRequest{Name: "Ann"})
			return nil
		}
		g.ask(chat.SendRequest{Text: "x"})
		if rep, ok := g.last().(chat.ErrorReply); ok {
			var l chat.LimitError
			if errors.As(rep.Err, &l) && l.Limit == chat.ErrRate { // the wait that it names is enough, and not too long
				time.Sleep(l.RetryAfter + time.Microsecond)
				g.ask(chat.SendRequest{Text: "x"})
				if _, ok := g.last().(chat.SendReply); !ok || l.RetryAfter > time.Second {
					t.Errorf("after %v: %v", l.RetryAfter, g.last())
				}
			}
			return rep.Err
		}
		return nil
	}
}

func TestPromise14BadInputIsTheSendersProblemOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		sub := subscribe(t, r, nil)
		ann := serve(t, r, nil)
		ann.ask(chat.LoginRequest{Name: "Ann"})
		heard := len(ann.all())

		bad := serve(t, r, &chat.ServeOptions{Rate: -1})
		requests := []struct {
			req  chat.Request
			code string
		}{
			{nil, "request"},
			{chat.BadRequest{Err: io.ErrUnexpectedEOF}, "request"},
			{chat.SendRequest{Text: "hi"}, "not_logged_in"},
			{chat.LogoutRequest{}, "not_logged_in"},
			{chat.SubscribeRequest{}, "not_logged_in"},
			{chat.LoginRequest{Name: "ann"}, "name_taken"},
			{chat.LoginRequest{Name: "\u200b"}, "name"},
			{chat.LoginRequest{Name: "x\xff"}, "name"},
			{chat.LoginRequest{Name: strings.Repeat("x", 1<<20)}, "name_too_long"},
			{chat.LoginRequest{Name: "Bob", Hear: chat.SubscribeOptions{After: chat.Position{Epoch: 1, Seq: 1}}}, "epoch"},
			{chat.LoginRequest{Token: "guessed guessed guessed"}, "token"},
		}
		for _, row := range requests {
			bad.ask(row.req)
			if rep, ok := bad.last().(chat.ErrorReply); !ok || chat.Code(rep.Err) != row.code {
				t.Errorf("%.60v: %v, want %q", row.req, bad.last(), row.code)
			}
		}
		if got := words(pending(sub)); got != "+Ann" || len(ann.all()) != heard {
			t.Errorf("the others saw %s, %v", got, ann.all()[heard:])
		}
		bad.ask(chat.LoginRequest{Name: "Bob", Hear: chat.SubscribeOptions{Last: -5}})
		if _, ok := bad.last().(chat.LoginReply); !ok {
			t.Fatalf("a login after all this: %v", bad.last())
		}
		for _, row := range []struct {
			req  chat.Request
			code string
		}{
			{chat.LoginRequest{Name: "Bob"}, "logged_in"},
			{chat.SubscribeRequest{}, "subscribed"},
			{chat.SendRequest{Text: ""}, "text"},
			{chat.SendRequest{Text: " \n\t"}, "text"},
			{chat.SendRequest{Text: "\xff"}, "text"},
			{chat.SendRequest{Text: strings.Repeat("x", 5000)}, "text_too_long"},
			{chat.SendRequest{ID: "a b", Text: "hi"}, "id"},
			{chat.SendRequest{ID: strings.Repeat("x", 65), Text: "hi"}, "id"},
		} {
			bad.ask(row.req)
			if rep, ok := bad.last().(chat.ErrorReply); !ok || chat.Code(rep.Err) != row.code {
				t.Errorf("%.60v: %v, want %q", row.req, bad.last(), row.code)
			}
		}

		// One that asks and does not read what it is answered is not read from after a while; nobody else waits.
		resume := bad.stall()
		for range 10_000 {
			bad.in <- chat.BadRequest{Err: chat.ErrRequest}
			if len(bad.in) > 1000 {
				break
			}
		}
		synctest.Wait()
		if len(bad.in) == 0 {
			t.Error("replies pile up without a bound")
		}
		ann.ask(chat.SendRequest{Text: "fine"})
		if _, ok := ann.last().(chat.SendReply); !ok {
			t.Errorf("meanwhile: %v", ann.last())
		}
		resume()
		synctest.Wait()
		diff(t, "what the others saw", "+Bob Ann:fine", words(pending(sub)))
		if len(bad.in) != 0 {
			t.Error("it is not read from any more")
		}
	})
}
