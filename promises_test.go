package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// The promises of the package documentation, a test each. What a connection must help to keep is shown with the adapters.

func TestPromise01OneOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		var subs []*chat.Subscription
		for range 5 {
			subs = append(subs, subscribe(t, r, nil))
		}
		var guests []*guest
		for range 5 {
			g := serve(t, r, &chat.ServeOptions{Spectators: true})
			g.ask(chat.SubscribeRequest{})
			guests = append(guests, g)
		}
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				s := login(t, r, fmt.Sprint("n", n))
				for i := range 5 {
					say(t, r, s, fmt.Sprint(i))
				}
				if err := r.Logout(context.Background(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		first := pending(subs[0])
		if len(first) != 4*7 {
			t.Fatalf("%d events: %s", len(first), words(first))
		}
		for i, e := range first {
			if e.Meta().Pos.Seq != uint64(i+1) { // a MemoryLog counts 1, 2, 3 …
				t.Errorf("event %d stands at %v", i, e.Meta().Pos)
			}
		}
		if err := chain(subs[0].Start().At, first); err != nil {
			t.Error(err)
		}
		for _, s := range subs[1:] {
			diff(t, "another subscription", first, pending(s))
		}
		for _, g := range guests {
			diff(t, "a connection", first, g.events())
		}
	})
}

func TestPromise02RosterIsTheFold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRoom(t, nil)
		roster := []chat.User{}
		for i := range 40 {
			sub := subscribe(t, r, &chat.SubscribeOptions{Last: i % 7})
			if sub.Start().Resumed {
				t.Errorf("a fresh start calls itself resumed")
			}
			got := pending(sub)
			if err := chain(sub.Start().At, got); err != nil {
				t.Error(err)
			}
			diff(t, fmt.Sprintf("step %d: start and what follows", i), r.Members(), roll(t, sub.Start().Roster, got))
			if i%7 == 0 {
				diff(t, "the start", roster, sub.Start().Roster)
			}
			sub.Close()
			if i%3 == 2 {
				if err := r.Kick(ctx, roster[len(roster)/2].Name, ""); err != nil {
					t.Fatal(err)
				}
			} else {
				login(t, r, fmt.Sprint("n", i))
				login(t, r, fmt.Sprint("m", i))
				if err := r.Kick(ctx, fmt.Sprint("m", i), ""); err != nil {
					t.Fatal(err)
				}
			}
			roster = r.Members()
		}
	})
}

func TestPromise03IdentityIsTheRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r, other := newRoom(t, nil), newRoom(t, nil)
		sub := subscribe(t, r, nil)
		for _, row := range []struct {
			why string
			s   *chat.Session
		}{
			{"no session", nil},
			{"one that no room made", new(chat.Session)},
			{"one of another room", login(t, other, "Ann")},
		} {
			if _, err := r.Send(ctx, row.s, "hi", nil); !errors.Is(err, chat.ErrSession) {
				t.Errorf("%s: send: %v", row.why, err)
			}
			if err := r.Logout(ctx, row.s); !errors.Is(err, chat.ErrSession) {
				t.Errorf("%s: logout: %v", row.why, err)
			}
		}
		// Each connection speaks as who logged in over it, with the ID that the program gave.
		a, b := serve(t, r, &chat.ServeOptions{UserID: "17"}), serve(t, r, &chat.ServeOptions{UserID: "18"})
		a.ask(chat.LoginRequest{Name: "Ann"}, chat.SendRequest{Text: "I am Ann"})
		b.ask(chat.SendRequest{Text: "I am Ann, too"})
		b.ask(chat.LoginRequest{Name: "Bob"}, chat.SendRequest{Text: "no, Bob"})
		ann, bob := chat.User{Name: "Ann", ID: "17"}, chat.User{Name: "Bob", ID: "18"}
		diff(t, "events", []chat.Event{
			chat.Joined{At: at(1), User: ann}, chat.Said{At: at(2), User: ann, Text: "I am Ann"},
			chat.Joined{At: at(3), User: bob}, chat.Said{At: at(4), User: bob, Text: "no, Bob"},
		}, []chat.Event{next(t, sub), next(t, sub), next(t, sub), next(t, sub)})
	})
}

