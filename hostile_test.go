package chat_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// What a client said before its connection failed for writing is still read: a goodbye is one.
func TestGoodbyeBehindAFailedWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		sub := subscribe(t, r, nil)
		g := newGuest(t)
		g.in <- chat.LoginRequest{Name: "Ann"}
		g.in <- chat.SendRequest{Text: "bye"}
		g.goodbye()
		g.batch = func(*chat.Batch) error { return io.ErrClosedPipe }
		g.serve(context.Background(), r, &chat.ServeOptions{Linger: time.Minute})
		if err, _ := g.end(); err != nil {
			t.Errorf("Serve: %v, want nil: it said goodbye", err)
		}
		synctest.Wait()
		diff(t, "what the others see", "+Ann Ann:bye -Ann(goodbye)", words(pending(sub)))
	})
}

// A client that asks and does not read is given one roster at a time.
func TestOneRosterAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		g := newGuest(t)
		rosters, logins := 0, 0
		g.batch = func(b *chat.Batch) error {
			n := 0
			for _, rep := range b.Replies() {
				if in, ok := rep.(chat.LoginReply); ok && in.Start != nil {
					n++
				}
			}
			rosters, logins = max(rosters, n), logins+n
			return nil
		}
		resume := g.stall()
		g.serve(context.Background(), r, nil)
		for range 10 {
			g.ask(chat.LoginRequest{Name: "Ann"}, chat.LogoutRequest{})
		}
		resume()
		synctest.Wait()
		if rosters != 1 || logins != 10 {
			t.Errorf("%d rosters at once, of %d logins in all", rosters, logins)
		}
		g.goodbye()
		g.end()
	})
}

// The limit of a name is of what is asked for and shown; the key that it is compared under may be longer.
func TestNameWhoseKeyIsLonger(t *testing.T) {
	r := newRoom(t, nil)
	if _, err := r.Login(context.Background(), strings.Repeat("Ⱥ", 32), nil); err != nil { // 64 bytes; 96 in lower case
		t.Error(err)
	}
}

// A handler that asks something of the room it is told about.
type curious struct {
	slog.Handler
	room *chat.Room
}

func (c *curious) Handle(context.Context, slog.Record) error {
	c.room.Stats()
	return nil
}

func TestLoggerMayAskTheRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := newHeldLog(nil)
		c := &curious{Handler: slog.NewTextHandler(io.Discard, nil)}
		c.room = newRoom(t, &chat.RoomOptions{Log: log, Logger: slog.New(c)})
		log.end(chat.ErrTrimmed)
		c.room.Close()
	})
}
