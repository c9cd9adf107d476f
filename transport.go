package chat

import "time"

// A Transport is one client's connection, as [Room.Serve] uses it. The clauses are the contract; TestTransport of package
// chattest holds a transport to them.
//
//   - T1 Receive and Deliver run at the same time as each other, never as themselves.
//   - T2 Close may come at any time, from anywhere, often, and returns at once; the other two then return an error soon.
//   - T3 The first cause counts and is what the client is told.
//   - T4 An error from Receive ends it: [io.EOF] is a peer that said goodbye, anything else is a peer that was lost.
//   - T5 Deliver's nil means taken over, not arrived. While a peer takes nothing Deliver waits: so it is the room that
//     sees how far behind the peer is. The batch is not kept; bytes from [Batch.Encoded] and [Batch.Roster] may be
//     kept, never changed. An error that is [ErrSlow], of Receive's as well, says that the peer took no bytes in time.
//   - T6 A malformed request is a [BadRequest], not an error, so that one bad frame need not end a connection.
//   - T7 Serve calls Close last, always, and waits for the other two.
//   - T8 A transport may have one more method, TryDeliver(b *Batch) bool: Deliver for who must not wait. It returns at
//     once: true means taken over, as Deliver's nil does; false that nothing of b was taken, where Deliver would wait or
//     fail. The batch is then given to Deliver. It never runs at the same time as Deliver or itself. A room without it
//     starts a goroutine for each client that something is due to; with it, only for those that are slow.
//
// There are no contexts: Close is what unblocks.
type Transport interface {
	Receive() (Request, error)
	Deliver(b *Batch) error
	Close(cause error) error
}

// A Request is what a client asks for. The set is closed:
//
//   - [LoginRequest], answered by [LoginReply]
//   - [SendRequest], answered by [SendReply]
//   - [LogoutRequest], answered by [SendReply], for it too puts an event into the log
//   - [SubscribeRequest], answered by [SubscribeReply]
//   - [BadRequest], answered by [ErrorReply], as every request may be
//
// Ref is the client's own mark for a request; its answer carries the same. A room does not look at it.
type Request interface{ request() }

// LoginRequest asks for a name, or to take up the session of Token if that is not empty, also where it is connected: the
// client may be faster than the room in noticing that its last connection is gone. Where the connection does not hear the
// room yet, it begins to with the login: by default right before its own [Joined] or [Resumed], else as Hear says; if
// Hear cannot be granted, nothing is done.
type LoginRequest struct {
	Ref, Name string
	Token     string
	Hear      SubscribeOptions // MaxUnread is the program's to say, and ignored here
}

// SendRequest says Text. ID is as in [SendOptions].
type SendRequest struct{ Ref, ID, Text string }

// LogoutRequest ends the session; the connection stays.
type LogoutRequest struct{ Ref string }

// SubscribeRequest asks to hear the room without being logged in, where [ServeOptions].Spectators allows it.
type SubscribeRequest struct {
	Ref  string
	Hear SubscribeOptions // MaxUnread is the program's to say, and ignored here
}

// BadRequest stands for what a transport could not read as a request. Err says why; it is wrapped in [ErrRequest]
// unless it has a [Code] of its own.
type BadRequest struct {
	Ref string
	Err error
}

func (LoginRequest) request()     {}
func (SendRequest) request()      {}
func (LogoutRequest) request()    {}
func (SubscribeRequest) request() {}
func (BadRequest) request()       {}

// A Reply is the answer to a [Request]. The set is closed:
//
//   - [LoginReply], [SendReply]: done, at a position
//   - [SubscribeReply]: done
//   - [ErrorReply]: refused
//
// A reply that carries position p is delivered before the event at p, and after no later one; but for the answer to a
// message that was sent before, whose event may be long delivered.
type Reply interface{ reply() }

// LoginReply says that the client is in, as User: the name in the form that others see. Its [Joined], or [Resumed],
// stands at Pos. Token is for another [LoginRequest], should the connection be lost.
type LoginReply struct {
	Ref   string
	User  User
	Pos   Position
	Token string
	Start *Start // where hearing begins; nil if the connection heard the room already
}

// SendReply says that the message is in the log; or, with no ID in the receipt, that the session has ended, with its
// [Left] there.
type SendReply struct {
	Ref     string
	Receipt Receipt
}