func TestPromise04OneHolderOfAName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := chat.NewMemoryLog(nil)
		r, other := newRoom(t, &chat.RoomOptions{Log: l}), newRoom(t, &chat.RoomOptions{Log: l})
		sub := subscribe(t, r, nil)
		bob := login(t, r, " Ｂｏｂ ")
		diff(t, "as it is shown", chat.User{Name: "Bob"}, bob.User())
		for _, name := range []string{"Bob", "bob", "BOB", " bob", "Ｂｏｂ"} {
			for _, room := range []*chat.Room{r, other} {
				if _, err := room.Login(ctx, name, nil); !errors.Is(err, chat.ErrNameTaken) {
					t.Errorf("%q beside Bob: %v", name, err)
				}
			}
		}
		for _, row := range []struct {
			why, name string
			is        error
		}{
			{"a zero-width space is refused, not stripped", "Bo\u200bb", chat.ErrName},
			{"a control character", "Bob\x00", chat.ErrName},
			{"bidi", "\u202eboB", chat.ErrName},
			{"nothing to see", "\u2800", chat.ErrName},
			{"nothing", "", chat.ErrName},
			{"not UTF-8", "Bob\xff", chat.ErrName},
			{"65 bytes", strings.Repeat("x", 65), chat.LimitError{Limit: chat.ErrNameTooLong, Max: 64}},
			{"6 bytes as asked for, 66 as shown", "\ufdfa\ufdfa", chat.LimitError{Limit: chat.ErrNameTooLong, Max: 64}},
		} {
			if _, err := r.Login(ctx, row.name, nil); !errors.Is(err, row.is) {
				t.Errorf("%s: %v", row.why, err)
			}
		}
		say(t, r, bob, "still here")
		if err := r.Logout(ctx, bob); err != nil {
			t.Fatal(err)
		}

		// Of fifty at the same time one gets it, on whichever node, and the others hear of nothing else.
		won := make(chan *chat.Session, 50)
		for i := range 50 {
			go func() {
				room := []*chat.Room{r, other}[i%2]
				s, err := room.Login(ctx, "bob", nil)
				if err == nil {
					won <- s
				} else if !errors.Is(err, chat.ErrNameTaken) {
					t.Errorf("one of fifty: %v", err)
				}
			}()
		}
		synctest.Wait()
		if len(won) != 1 {
			t.Fatalf("%d hold one name", len(won))
		}
		diff(t, "events", "+Bob Bob:still here -Bob(logout) +bob", words(pending(sub)))
	})
}

func TestPromise04APolicyOfTheProgramsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refused := errors.New("not today")
		r := newRoom(t, &chat.RoomOptions{MaxName: 8, Names: func(name string) (string, string, error) {
			switch name {
			case "no":
				return "", "", refused
			case "empty":
				return "", "", nil
			case "bad":
				return "\xff", "x", nil
			case "grows":
				return strings.Repeat("x", 9), "x", nil
			case "long key":
				return "x", strings.Repeat("x", 513), nil
			}
			return name, name[:1], nil
		}})
		login(t, r, "Ann")
		for _, row := range []struct {
			name string
			is   error
		}{
			{"Abe", chat.ErrNameTaken}, {"no", refused}, {"no", chat.ErrName}, {"empty", chat.ErrName}, {"bad", chat.ErrName},
			{"grows", chat.ErrNameTooLong}, {"long key", chat.ErrNameTooLong}, {"ann", nil},
		} {
			if _, err := r.Login(context.Background(), row.name, nil); !errors.Is(err, row.is) {
				t.Errorf("%q: %v", row.name, err)
			}
		}
	})
}

