package chat_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A behindLog shows its follower nothing while it is held.
type behindLog struct {
	chat.Log

	mu    sync.Mutex
	held  bool
	queue []chat.Record
	apply func([]chat.Record, error)
}

func (l *behindLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	l.apply = apply
	return l.Log.Follow(after, func(recs []chat.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held {
			l.queue = append(l.queue, recs...)
			return
		}
		apply(recs, err)
	})
}

func (l *behindLog) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.apply(l.queue, nil)
	l.queue = nil
}

// TestANodeThatIsBehind asks a room for what stands in the log and what it has not read yet: it does not say that there is
// no such thing, but waits until it knows.
func TestANodeThatIsBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log := chat.NewMemoryLog(nil)
		behind := &behindLog{Log: log}
		a, b := newRoom(t, &chat.RoomOptions{Log: log}), newRoom(t, &chat.RoomOptions{Log: behind})
		old := login(t, a, "Bob")
		behind.held = true
		if err := a.Logout(ctx, old); err != nil {
			t.Fatal(err)
		}
		ann, bob := login(t, a, "Ann"), login(t, a, "Bob")
		said := say(t, a, ann, "hi")

		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := b.Subscribe(short, &chat.SubscribeOptions{After: said.Pos}); !errors.Is(err, chat.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a position that the room has not read, when the context ends: %v", err)
		}
		ahead := chat.Position{Epoch: said.Pos.Epoch, Seq: said.Pos.Seq + 1}
		if _, err := b.Subscribe(ctx, &chat.SubscribeOptions{After: ahead}); !errors.Is(err, chat.ErrAhead) {
			t.Errorf("a position that the log does not have: %v", err)
		}

		var sub *chat.Subscription
		var session *chat.Session
		var errs [4]error
		calls := []func(){
			func() { sub, errs[0] = b.Subscribe(ctx, &chat.SubscribeOptions{After: said.Pos}) },
			func() { session, errs[1] = b.Resume(ctx, ann.Token(), true) },
			func() { errs[2] = b.Kick(ctx, "Bob", "") },
			func() { _, errs[3] = b.Resume(ctx, "nobody's token at all", true) },
		}
		var wg sync.WaitGroup
		var returned atomic.Int32
		for _, f := range calls {
			wg.Go(func() { f(); returned.Add(1) })
			synctest.Wait()
		}
		if n := returned.Load(); n != 0 {
			t.Fatalf("%d calls have returned that the room cannot answer: %v", n, errs)
		}
		behind.release()
		wg.Wait()
		if errs[0] != nil || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], chat.ErrToken) {
			t.Fatalf("when the room has read on: %v", errs)
		}
		if st := sub.Start(); !st.Resumed || st.At != said.Pos {
			t.Errorf("the subscription begins with %+v", st)
		}
		if session.User() != ann.User() || !errors.Is(bob.Err(), chat.ErrKicked) {
			t.Errorf("resumed as %v; the Bob who was in when he was kicked: %v", session.User(), bob.Err())
		}
	})
}
