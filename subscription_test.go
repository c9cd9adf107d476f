package chat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/chat"
)

// TestNobodyIsMissedWhenOthersGo shows that a reader which waits is given what comes although others leave in the middle of
// a sweep: that must not lose sight of one that takes the place of another.
func TestNobodyIsMissedWhenOthersGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		const rounds, leave = 30, 3
		var guests []*guest // the first in the room's list
		for range rounds * leave {
			guests = append(guests, serve(t, r, &chat.ServeOptions{Spectators: true}))
		}
		synctest.Wait()
		var subs []*chat.Subscription
		for range 300 {
			subs = append(subs, subscribe(t, r, nil))
		}
		for round := range rounds {
			synctest.Wait()
			text := fmt.Sprint("round ", round)
			go func() {
				if _, err := r.Send(context.Background(), ann, text, nil); err != nil {
					t.Error(err)
				}
			}()
			for _, g := range guests[:leave] {
				g.goodbye()
			}
			guests = guests[leave:]
			synctest.Wait()
			for i, s := range subs {
				select {
				case e := <-s.Events():
					if words([]chat.Event{e}) != "Ann:"+text {
						t.Fatalf("round %d: subscriber %d has %v", round, i, e)
					}
				default:
					t.Fatalf("round %d: subscriber %d of %d sleeps", round, i, len(subs))
				}
			}
		}
	})
}

// TestBacklogIsNotSlowness shows that a reader which begins further back than it may fall behind is given all that it
// asked for: it is not late, for it has only just begun.
func TestBacklogIsNotSlowness(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		ann := login(t, r, "Ann")
		from := say(t, r, ann, "from here").Pos
		var want []string
		text := strings.Repeat("x", 4000)
		for i := range 500 { // 2 MB, and 1 MiB is the bound
			want = append(want, fmt.Sprint("Ann:", i, text))
			say(t, r, ann, fmt.Sprint(i, text))
		}
		sub := subscribe(t, r, &chat.SubscribeOptions{After: from})
		synctest.Wait()
		for i := range 100 {
			want = append(want, fmt.Sprint("Ann:", i, text))
			say(t, r, ann, fmt.Sprint(i, text))
			synctest.Wait()
		}
		if got := words(pending(sub)); got != strings.Join(want, " ") || sub.Err() != nil {
			t.Errorf("of %d events it got %d; the end: %v", len(want), strings.Count(got, "Ann:"), sub.Err())
		}
		for range 400 { // now it is late
			say(t, r, ann, text)
		}
		synctest.Wait()
		say(t, r, ann, text) // and is found to be at the latest now
		synctest.Wait()
		if got := rest(sub); !errors.As(sub.Err(), new(chat.SlowError)) {
			t.Errorf("a reader that stopped: %d events and then %v", len(got), sub.Err())
		}
	})
}

// TestLoginThatLandsAfterClose shows that a login which outlives its room leaves nobody in the log.
func TestLoginThatLandsAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l})
		other := newRoom(t, &chat.RoomOptions{Log: l.MemoryLog})
		sub := subscribe(t, other, nil)
		l.set(only(isJoin, hold))
		done := make(chan error, 1)
		go func() {
			_, err := r.Login(context.Background(), "Ann", nil)
			done <- err
		}()
		synctest.Wait()
		r.Close()
		l.release()
		if err := <-done; !errors.Is(err, chat.ErrClosed) {
			t.Errorf("the login: %v", err)
		}
		if got := words(pending(sub)); got != "+Ann -Ann(shutdown)" {
			t.Errorf("the other node saw %s", got)
		}

		// A resuming that does the same is no session either.
		l.set(nil)
		ann, err := other.Login(context.Background(), "Ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		r = newRoom(t, &chat.RoomOptions{Log: l})
		l.set(only(isJoin, hold))
		go func() {
			s, err := r.Resume(context.Background(), ann.Token(), true)
			if s != nil {
				t.Error("a session of a room that is closed")
			}
			done <- err
		}()
		synctest.Wait()
		r.Close()
		l.release()
		if err := <-done; !errors.Is(err, chat.ErrClosed) {
			t.Errorf("the resuming: %v", err)
		}
	})
}

// TestErrIsThereWhenTheChannelCloses shows that a reader which sees the end of its channel finds the reason, however soon
// it asks.
func TestErrIsThereWhenTheChannelCloses(t *testing.T) {
	for range 1000 {
		bubble(t, func(t *testing.T) {
			r := newRoom(t, nil)
			sub := subscribe(t, r, nil)
			go r.Close()
			for open := true; open; { // without rest, so as to be there at once
				select {
				case _, open = <-sub.Events():
				default:
				}
			}
			if err := sub.Err(); !errors.Is(err, chat.ErrClosed) {
				t.Fatalf("the channel is closed, and the reason is %v", err)
			}
		})
	}
}