// TestPromise05LeavingHappensExactlyOnce ends one session in every order of four ways while the log hangs, so that all
// of them are under way at once. Each session has one Left, with the first reason.
func TestPromise05LeavingHappensExactlyOnce(t *testing.T) {
	ctx := context.Background()
	ways := []struct {
		reason chat.Reason
		begin  func(r *chat.Room, g *guest)
	}{
		{chat.Logout, func(_ *chat.Room, g *guest) { g.in <- chat.LogoutRequest{} }},
		{chat.Lost, func(_ *chat.Room, g *guest) { g.lose(io.ErrUnexpectedEOF) }},
		{chat.Kicked, func(r *chat.Room, _ *guest) { go r.Kick(ctx, "Ann", "") }},
		{chat.Shutdown, func(r *chat.Room, _ *guest) { go r.Shutdown(ctx, nil) }},
	}
	for order := range 24 {
		bubble(t, func(t *testing.T) {
			l := newHeldLog(nil)
			r := newRoom(t, &chat.RoomOptions{Log: l})
			other := newRoom(t, &chat.RoomOptions{Log: l.MemoryLog})
			sub := subscribe(t, other, nil)
			g := serve(t, r, nil)
			g.ask(chat.LoginRequest{Name: "Ann"})
			l.set(all(hold))
			left, n := append(ways[:0:0], ways...), order
			first := left[n%4].reason
			for i := range 4 {
				way := left[n%(4-i)]
				left = append(left[:n%(4-i)], left[n%(4-i)+1:]...)
				n /= 4 - i
				way.begin(r, g)
				synctest.Wait()
			}
			l.set(nil)
			l.release()
			r.Close()
			g.end()
			if got, want := words(pending(sub)), fmt.Sprintf("+Ann -Ann(%v)", first); got != want {
				t.Errorf("order %d: %s, want %s", order, got, want)
			}
		})
	}
}

func TestPromise06NoGhosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		sub := subscribe(t, r, nil)

		// Who says goodbye, and who is lost without a linger, leaves now.
		g := serve(t, r, nil)
		g.ask(chat.LoginRequest{Name: "Ann"})
		g.goodbye()
		g.end()
		synctest.Wait() // the Left is under way when Serve returns
		g = serve(t, r, nil)
		g.ask(chat.LoginRequest{Name: "Ann"})
		g.lose(io.ErrUnexpectedEOF)
		g.end()
		synctest.Wait()
		diff(t, "a goodbye and a loss", "+Ann -Ann(goodbye) +Ann -Ann(lost)", words(pending(sub)))

		// With a linger a goodbye is one all the same, and a loss ends when that is over.
		g = serve(t, r, &chat.ServeOptions{Linger: 10 * time.Second})
		g.ask(chat.LoginRequest{Name: "Ann"})
		g.goodbye()
		g.end()
		synctest.Wait()
		g = serve(t, r, &chat.ServeOptions{Linger: 10 * time.Second})
		g.ask(chat.LoginRequest{Name: "Ann"})
		g.lose(io.ErrUnexpectedEOF)
		g.end()
		time.Sleep(10*time.Second - 1)
		diff(t, "with a linger", "+Ann -Ann(goodbye) +Ann", words(pending(sub)))
		time.Sleep(time.Nanosecond)
		diff(t, "at its end", "-Ann(lost)", words(pending(sub)))

		// A peer that vanishes while the log hangs is gone as soon as that is back.

		lg := newHeldLog(nil)
		hung := newRoom(t, &chat.RoomOptions{Log: lg})
		g = serve(t, hung, nil)
		lg.set(all(hold))
		g.ask(chat.LoginRequest{Name: "Ann"})
		g.lose(io.ErrUnexpectedEOF)
		time.Sleep(time.Minute)
		g.end()
		lg.set(nil)
		lg.release()
		synctest.Wait()
		diff(t, "who is in after a login that nobody waited for", []chat.User{}, hung.Members())
		if st := hung.Stats(); st.Events != 2 {
			t.Errorf("%d events, not a Joined and a Left", st.Events)
		}

		// A logout leaves the connection open, as a spectator's where those are allowed.
		g = serve(t, r, &chat.ServeOptions{Spectators: true})
		g.ask(chat.LoginRequest{Name: "Bob"}, chat.LogoutRequest{})
		login(t, r, "Zoe")
		synctest.Wait()
		diff(t, "what a spectator hears", "+Bob -Bob(logout) +Zoe", words(g.events()))

		// A kick closes it.
		g.ask(chat.LoginRequest{Name: "Bob"})
		if err := r.Kick(context.Background(), "bob", ""); err != nil {
			t.Error(err)
		}
		if err, _ := g.end(); !errors.Is(err, chat.ErrKicked) {
			t.Errorf("after a kick: %v", err)
		}
		diff(t, "events", "+Bob -Bob(logout) +Zoe +Bob -Bob(kicked)", words(pending(sub)))
	})
}