// SubscribeReply says where hearing begins.
type SubscribeReply struct {
	Ref   string
	Start Start
}

// ErrorReply says that the request was refused, and had no effect unless Err is [ErrUnknown]. Err is one that [Code]
// knows, or [ErrConflict]'s like of a log, as "internal".
type ErrorReply struct {
	Ref string
	Err error
}

func (LoginReply) reply()     {}
func (SendReply) reply()      {}
func (SubscribeReply) reply() {}
func (ErrorReply) reply()     {}

// A Format is a wire form of events: the package that speaks it has one variable for it, whose identity is the key
// under which a room keeps what it encoded. Units of one format may be put end to end and are still valid on that wire.
//
// A room calls the functions one at a time while other deliveries of the same format wait for the result. They must
// depend on their arguments alone and call nothing of the room or the batch.
type Format struct {
	// Append appends e to dst as one or more complete wire units, headers included.
	Append func(dst []byte, e Event) []byte

	// Roster appends the list of users as of a position to dst, as a wire unit. nil: this form has none.
	Roster func(dst []byte, at Position, users []User) []byte
}

// A Batch is what is due to a client at one time: replies to its own requests, then a run of events, in order and
// without a gap. It is valid during the Deliver call.
type Batch struct {
	room    *Room
	replies []Reply
	first   uint64 // the index of events[0]
	events  []Event
	base    uint64 // where the room's window began
	page    int64  // of events

	format *Format // of what Encoded returned last
	units  []byte  // and that

	moves bool   // an event of events changes the list; the fields below are for that
	seats []seat // the roster after later
	later []Event
	slots []slot // of later
}

// batch makes a batch of replies and the events [from, to). The room's mutex is held.
func (r *Room) batch(replies []Reply, from, to uint64) *Batch {
	w := &r.window
	b := &Batch{room: r, replies: replies, first: from, base: w.base}
	if to > from {
		i, j, n := from-w.base, to-w.base, uint64(len(w.events))
		b.events, b.page = w.events[i:j:j], page(w.slots[i].end)
		if b.moves = changesRoster(b.events); b.moves {
			b.later, b.slots = w.events[j:n:n], w.slots[j:n:n]
			b.seats = r.fold.share()
		}
	}
	return b
}

// is reports whether b holds the events [from, to) and nothing else.
func (b *Batch) is(from, to uint64) bool {
	return b != nil && len(b.replies) == 0 && b.first == from && b.first+uint64(len(b.events)) == to
}

// Replies returns the answers to the client's own requests, in order. They come before the events.
func (b *Batch) Replies() []Reply { return b.replies }

// Events returns the run of events. It is shared: read-only.
func (b *Batch) Events() []Event { return b.events }

// Encoded returns the run of events in format f, encoded once for all who get it; nil if there are no events. The bytes
// are shared: they may be kept, never changed.
func (b *Batch) Encoded(f *Format) []byte {
	if len(b.events) > 0 && b.format != f {
		b.format, b.units = f, b.room.encoding(f).units(b.base, b.page, b.first, b.events)
	}
	return b.units
}

// Roster returns the list of users as of the run's last event in format f, encoded once for all who get it at about the
// same time: those of the last eight positions that were asked for are remembered. It is nil if no event of the run
// changed the list, or f has no Roster. The bytes are shared: they may be kept, never changed.
func (b *Batch) Roster(f *Format) []byte {
	if f.Roster == nil || !b.moves {
		return nil
	}
	at := b.events[len(b.events)-1].Meta().Pos
	return b.room.encoding(f).list(at, func() []User { return users(rewind(b.seats, b.later, b.slots)) })
}

func changesRoster(events []Event) bool {
	for _, e := range events {
		switch e.(type) {
		case Joined, Left:
			return true
		}
	}
	return false
}

// A bucket meters a client's requests (promise 13): rate a second, and a burst of twice as many.
type bucket struct {
	rate   int
	tokens float64
	last   time.Time
}

// take reports whether a request may pass at now, and if not, how long until one may.
func (b *bucket) take(now time.Time) (wait time.Duration, ok bool) {
	burst := 2 * float64(b.rate)
	if b.last.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.last).Seconds()*float64(b.rate))
	}
	b.last = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / float64(b.rate) * float64(time.Second)), false
	}
	b.tokens--
	return 0, true
}
