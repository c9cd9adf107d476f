package chat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// bubble runs f in virtual time. A goroutine that is left behind fails the test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// newRoom opens a room that the test closes.
func newRoom(t testing.TB, o *chat.RoomOptions) *chat.Room {
	t.Helper()
	r, err := chat.NewRoom(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// login logs in; the session's user has the name as an ID too.
func login(t testing.TB, r *chat.Room, name string) *chat.Session {
	t.Helper()
	s, err := r.Login(context.Background(), name, nil)
	if err != nil {
		t.Fatalf("login of %q: %v", name, err)
	}
	return s
}

// say sends text.
func say(t testing.TB, r *chat.Room, s *chat.Session, text string) chat.Receipt {
	t.Helper()
	rcpt, err := r.Send(context.Background(), s, text, nil)
	if err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
	return rcpt
}

// subscribe subscribes.
func subscribe(t testing.TB, r *chat.Room, o *chat.SubscribeOptions) *chat.Subscription {
	t.Helper()
	s, err := r.Subscribe(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next returns the next event of s, without what differs from run to run.
func next(t testing.TB, s *chat.Subscription) chat.Event {
	t.Helper()
	e, ok := <-s.Events()
	if !ok {
		t.Fatalf("the subscription ended: %v", s.Err())
	}
	return plain(e)
}

// rest reads s to its end.
func rest(s *chat.Subscription) []chat.Event {
	var all []chat.Event
	for e := range s.Events() {
		all = append(all, e)
	}
	return all
}

// pending returns what s has for its reader when nothing else is under way.
func pending(s *chat.Subscription) []chat.Event {
	var all []chat.Event
	for {
		synctest.Wait()
		select {
		case e, ok := <-s.Events():
			if !ok {
				return all
			}
			all = append(all, e)
		default:
			return all
		}
	}
}

// plain removes the time, the epoch and a made ID.
func plain(e chat.Event) chat.Event {
	at := chat.Meta{Pos: chat.Position{Seq: e.Meta().Pos.Seq}, Prev: chat.Position{Seq: e.Meta().Prev.Seq}}
	switch e := e.(type) {
	case chat.Joined:
		e.At = at
		return e
	case chat.Said:
		e.At = at
		e.ID = ""
		return e
	case chat.Left:
		e.At = at
		return e
	case chat.Resumed:
		e.At = at
		return e
	}
	panic("not an event")
}

func at(seq uint64) chat.Meta {
	return chat.Meta{Pos: chat.Position{Seq: seq}, Prev: chat.Position{Seq: seq - 1}}
}

// words is a short form of events, such as "+Ann Ann:hi -Ann(logout)".
func words(events []chat.Event) string {
	var list []string
	for _, e := range events {
		switch e := e.(type) {
		case chat.Joined:
			list = append(list, "+"+e.User.Name)
		case chat.Said:
			list = append(list, e.User.Name+":"+e.Text)
		case chat.Left:
			list = append(list, fmt.Sprintf("-%s(%v)", e.User.Name, e.Reason))
		}
	}
	return strings.Join(list, " ")
}

// chain reports how events do not follow each other, from after start.
func chain(start chat.Position, events []chat.Event) error {
	last := start
	for _, e := range events {
		m := e.Meta()
		if m.Prev != last || m.Pos.Seq <= last.Seq || m.Pos.Epoch != last.Epoch {
			return fmt.Errorf("%T at %v names %v before it, and comes after %v", e, m.Pos, m.Prev, last)
		}
		last = m.Pos
	}
	return nil
}

// roll is the roster after events, given the one before them.
func roll(t testing.TB, before []chat.User, events []chat.Event) []chat.User {
	t.Helper()
	roster := append([]chat.User{}, before...)
	for _, e := range events {
		switch e := e.(type) {
		case chat.Joined:
			for _, u := range roster {
				if u.Name == e.User.Name {
					t.Errorf("%v joins and is in already, at %v", u, e.At.Pos)
				}
			}
			roster = append(roster, e.User)
		case chat.Left:
			found := false
			for i, u := range roster {
				if u == e.User {
					roster, found = append(roster[:i:i], roster[i+1:]...), true
					break
				}
			}
			if !found {
				t.Errorf("%v leaves and was not in, at %v", e.User, e.At.Pos)
			}
		}
	}
	return roster
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestConversation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRoom(t, nil)
		sub := subscribe(t, r, nil)
		ann := login(t, r, "Ann")
		if _, err := r.Login(ctx, "ann", nil); !errors.Is(err, chat.ErrNameTaken) {
			t.Errorf("a second login: %v", err)
		}
		say(t, r, ann, "hello")
		if err := r.Logout(ctx, ann); err != nil {
			t.Fatal(err)
		}
		user := chat.User{Name: "Ann"}
		want := []chat.Event{
			chat.Joined{At: at(1), User: user},
			chat.Said{At: at(2), User: user, Text: "hello"},
			chat.Left{At: at(3), User: user, Reason: chat.Logout},
		}
		diff(t, "events", want, []chat.Event{next(t, sub), next(t, sub), next(t, sub)})
		r.Close()
		if _, ok := <-sub.Events(); ok || !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("after Close: %v, %v", ok, sub.Err())
		}
	})
}

// TestLogoutTellsTheTruth shows that Logout and Kick do not say that a Left is in the log where it is not.
func TestLogoutTellsTheTruth(t *testing.T) {
	for _, row := range []struct {
		why string
		end func(r *chat.Room, s *chat.Session) error
	}{
		{"a logout", func(r *chat.Room, s *chat.Session) error { return r.Logout(context.Background(), s) }},
		{"a kick", func(r *chat.Room, s *chat.Session) error { return r.Kick(context.Background(), "Ann", "") }},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newHeldLog(nil)
				r := newRoom(t, &chat.RoomOptions{Log: l})
				ann := login(t, r, "Ann")
				l.set(all(hold))
				done := make(chan error, 1)
				go func() { done <- row.end(r, ann) }()
				synctest.Wait()
				r.Close()
				if err := <-done; !errors.Is(err, chat.ErrUnknown) {
					t.Errorf("its Left has not landed: %v", err)
				}
			})
		})
	}
}

// TestKickOnAnotherNodeEndsWithTheRoom shows that a kick that waits for what its room has not read yet ends with the
// room.
func TestKickOnAnotherNodeEndsWithTheRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(&chat.MemoryLogOptions{MaxRecords: 1})
		a := newRoom(t, &chat.RoomOptions{Log: l.MemoryLog})
		ann := login(t, a, "Ann")
		b := newRoom(t, &chat.RoomOptions{Log: l})
		l.mute() // b reads nothing more
		if err := a.Logout(context.Background(), ann); err != nil {
			t.Fatal(err)
		}
		login(t, a, "Zoe")
		time.Sleep(time.Minute)
		login(t, a, "Zac") // and the log forgets the Left: the kick meets the guard
		done := make(chan error, 1)
		go func() { done <- b.Kick(context.Background(), "Ann", "") }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("the kick did not wait: %v", err)
		default:
		}
		b.Close()
		if err := <-done; !errors.Is(err, chat.ErrClosed) {
			t.Errorf("kick: %v", err)
		}
	})
}
