package chat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/chat"
)

// A heldLog is a [chat.MemoryLog] whose appends the test decides on: it holds them and lets them go, answers that it does
// not know, refuses, or ends. It keeps the clauses of [chat.Log] while it does.
type heldLog struct {
	*chat.MemoryLog

	mu    sync.Mutex
	rule  func(e chat.Entry) fate // nil: pass
	queue []*heldAppend           // the oldest first
	tails []*heldTail
	stuck bool      // Snapshot waits for the end of its context
	wrong time.Time // when it last gave an answer that leads to another try
	short int       // how many times Follow is to end with ErrTrimmed
}

// A fate is what becomes of an append.
type fate int

const (
	pass         fate = iota
	hold              // it waits until it is let go; if its caller leaves before, it lands all the same
	landsUnknown      // it lands, and the answer is "unknown"
	lateUnknown       // the answer is "unknown" at once, and it lands when it is let go
	lostUnknown       // the answer is "unknown", and it never lands
	full              // ErrFull
)

// A heldAppend is an entry that has not landed.
type heldAppend struct {
	entry chat.Entry
	done  chan struct{}
	rec   chat.Record
	err   error
	gone  bool // nobody waits for it
}

type heldTail struct {
	mu    sync.Mutex
	apply func([]chat.Record, error)
	ended bool
}

func newHeldLog(o *chat.MemoryLogOptions) *heldLog { return &heldLog{MemoryLog: chat.NewMemoryLog(o)} }

// isJoin, isSaid and isLeft say of which kind an entry is.
func isJoin(e chat.Entry) bool { return e.Key != "" && !e.Final }
func isSaid(e chat.Entry) bool { return e.Key == "" }
func isLeft(e chat.Entry) bool { return e.Final }

// all is a rule that gives every entry one fate.
func all(f fate) func(chat.Entry) fate { return func(chat.Entry) fate { return f } }

// only is a rule for the entries that are of a kind.
func only(is func(chat.Entry) bool, f fate) func(chat.Entry) fate {
	return func(e chat.Entry) fate {
		if is(e) {
			return f
		}
		return pass
	}
}

// once is a rule for the first entry of a kind.
func once(is func(chat.Entry) bool, f fate) func(chat.Entry) fate {
	used := false
	return func(e chat.Entry) fate {
		if is(e) && !used {
			used = true
			return f
		}
		return pass
	}
}

// set changes the rule. Entries that are held stay so.
func (l *heldLog) set(rule func(chat.Entry) fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = rule
}

// held returns how many entries wait.
func (l *heldLog) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// release lets entries land in the order of their coming, and those that come meanwhile.
func (l *heldLog) release() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.mu.Unlock()
			return
		}
		h := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		h.rec, h.err = l.land(h.entry)
		close(h.done)
	}
}

// calm reports whether all tries have been made that wrong answers lead to.
func (l *heldLog) calm() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.wrong) > 10*time.Second
}

// drop forgets the entries that nobody waits for.
func (l *heldLog) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(h *heldAppend) bool { return h.gone })
}

// land adds e. An answer settles what became of the same entry before.
func (l *heldLog) land(e chat.Entry) (chat.Record, error) {
	rec, err := l.MemoryLog.Append(context.Background(), e)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(h *heldAppend) bool { return h.gone && h.entry.ID == e.ID })
	return rec, err
}

func (l *heldLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	l.mu.Lock()
	f := pass
	if l.rule != nil {
		f = l.rule(e)
	}
	h := &heldAppend{entry: e, done: make(chan struct{}), gone: f == lateUnknown}
	h.entry.Data = bytes.Clone(e.Data)
	if f == hold || f == lateUnknown {
		l.queue = append(l.queue, h)
	}
	if f > hold {
		l.wrong = time.Now()
	}
	l.mu.Unlock()
	switch f {
	case hold:
		select {
		case <-h.done:
			return h.rec, h.err
		case <-ctx.Done():
			l.mu.Lock()
			h.gone = true
			l.mu.Unlock()
			return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, ctx.Err())
		}
	case landsUnknown:
		if _, err := l.land(e); err != nil {
			return chat.Record{}, err
		}
		return chat.Record{}, chat.ErrUnknown
	case lateUnknown, lostUnknown:
		return chat.Record{}, chat.ErrUnknown
	case full:
		e.Guard = chat.Guard{Key: "nobody", Seq: math.MaxUint64} // dedupe comes first
		if rec, err := l.MemoryLog.Append(context.Background(), e); err == nil {
			return rec, nil
		}
		return chat.Record{}, chat.ErrFull
	}
	if err := ctx.Err(); err != nil {
		return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, err)
	}
	return l.land(e)
}

func (l *heldLog) Snapshot(ctx context.Context) (chat.Snapshot, error) {
	l.mu.Lock()
	stuck := l.stuck
	l.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return chat.Snapshot{}, ctx.Err()
	}
	return l.MemoryLog.Snapshot(ctx)
}

func (l *heldLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	t := &heldTail{apply: apply}
	stop, err := l.MemoryLog.Follow(after, t.call)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.tails = append(l.tails, t)
	short := l.short > 0
	l.short--
	l.mu.Unlock()
	if short {
		t.call(nil, chat.ErrTrimmed)
	}
	return func() {
		stop()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended = true
	}, nil
}

// end gives every follower its last call.
func (l *heldLog) end(err error) {
	l.mu.Lock()
	tails := slices.Clone(l.tails)
	l.mu.Unlock()
	for _, t := range tails {
		t.call(nil, err)
	}
}

// unread sets whether the log can be read.
func (l *heldLog) unread(stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = stuck
}

// mute lets the followers hear nothing more.
func (l *heldLog) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tails {
		t.mu.Lock()
		t.ended = true
		t.mu.Unlock()
	}
}

func (t *heldTail) call(recs []chat.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended = err != nil
		t.apply(recs, err)
	}
}

// TestNewRoomBounds shows that a room opens within 10 s or fails, and that a log which is trimmed while it is being read
// is read again.
func TestNewRoomBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(nil)
		l.stuck = true
		begin := time.Now()
		r, err := chat.NewRoom(&chat.RoomOptions{Log: l})
		if r != nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 10*time.Second {
			t.Errorf("a log that hangs: %v after %v", err, time.Since(begin))
		}

		l = newHeldLog(nil)
		before := newRoom(t, &chat.RoomOptions{Log: l})
		login(t, before, "Ann")
		l.short = 2
		r = newRoom(t, &chat.RoomOptions{Log: l})
		if m := r.Members(); len(m) != 1 {
			t.Errorf("opened at the third try: members %v", m)
		}
		login(t, r, "Bob")
	})
}