// TestPromise07AReceiptIsTrue sends while the log does each thing that it may do, and compares the answer with the log.
func TestPromise07AReceiptIsTrue(t *testing.T) {
	for _, row := range []struct {
		why   string
		fate  fate
		leave bool  // the caller's context ends
		kick  bool  // the session is kicked while the message is held
		err   error // nil: a receipt
		lands bool
	}{
		{"a log that works", pass, false, false, nil, true},
		{"one that answers late", hold, false, false, nil, true},
		{"one that answers later than the caller waits", hold, true, false, context.Canceled, true},
		{"one that says unknown, but has it: the room saw it land", landsUnknown, false, false, nil, true},
		{"one that says unknown, and it lands later", lateUnknown, false, false, chat.ErrUnknown, true},
		{"one that says unknown, and it never lands", lostUnknown, false, false, chat.ErrUnknown, false},
		{"one that is full", full, false, false, chat.ErrFull, false},
		{"a speaker who is kicked first", hold, false, true, chat.ErrSession, false},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newHeldLog(nil)
				r := newRoom(t, &chat.RoomOptions{Log: l})
				sub := subscribe(t, r, nil)
				ann := login(t, r, "Ann")
				l.set(once(isSaid, row.fate))
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				type answer struct {
					rcpt chat.Receipt
					err  error
				}
				done := make(chan answer, 1)
				go func() {
					rcpt, err := r.Send(ctx, ann, "hi", &chat.SendOptions{ID: "1"})
					done <- answer{rcpt, err}
				}()
				synctest.Wait()
				if row.kick {
					if err := r.Kick(context.Background(), "Ann", ""); err != nil {
						t.Fatal(err)
					}
				}
				if row.leave {
					begin := time.Now()
					cancel()
					a := <-done
					if time.Since(begin) != 0 {
						t.Error("a cancelled call did not return at once")
					}
					done <- a
				}
				l.release()
				a := <-done
				if !errors.Is(a.err, row.err) {
					t.Errorf("send: %v, want %v", a.err, row.err)
				}
				if row.leave && !errors.Is(a.err, chat.ErrUnknown) {
					t.Errorf("a send that was given up: %v", a.err)
				}
				var said []chat.Said
				for _, e := range pending(sub) {
					if e, ok := e.(chat.Said); ok {
						said = append(said, e)
					}
				}
				if len(said) == 1 != row.lands {
					t.Fatalf("in the log: %v", said)
				}
				if a.err == nil && (said[0].At.Pos != a.rcpt.Pos || said[0].ID != "1" || a.rcpt.ID != "1") {
					t.Errorf("the receipt %v is of %v", a.rcpt, said[0])
				}
				if row.kick {
					return
				}
				// Sending again settles it.
				rcpt, err := r.Send(context.Background(), ann, "hi", &chat.SendOptions{ID: "1"})
				if err != nil {
					t.Fatalf("the retry: %v", err)
				}
				if row.lands && rcpt.Pos != said[0].At.Pos {
					t.Errorf("the retry's receipt is %v, the message stands at %v", rcpt.Pos, said[0].At.Pos)
				}
				more := pending(sub)
				if row.lands && len(more) != 0 || !row.lands && words(more) != "Ann:hi" {
					t.Errorf("after the retry: %s", words(more))
				}
			})
		})
	}
}

