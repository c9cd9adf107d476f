package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// faultScript asks a room on a log for one thing after the other, and says what came of each and how long it took.
func faultScript(t *testing.T, log chat.Log, spoil, mend func()) string {
	var b strings.Builder
	ctx := context.Background()
	room := newRoom(t, &chat.RoomOptions{Log: log})
	sub := subscribe(t, room, nil)
	ann := loginFor(t, room, "Ann", time.Hour)
	login(t, room, "Cid")
	guest := serve(t, room, nil)
	guest.ask(chat.LoginRequest{Name: "Gus"})
	spoil()
	do := func(what string, f func(ctx context.Context) error) {
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		begin := time.Now()
		err := f(limited)
		word := "ok"
		if err != nil {
			word = chat.Code(err)
			if errors.Is(err, context.DeadlineExceeded) {
				word += " (deadline)"
			}
		}
		fmt.Fprintf(&b, "%s: %s after %v\n", what, word, time.Since(begin))
	}
	send := func(ctx context.Context) error {
		_, err := room.Send(ctx, ann, "hi", &chat.SendOptions{ID: "1"})
		return err
	}
	do("Send", send)
	do("Send again", send)
	do("Login", func(ctx context.Context) error {
		_, err := room.Login(ctx, "Bob", nil)
		return err
	})
	do("Kick", func(ctx context.Context) error { return room.Kick(ctx, "Cid", "") })
	do("Resume", func(ctx context.Context) error {
		s, err := room.Resume(ctx, ann.Token(), true)
		if err == nil {
			ann = s
		}
		return err
	})
	do("Logout", func(ctx context.Context) error { return room.Logout(ctx, ann) })
	do("Subscribe", func(ctx context.Context) error {
		s, err := room.Subscribe(ctx, nil)
		if err == nil {
			s.Close()
		}
		return err
	})
	do("Request", func(context.Context) error {
		n := len(guest.all())
		guest.ask(chat.SendRequest{Text: "hello"})
		for range 20 {
			for _, v := range guest.all()[n:] {
				switch v := v.(type) {
				case chat.ErrorReply:
					return v.Err
				case chat.SendReply:
					return nil
				}
			}
			select {
			case <-guest.served: // there is nobody to answer
				return guest.err
			case <-time.After(time.Second):
			}
			synctest.Wait()
		}
		return context.DeadlineExceeded
	})
	mend()
	synctest.Wait()
	time.Sleep(time.Minute)
	do("Shutdown", func(ctx context.Context) error {
		events := pending(sub)
		sub.Close()
		list := strings.Fields(tale(events))
		slices.Sort(list) // what is tried again comes in any order
		fmt.Fprintf(&b, "events: %s\n", strings.Join(list, " "))
		if err := chain(sub.Start().At, events); err != nil {
			t.Error(err)
		}
		return room.Shutdown(ctx, nil)
	})
	err, _ := guest.end()
	fmt.Fprintf(&b, "The guest: %s. The subscription: %s.\n", chat.Code(err), chat.Code(sub.Err()))
	room.Close()
	return b.String()
}

