package chat

import (
	"context"
	"errors"
)

// A Subscription is a program's reader of a room: a channel of events from a known start. Its methods may be called from
// any goroutine.
type Subscription struct {
	room   *Room
	cursor cursor
	start  Start
	events chan Event
	quit   chan struct{} // closed when another has ended the cursor
	done   chan struct{} // closed after events
	sent   Position      // of the last event put into the channel; whoever puts it
	err    error         // guarded by the room's mutex; set before events is closed
}

// SubscribeOptions says where hearing begins. The zero value means: with the next event.
type SubscribeOptions struct {
	// After is a kept position: the subscription delivers exactly what follows it. Zero means not given.
	After Position

	// Last asks for that many events before the next one, or as many as the window holds. It counts where After is not
	// given or not kept. Zero means none.
	Last int

	// Fresh asks for a fresh start, as if After had not been given, where what follows After is not all there. Otherwise
	// that is an error.
	Fresh bool

	// MaxUnread is how many bytes of events the reader may fall behind before it is ended with a [SlowError]. What was
	// there when it began does not count. Zero means 1 MiB, negative as far as the room's window goes.
	MaxUnread int
}

// Start is where a subscription begins.
type Start struct {
	// At is the position before the first event that is delivered.
	At Position

	// Roster is who was in at At, in the order of joining. After an exact resume it is nil: the reader kept its own.
	Roster []User

	// Resumed means that exactly what follows SubscribeOptions.After comes. Where After was given and Resumed is false,
	// there may be a gap before At.
	Resumed bool
}

// Subscribe begins to read the room: from the roster and position of [Subscription.Start], taken as one, the channel
// goes on without a gap. ctx bounds the call, not the subscription. If SubscribeOptions.After stands in the log and this
// room has not read so far yet, Subscribe waits until it has.
//
// Errors: [ErrTrimmed], [ErrEpoch], [ErrAhead] for SubscribeOptions.After; [ErrUnknown] if the log, or the end of ctx, leaves
// open which; [ErrSubscribers] in a [LimitError]; [ErrClosed]; ctx.Err() if ctx had ended before.
func (r *Room) Subscribe(ctx context.Context, o *SubscribeOptions) (*Subscription, error) {
	var opts SubscribeOptions
	if o != nil {
		opts = *o
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.reach(ctx, opts.After); err != nil {
		return nil, r.refused(err)
	}
	s := &Subscription{room: r, events: make(chan Event, 32), quit: make(chan struct{}), done: make(chan struct{})}
	s.cursor.bound = int64(limit(opts.MaxUnread, defaultUnread))
	s.cursor.reader = s

	r.mu.Lock()
	start, err := r.subscribe(s, opts)
	r.mu.Unlock()
	if err != nil {
		return nil, r.refused(err)
	}
	s.start = start()
	return s, nil
}

// defaultUnread is how many bytes a reader may be behind.
const defaultUnread = 1 << 20

// errUnsubscribed ends a cursor because its owner wants no more.
var errUnsubscribed = errors.New("chat: unsubscribed")

func (r *Room) subscribe(s *Subscription, opts SubscribeOptions) (func() Start, error) {
	if err := r.refusal(); err != nil {
		return nil, err
	}
	at, resumed, err := r.locate(opts)
	if err == nil {
		err = r.reserve(&s.cursor)
	}
	if err != nil {
		return nil, err
	}
	defer r.unreserve(&s.cursor)
	r.attach(&s.cursor)
	start := r.begin(&s.cursor, at, resumed)
	s.sent = s.cursor.done.pos
	r.wg.Add(1)
	return start, nil
}

// locate returns the index of the first event that opts asks for, or refuses (promise 10). The room's mutex is held.
func (r *Room) locate(opts SubscribeOptions) (at uint64, resumed bool, err error) {
	w := &r.window
	if !opts.After.IsZero() {
		at, err = w.find(opts.After)
		if err == nil {
			return at, true, nil
		}
		if !opts.Fresh {
			return 0, false, err
		}
	}
	return w.head() - uint64(min(max(opts.Last, 0), len(w.events))), false, nil
}

// begin lets c hear from index at, and returns what makes the Start: outside of the mutex, for it may be long. If the
// window has moved past at, c ends as too slow. The room's mutex is held.
func (r *Room) begin(c *cursor, at uint64, resumed bool) func() Start {
	r.hear(c, at)
	s := Start{At: c.done.pos, Resumed: resumed}
	if resumed {
		return func() Start { return s }
	}
	w := &r.window
	i, n := max(at, w.base)-w.base, len(w.events)
	seats, events, slots := r.fold.share(), w.events[i:n:n], w.slots[i:n:n]
	return func() Start {
		s.Roster = users(rewind(seats, events, slots))
		return s
	}
}

// try puts events into the channel if there is room for them.
func (s *Subscription) try(b *Batch) bool {
	if len(b.events) > cap(s.events)-len(s.events) {
		return false
	}
	for _, e := range b.events { // all of them, even if quit is closed meanwhile
		s.events <- e
		s.sent = e.Meta().Pos
	}
	return true
}

func (s *Subscription) deliver(b *Batch) error {
	for _, e := range b.events {
		select {
		case s.events <- e:
			s.sent = e.Meta().Pos
		case <-s.quit:
			return s.cursor.err
		}
	}
	return nil
}

func (s *Subscription) interrupt(error) { close(s.quit) }

func (s *Subscription) end(err error) {
	r := s.room
	r.mu.Lock()
	r.detach(&s.cursor)
	r.change()
	if err != errUnsubscribed {
		s.err = slowAt(err, s.sent)
	}
	r.mu.Unlock()
	close(s.events)
	close(s.done)
	r.wg.Done()
}

// slowAt makes a SlowError tell the exact position.
func slowAt(err error, last Position) error {
	if slow, ok := err.(SlowError); ok {
		slow.Pos = last
		return slow
	}
	return err
}

// Start returns where the subscription began.
func (s *Subscription) Start() Start { return s.start }

// Events returns the channel of events, in the room's order, each once. The room closes it at the end; then ask Err.
func (s *Subscription) Events() <-chan Event { return s.events }

// Err returns why the channel was closed, and nil before that and after Close: a [SlowError], [ErrClosed], or what the
// room's log ended with.
func (s *Subscription) Err() error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.err
}

// Close ends the subscription and waits until its channel is closed. Twice is harmless.
func (s *Subscription) Close() {
	s.room.mu.Lock()
	s.room.end(&s.cursor, errUnsubscribed)
	s.room.mu.Unlock()
	<-s.done
}