func TestPromise08RetryIsSafe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := newHeldLog(&chat.MemoryLogOptions{MaxRecords: 10})
		r := newRoom(t, &chat.RoomOptions{Log: l})
		ann, bob := login(t, r, "Ann"), login(t, r, "Bob")
		var first []chat.Receipt
		for i := range 256 {
			rcpt, err := r.Send(ctx, ann, "hi", &chat.SendOptions{ID: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
			first = append(first, rcpt)
		}
		// Long after the log has forgotten them.
		for range 5000 {
			say(t, r, bob, "x")
		}
		time.Sleep(time.Hour)
		sub := subscribe(t, r, nil)
		for i, rcpt := range first {
			again, err := r.Send(ctx, ann, "hi", &chat.SendOptions{ID: fmt.Sprint(i)})
			if again != rcpt || err != nil {
				t.Errorf("the retry of %d: %v, %v; at first %v", i, again, err, rcpt)
			}
		}
		// Another's "0" is another message.
		if rcpt, err := r.Send(ctx, bob, "hi", &chat.SendOptions{ID: "0"}); err != nil || rcpt.Pos == first[0].Pos {
			t.Errorf("Bob's: %v, %v", rcpt, err)
		}
		diff(t, "events", "Bob:hi", words(pending(sub)))

		// Two at the same time are one.
		l.set(only(isSaid, hold))
		got := make(chan chat.Receipt, 2)
		for range 2 {
			go func() {
				rcpt, err := r.Send(ctx, ann, "both", &chat.SendOptions{ID: "both"})
				if err != nil {
					t.Error(err)
				}
				got <- rcpt
			}()
		}
		synctest.Wait()
		l.release()
		if a, b := <-got, <-got; a != b {
			t.Errorf("two sends of one ID: %v and %v", a, b)
		}
		diff(t, "events", "Ann:both", words(pending(sub)))

		for _, id := range []string{strings.Repeat("x", 65), "a b", "é", "\x7f"} {
			if _, err := r.Send(ctx, ann, "hi", &chat.SendOptions{ID: id}); !errors.Is(err, chat.ErrID) {
				t.Errorf("the ID %q: %v", id, err)
			}
		}
	})
}

// TestPromise08RetryOfOneWhoHasLeft shows that also a session that has ended learns what became of a message.
func TestPromise08RetryOfOneWhoHasLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l})
		sub := subscribe(t, r, nil)
		ann := login(t, r, "Ann")
		l.set(only(isSaid, lateUnknown))
		for _, id := range []string{"lands", "lands2"} {
			if _, err := r.Send(ctx, ann, id, &chat.SendOptions{ID: id}); !errors.Is(err, chat.ErrUnknown) {
				t.Fatal(err)
			}
		}
		l.release()
		l.set(nil)
		if err := r.Kick(ctx, "Ann", ""); err != nil {
			t.Fatal(err)
		}
		events := pending(sub)
		for _, e := range events {
			if said, ok := e.(chat.Said); ok {
				rcpt, err := r.Send(ctx, ann, said.Text, &chat.SendOptions{ID: said.ID})
				if err != nil || rcpt.Pos != said.At.Pos {
					t.Errorf("it stands at %v, and the retry gives %v, %v", said.At.Pos, rcpt, err)
				}
			}
		}
		if _, err := r.Send(ctx, ann, "new", &chat.SendOptions{ID: "new"}); !errors.Is(err, chat.ErrSession) {
			t.Errorf("what was never sent: %v", err)
		}
		diff(t, "events", "+Ann Ann:lands Ann:lands2 -Ann(kicked)", words(append(events, pending(sub)...)))

		// While it is leaving, and the log hangs, nothing is known.
		bob := login(t, r, "Bob")
		l.set(only(isLeft, hold))
		go r.Logout(ctx, bob)
		synctest.Wait()
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := r.Send(brief, bob, "x", &chat.SendOptions{ID: "x"}); !errors.Is(err, chat.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a retry while the session is leaving: %v", err)
		}
		l.set(nil)
		l.release()
	})
}