// What each call returns, how long it takes and what subscribers see, while the log is not as it should be and when it is
// again. Nobody waits for longer than their context; what was accepted is there, what was refused is not; what is unknown
// settles; a Left that is under way is tried until it is there.
func TestLogFaults(t *testing.T) {
	for _, row := range []struct {
		why  string
		log  func() (l chat.Log, spoil, mend func())
		want string
	}{
		{"slow", func() (chat.Log, func(), func()) {
			l := &slowLog{Log: chat.NewMemoryLog(nil)}
			return l, func() { l.set(9*time.Second, 0) }, func() { l.set(0, 0) }
		}, `
Send: ok after 9s
Send again: ok after 0s
Login: ok after 9s
Kick: ok after 9s
Resume: ok after 9s
Logout: ok after 9s
Subscribe: ok after 0s
Request: ok after 9s
events: *Ann +Ann +Bob +Cid +Gus -Ann(logout) -Cid(kicked) Ann:hi Gus:hello
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"slow to answer", func() (chat.Log, func(), func()) {
			l := &slowLog{Log: chat.NewMemoryLog(nil)} // its followers are told before its caller is
			return l, func() { l.set(0, 9*time.Second) }, func() { l.set(0, 0) }
		}, `
Send: ok after 9s
Send again: ok after 0s
Login: ok after 9s
Kick: ok after 0s
Resume: ok after 9s
Logout: ok after 0s
Subscribe: ok after 0s
Request: ok after 0s
events: *Ann +Ann +Bob +Cid +Gus -Ann(logout) -Cid(kicked) Ann:hi Gus:hello
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"out of reach", faulty(hold), `
Send: unknown (deadline) after 20s
Send again: unknown (deadline) after 20s
Login: unknown (deadline) after 20s
Kick: unknown (deadline) after 20s
Resume: unknown (deadline) after 20s
Logout: unknown (deadline) after 20s
Subscribe: ok after 0s
Request: unknown (deadline) after 10s
events: *Ann +Ann +Bob +Cid +Gus -Bob(lost) -Cid(kicked) Ann:hi Gus:hello
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"lands, unknown", faulty(landsUnknown), `
Send: ok after 0s
Send again: ok after 0s
Login: ok after 0s
Kick: ok after 0s
Resume: ok after 0s
Logout: ok after 0s
Subscribe: ok after 0s
Request: ok after 0s
events: *Ann +Ann +Bob +Cid +Gus -Ann(logout) -Cid(kicked) Ann:hi Gus:hello
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"lands later, unknown", faulty(lateUnknown), `
Send: unknown after 0s
Send again: unknown after 0s
Login: unknown after 0s
Kick: unknown (deadline) after 20s
Resume: unknown after 0s
Logout: unknown (deadline) after 20s
Subscribe: ok after 0s
Request: unknown after 0s
events: *Ann +Ann +Bob +Cid +Gus -Bob(lost) -Cid(kicked) Ann:hi Gus:hello
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"lost, unknown", faulty(lostUnknown), `
Send: unknown after 0s
Send again: unknown after 0s
Login: unknown after 0s
Kick: unknown (deadline) after 20s
Resume: unknown after 0s
Logout: unknown (deadline) after 20s
Subscribe: ok after 0s
Request: unknown after 0s
events: +Ann +Bob +Cid +Gus -Ann(logout) -Bob(lost) -Cid(kicked)
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"full", faulty(full), `
Send: log_full after 0s
Send again: log_full after 0s
Login: log_full after 0s
Kick: unknown (deadline) after 20s
Resume: log_full after 0s
Logout: unknown (deadline) after 20s
Subscribe: ok after 0s
Request: log_full after 0s
events: +Ann +Cid +Gus -Ann(logout) -Cid(kicked)
Shutdown: ok after 0s
The guest: closed. The subscription: .
`},
		{"closed", ended(chat.ErrClosed), over("closed")},
		{"trimmed beyond its follower", ended(chat.ErrTrimmed), over("trimmed")},
		{"in another life", ended(chat.ErrEpoch), over("epoch")},
		{"with a record of another version", func() (chat.Log, func(), func()) {
			l := chat.NewMemoryLog(nil)
			return l, func() { l.Append(context.Background(), chat.Entry{ID: "of 2040", Data: []byte{250, 1}}) }, func() {}
		}, over("record")},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l, spoil, mend := row.log()
				diff(t, "the room on a log that is "+row.why, row.want, "\n"+faultScript(t, l, spoil, mend))
			})
		})
	}
}

// over is what is said of a room whose log has ended, by the word for that.
func over(word string) string {
	return strings.ReplaceAll(`
Send: WHY after 0s
Send again: WHY after 0s
Login: WHY after 0s
Kick: WHY after 0s
Resume: WHY after 0s
Logout: session after 0s
Subscribe: WHY after 0s
Request: WHY after 0s
events: +Ann +Cid +Gus
Shutdown: ok after 0s
The guest: WHY. The subscription: WHY.
`, "WHY", word)
}

// faulty makes a log with a fate.
func faulty(f fate) func() (chat.Log, func(), func()) {
	return func() (chat.Log, func(), func()) {
		l := newHeldLog(nil)
		return l, func() { l.set(all(f)) }, func() {
			l.set(nil)
			l.release()
		}
	}
}

// ended makes a log that ends.
func ended(why error) func() (chat.Log, func(), func()) {
	return func() (chat.Log, func(), func()) {
		l := newHeldLog(nil)
		return l, func() { l.end(why) }, func() {}
	}
}
