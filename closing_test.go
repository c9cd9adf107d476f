package chat_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/chat"
)

// TestCloseDuringResume shows that a resuming which is under way when its room is closed leaves nobody behind: it lands
// while Close tries the ends of the others, or after it.
func TestCloseDuringResume(t *testing.T) {
	for _, row := range []struct {
		why    string
		each   time.Duration // what an append takes
		served bool
	}{
		{"it lands while Close waits", 300 * time.Millisecond, false},
		{"it lands while Close waits, of a connection", 300 * time.Millisecond, true},
		{"it lands when Close is done", 5 * time.Second, false}, // a connection's call is given up by then: out of reach
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newHeldLog(nil)
				a, b := newRoom(t, &chat.RoomOptions{Log: l}), newRoom(t, &chat.RoomOptions{Log: l})
				s := login(t, a, "Ann")
				l.set(all(hold))
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				defer wg.Wait()
				defer cancel()
				wg.Go(func() {
					for ctx.Err() == nil {
						time.Sleep(row.each)
						l.release()
					}
				})
				if row.served {
					serve(t, a, nil).in <- chat.LoginRequest{Token: s.Token()}
				} else {
					go func() { _, _ = a.Resume(ctx, s.Token(), true) }() // either answer is true
				}
				time.Sleep(100 * time.Millisecond)
				a.Close()
				time.Sleep(time.Minute)
				if m := b.Members(); len(m) > 0 {
					t.Errorf("a minute after Close %v is still in", m)
				}
			})
		})
	}
}

// A distantLog takes its time to be read.
type distantLog struct{ *chat.MemoryLog }

func (l distantLog) Read(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
	time.Sleep(5 * time.Millisecond)
	return l.MemoryLog.Read(ctx, after, max)
}

// TestBusyRoomIsCaughtUpWith shows that a call which waits for what stands in the log does not wait for what comes later.
func TestBusyRoomIsCaughtUpWith(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, &chat.RoomOptions{Log: distantLog{chat.NewMemoryLog(nil)}})
		ann := login(t, r, "Ann")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			for ctx.Err() == nil {
				say(t, r, ann, "and another thing")
				time.Sleep(4 * time.Millisecond)
			}
		})
		if err := r.Kick(ctx, "nobody", ""); !errors.Is(err, chat.ErrNotMember) {
			t.Errorf("kicking nobody: %v", err)
		}
		if _, err := r.Resume(ctx, "not a token at all", true); !errors.Is(err, chat.ErrToken) {
			t.Errorf("no token: %v", err)
		}
		if ctx.Err() != nil {
			t.Error("it took more than a minute")
		}
	})
}

// A lifelog is a nodes' log that can be made anew, and put out of reach.
type lifelog struct {
	chat.Log
	apply func([]chat.Record, error)
	away  bool
}

func (l *lifelog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	if l.away {
		return nil, errors.New("out of reach")
	}
	l.apply = apply
	return l.Log.Follow(after, apply)
}

// TestNodesLogBeginsANewLife shows that a node whose log lost everything is known in the new one, and that one which can't
// follow it any more can be closed.
func TestNodesLogBeginsANewLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rooms := chat.NewMemoryLog(nil)
		l := &lifelog{Log: chat.NewMemoryLog(nil)}
		na := newNode(t, l)
		a := newRoom(t, &chat.RoomOptions{Log: rooms, Node: na})
		old := l.apply
		l.Log = chat.NewMemoryLog(nil)
		old(nil, chat.ErrEpoch)
		time.Sleep(time.Minute)
		nb := newNode(t, l.Log)
		b := newRoom(t, &chat.RoomOptions{Log: rooms, Node: nb})
		ann := login(t, a, "Ann")
		time.Sleep(5 * time.Minute)
		if len(b.Members()) != 1 || ann.Err() != nil {
			t.Errorf("a living node's session: %v; members %v", ann.Err(), b.Members())
		}
		l.away = true
		l.apply(nil, chat.ErrTrimmed)
		time.Sleep(time.Minute)
		a.Close()
		b.Close()
		_ = na.Close() // others have judged it, or it says so
		_ = nb.Close()
	})
}

func TestTokenIsText(t *testing.T) {
	r := newRoom(t, nil)
	if _, err := r.Login(context.Background(), "Ann", &chat.LoginOptions{Token: strings.Repeat("\xff\xfe", 16)}); !errors.Is(err, chat.ErrID) {
		t.Errorf("a token that no client of chat.v1 can be told: %v", err)
	}
}
