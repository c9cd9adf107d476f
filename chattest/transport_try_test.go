package chattest

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"example.com/chat"
)

// A trying pipe has TryDeliver: what it takes over a goroutine of its own hands to the client.
type trying struct {
	*pipe
	lock // of who hands
	pump sync.WaitGroup
}

func newTrying(p *pipe) *trying { return &trying{pipe: p, lock: make(lock, 1)} }

func (w *trying) TryDeliver(b *chat.Batch) bool {
	return w.over() == nil && w.start(items(b))
}

// start lets a goroutine hand a list over, unless somebody hands something over already.
func (w *trying) start(list []any) bool {
	if !w.tryLock() {
		return false
	}
	w.pump.Go(func() {
		defer w.unlock()
		_ = w.hand(list) // an error is that of the next Deliver
	})
	return true
}

func (w *trying) Deliver(b *chat.Batch) error {
	if w.lock.lock(w.pipe) {
		defer w.unlock()
	}
	return w.hand(items(b))
}

func (w *trying) wait() error { w.pump.Wait(); return nil }

func openTrying() (Ends, error) {
	w := newTrying(newPipe())
	return Ends{Transport: w, Peer: pipePeer{&Client{w.pipe}}, Close: w.wait}, nil
}

// TestTryDeliver shows that there is nothing to find where it is right.
func TestTryDeliver(t *testing.T) {
	t.Run("bubble", func(t *testing.T) { TestTransport(t, Connector{Open: openTrying, InFlight: 1 << 20, Bubble: true}) })
	t.Run("real time", func(t *testing.T) {
		if err := CheckTransport(Connector{Open: openTrying, InFlight: 1 << 20}, "T8"); err != nil {
			t.Error(err)
		}
	})
}

// TestTryDeliverIsOptional shows that a transport without it breaks no clause, and is ended like others.
func TestTryDeliverIsOptional(t *testing.T) {
	opened, closed := 0, 0
	err := CheckTransport(Connector{Open: func() (Ends, error) {
		opened++
		p := newPipe()
		return Ends{Transport: p, Peer: pipePeer{&Client{p}}, Close: func() error { <-p.closed; closed++; return nil }}, nil
	}}, "T8")
	if err != nil || opened == 0 || closed != opened {
		t.Errorf("%v, and %d of %d were closed", err, closed, opened)
	}
}

// tries makes trying transports whose TryDeliver is wrong.
func tries(wrong func(w *trying, b *chat.Batch) bool) func(p *pipe) chat.Transport {
	return func(p *pipe) chat.Transport { return wrongTry{newTrying(p), wrong} }
}

type wrongTry struct {
	*trying
	wrong func(w *trying, b *chat.Batch) bool
}

func (w wrongTry) TryDeliver(b *chat.Batch) bool { return w.wrong(w.trying, b) }

func tryThatWaits(w *trying, b *chat.Batch) bool { return w.Deliver(b) == nil }

func tryThatWaitsForClose(w *trying, b *chat.Batch) bool {
	if w.TryDeliver(b) {
		return true
	}
	<-w.closed
	return false
}

func tryHalf(w *trying, b *chat.Batch) bool {
	if half := items(b)[:(len(b.Replies())+len(b.Events()))/2]; len(half) > 0 {
		w.start(half)
		return false
	}
	return w.TryDeliver(b)
}

func tryAndDrop(w *trying, b *chat.Batch) bool {
	return w.over() == nil && w.start(slices.DeleteFunc(items(b), func(v any) bool {
		e, ok := v.(chat.Event)
		return ok && e.Meta().Pos.Seq%10 == 0
	}))
}

func tryInPieces(w *trying, b *chat.Batch) bool {
	if w.over() != nil || len(w.lock) > 0 {
		return false
	}
	w.pump.Go(func() {
		for _, v := range items(b) {
			if !w.lock.lock(w.pipe) {
				return
			}
			_ = w.hand([]any{v})
			w.unlock()
		}
	})
	return true
}

func tryBetween(w *trying, b *chat.Batch) bool {
	if w.over() != nil {
		return false
	}
	w.pump.Go(func() { _ = w.hand(items(b)) })
	return true
}

func tryRepliesLast(w *trying, b *chat.Batch) bool {
	return w.over() == nil && w.start(repliesLast()(items(b)))
}

func tryShouting(w *trying, b *chat.Batch) bool {
	list := items(b)
	shout(b.Events())
	return w.over() == nil && w.start(list)
}

func tryOrBreak(w *trying, b *chat.Batch) bool {
	ok := w.TryDeliver(b)
	if !ok {
		_ = w.pipe.Close(errors.New("buffer full"))
	}
	return ok
}

func tryClosed(w *trying, b *chat.Batch) bool { return w.start(items(b)) }

func tryClosedPanics(w *trying, b *chat.Batch) bool {
	select {
	case <-w.closed:
		panic("send on closed channel")
	default:
		return w.TryDeliver(b)
	}
}

func tryClosingPanics(w *trying, b *chat.Batch) bool {
	if w.over() != nil {
		return false
	}
	for range 1000 {
		runtime.Gosched()
	}
	return tryClosedPanics(w, b)
}

func tryOutlivesClose(w *trying, b *chat.Batch) bool {
	if w.over() != nil || !w.tryLock() {
		return false
	}
	w.pump.Go(func() {
		defer w.unlock()
		_ = w.handUntil(nil, items(b))
	})
	return true
}

// An endless transport has a TryDeliver that is never false, while Deliver is right.
type endless struct {
	*trying
	buffer *buffering
}

func newEndless(p *pipe) chat.Transport { return endless{newTrying(p), newBuffering(p, 0)} }

func (w endless) TryDeliver(b *chat.Batch) bool { return w.buffer.Deliver(b) == nil }
func (w endless) Close(cause error) error       { return w.buffer.Close(cause) }
func (w endless) peer(p Peer) Peer              { return w.buffer.peer(p) }
func (w endless) wait() error                   { return errors.Join(w.trying.wait(), w.buffer.wait()) }
