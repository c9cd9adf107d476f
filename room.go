package chat

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Room is one chat room: a log of events, and all who read it. Its methods may be called from any goroutine.
type Room struct {
	opts     RoomOptions
	log      Log
	instance string             // this room value's own name, in the records of its sessions
	ctx      context.Context    // ends with the room; bounds what the room does by itself
	cancel   context.CancelFunc // of ctx
	unfold   func()             // stops following the log
	wg       sync.WaitGroup     // the room's goroutines, and the calls of Serve: what Close waits for
	gone     chan struct{}      // closed when Close is done

	mu        sync.Mutex // guards the fields below, and those of sessions and cursors
	closing   bool       // newcomers are refused
	closed    bool       // Close was called
	handOver  bool       // sessions with a linger are left for another node
	dead      bool       // no goroutine is started any more
	failed    error      // why the log ended, if it did
	fold      fold
	window    window
	encodings map[*Format]*encoding
	sessions  map[string]*Session // those of this room value that have not left, by id
	calls     map[string]*call    // appends under way, by Entry.ID
	inquiries map[string]bool     // nodes whose death is being looked into
	joining   int                 // how many of calls are logins
	conns     map[*conn]struct{}
	anonymous int            // how many of conns are not logged in
	sources   map[string]int // how many connections each has
	cursors   []*cursor
	hearers   int // how many of cursors hear
	sweeping
	settled chan struct{} // made when somebody waits for calls, sessions or cursors to go; closed at each such change
	stats   counters
}

// RoomOptions configures [NewRoom]. The zero value is ready for use. In a limit, zero means the default and negative
// means none; the table in the package documentation lists them all.
type RoomOptions struct {
	// Log is where the room's events stand. nil means a [MemoryLog] of the room's own. The room does not close it.
	Log Log

	// Node makes the room end, or take in, the sessions of other nodes that have died. nil: only this room value ends its
	// sessions, and those that it leaves behind stay in the log's roster for ever.
	Node *Node

	// Names decides which names are allowed and which are the same. nil means [Nickname].
	Names NamePolicy

	// MaxName is the longest name, in bytes of UTF-8, as asked for and again as shown. Zero means 64. It is at most
	// 512, which is also what the key may have that names are compared under: a log takes no more.
	MaxName int

	// MaxText is the longest message, in bytes of UTF-8. Zero means 4096. Longer ones are refused, never cut.
	MaxText int

	// MaxMembers is how many may be logged in. Zero means 10,000. Where several nodes share a log, each counts what it
	// has read, so logins at the same instant may pass it by a few.
	MaxMembers int

	// MaxSubscribers is how many may hear the room at a time, connections included. Zero means 20,000.
	MaxSubscribers int

	// MaxPerSource is how many connections one source may have, see [Room.Admit]. Zero means 100.
	MaxPerSource int

	// MaxAnonymous is how many connections may be open that are not logged in. Zero means 5,000.
	MaxAnonymous int

	// Window is how many bytes of recent events the room keeps for its readers: where a subscription may start, and how
	// far behind anybody can be. An event counts as its record in the log. Zero means 4 MiB; negative is an error.
	Window int

	// Logger is told of what no caller is told: ends for slowness, a log that fails. nil: silent.
	Logger *slog.Logger
}

// openTimeout bounds the opening of a room, closeTimeout the ends that Close writes.
const (
	openTimeout  = 10 * time.Second
	closeTimeout = time.Second
)

// NewRoom opens a room on its log: it reads what the log holds and follows it from there. With nil options it has the
// defaults and a log of its own. It fails if the log cannot be read within 10 s: with the log's error, a [RecordError]
// for a record that it does not understand, or an error of the options.
func NewRoom(o *RoomOptions) (*Room, error) {
	var opts RoomOptions
	if o != nil {
		opts = *o
	}
	if opts.Window < 0 {
		return nil, errors.New("chat: RoomOptions.Window is negative")
	}
	if opts.MaxName > maxEntryKey {
		return nil, errors.New("chat: RoomOptions.MaxName is over 512")
	}
	if opts.Log == nil {
		opts.Log = NewMemoryLog(nil)
	}
	if opts.Names == nil {
		opts.Names = Nickname
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.MaxName = min(limit(opts.MaxName, 64), maxEntryKey)
	opts.MaxText = limit(opts.MaxText, 4096)
	opts.MaxMembers = limit(opts.MaxMembers, 10_000)
	opts.MaxSubscribers = limit(opts.MaxSubscribers, 20_000)
	opts.MaxPerSource = limit(opts.MaxPerSource, 100)
	opts.MaxAnonymous = limit(opts.MaxAnonymous, 5_000)
	opts.Window = limit(opts.Window, 4<<20)

	r := &Room{
		opts:      opts,
		log:       opts.Log,
		instance:  rand.Text(),
		gone:      make(chan struct{}),
		encodings: make(map[*Format]*encoding),
		sessions:  make(map[string]*Session),
		calls:     make(map[string]*call),
		inquiries: make(map[string]bool),
		conns:     make(map[*conn]struct{}),
		sources:   make(map[string]int),
		stats:     counters{refused: make(map[string]uint64)},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(r.ctx, openTimeout)
	defer cancel()
	if err := r.open(ctx); err != nil {
		r.cancel()
		return nil, fmt.Errorf("chat: opening the room's log: %w", err)
	}
	if r.opts.Node != nil {
		r.opts.Node.enter(r)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.fold.members {
		r.check(m)
	}
	return r, nil
}

// open reads the log and follows it. If the log is trimmed meanwhile, past what open has read, it begins anew.
func (r *Room) open(ctx context.Context) error {
	for {
		err := r.read(ctx)
		if !errors.Is(err, ErrTrimmed) || ctx.Err() != nil {
			return err
		}
	}
}

func (r *Room) read(ctx context.Context) error {
	snap, err := r.log.Snapshot(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock() // not that anybody else has the room yet; but the log called apply at the last try
	r.fold = newFold()
	for _, rec := range snap.Records {
		if err = r.fold.load(rec); err != nil {
			break
		}
	}
	r.window = window{max: int64(r.opts.Window), prev: snap.First}
	r.stats.events, r.failed = 0, nil
	r.mu.Unlock()
	if err != nil {
		return err
	}
	after := snap.First
	for {
		recs, err := r.log.Read(ctx, after, 1000)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			break
		}
		for _, rec := range recs {
			if err := r.add(rec, rec.Pos.Seq > snap.At.Seq); err != nil {
				return err
			}
		}
		after = recs[len(recs)-1].Pos
	}
	if r.unfold, err = r.log.Follow(after, r.apply); err != nil {
		return err
	}
	r.mu.Lock()
	err = r.failed
	r.mu.Unlock()
	if err != nil {
		r.unfold()
	}
	return err
}

// add puts a record into the window, and into the fold if it is news to it. The room's mutex is held, or the room is
// not open yet.
func (r *Room) add(rec Record, news bool) error {
	b, err := decode(rec)
	if err != nil {
		return err
	}
	if news {
		err = r.fold.apply(rec, b)
	} else {
		r.fold.recall(rec, b)
	}
	if err != nil {
		return err
	}
	r.window.add(event(rec, b, r.window.last()), size(rec), joinSeq(rec, b))
	r.stats.events++
	if s := r.sessions[b.session]; s != nil {
		s.applied(rec, b)
	}
	return nil
}

// apply is what the log calls with each new record, perhaps with its own lock held. Everything that must be one step is
// here: the fold, the window, and the replies of the calls that wait for the record (promises 1 and 2).
func (r *Room) apply(recs []Record, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return
	}
	for _, rec := range recs {
		if err = r.add(rec, true); err != nil {
			break
		}
		if c := r.calls[rec.ID]; c != nil && !c.applied {
			c.applied, c.pos = true, rec.Pos
			if c.then != nil {
				c.then(rec.Pos, r.window.head()-1)
			}
		}
		if m := r.fold.members[rec.Key]; m != nil {
			r.check(m)
		}
	}
	if err != nil {
		r.fail(err)
	}
	r.change()
	r.rouse()
}

// fail ends all readers because the log has ended. The room's mutex is held.
func (r *Room) fail(err error) {
	r.failed = err
	r.goLocked(func() { r.opts.Logger.Error("chat: the room's log has ended", "err", err) })
	for _, c := range r.cursors {
		r.end(c, err)
	}
	for _, s := range r.sessions {
		s.finish(err)
	}
	r.change()
}

// A call is an append under way.
type call struct {
	then    func(pos Position, at uint64) // run when the event stands at index at of the window, with the mutex held
	applied bool
	pos     Position
}

// enroll announces an append, so that Shutdown waits for it and apply finds it. then, which may be nil, runs in the same
// step as the fold when the record is new. The room's mutex is held: in the same step, the caller has seen that the
// room takes it.
func (r *Room) enroll(id string, then func(pos Position, at uint64)) *call {
	c := &call{then: then}
	r.calls[id] = c
	return c
}

// append puts e, which was enrolled as c, into the log and returns its position. An error is as in clause A5; where the
// record was seen in spite of an error there is none.
func (r *Room) append(ctx context.Context, e Entry, c *call) (pos Position, isNew bool, err error) {
	rec, err := r.log.Append(ctx, e)

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[e.ID] == c {
		delete(r.calls, e.ID)
		r.change()
	}
	if c.applied {
		return c.pos, true, nil
	}
	return rec.Pos, false, err
}

// refusal says why the room takes nothing new, if it does not. The room's mutex is held.
func (r *Room) refusal() error {
	switch {
	case r.failed != nil:
		return r.failed
	case r.closing:
		return ErrClosed
	}
	return nil
}

// refused counts err as a refusal and returns it. The room's mutex is not held.
func (r *Room) refused(err error) error {
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stats.refused[Code(err)]++
	}
	return err
}

// encoding returns the room's memory of what f made.
func (r *Room) encoding(f *Format) *encoding {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.encodings[f]
	if e == nil {
		e = &encoding{format: f}
		r.encodings[f] = e
	}
	return e
}

// goLocked runs f in a goroutine that Close waits for. Where the room is dead it does not. The room's mutex is held.
func (r *Room) goLocked(f func()) {
	if r.dead {
		return
	}
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		f()
	}()
}

// change tells those who wait in until. The room's mutex is held.
func (r *Room) change() {
	if r.settled != nil {
		close(r.settled)
		r.settled = nil
	}
}

// until waits for cond, which is called with the mutex held.
func (r *Room) until(ctx context.Context, cond func() bool) error {
	for {
		r.mu.Lock()
		if cond() {
			r.mu.Unlock()
			return nil
		}
		if r.settled == nil {
			r.settled = make(chan struct{})
		}
		settled := r.settled
		r.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seen is until for what a call must see before it can go on; where ctx ends first its outcome is unknown.
func (r *Room) seen(ctx context.Context, cond func() bool) error {
	if err := r.until(ctx, cond); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return nil
}

// catchUp waits until the room has read what stood in the log when it was called, so that what it does not know of is not
// there. An error is an ErrUnknown, or why the room takes nothing.
func (r *Room) catchUp(ctx context.Context) error {
	r.mu.Lock()
	last := r.window.last()
	r.mu.Unlock()
	recs, err := r.log.Read(ctx, last, 1)
	if err == nil && len(recs) == 0 {
		return nil
	}
	var now Snapshot
	if err == nil || errors.Is(err, ErrTrimmed) {
		now, err = r.log.Snapshot(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return r.readUpTo(ctx, now.At)
}

// readUpTo waits until the room has read a position that stands in the log.
func (r *Room) readUpTo(ctx context.Context, p Position) error {
	var refusal error
	if err := r.seen(ctx, func() bool {
		refusal = r.refusal()
		return r.window.last().Seq >= p.Seq || refusal != nil
	}); err != nil {
		return err
	}
	return refusal
}

// reach waits until the room has read up to a position that somebody asks for, if the log has it.
func (r *Room) reach(ctx context.Context, p Position) error {
	r.mu.Lock()
	_, err := r.window.find(p)
	r.mu.Unlock()
	if p.IsZero() || !errors.Is(err, ErrAhead) {
		return nil
	}
	switch _, err := r.log.Read(ctx, p, 1); {
	case errors.Is(err, ErrAhead), errors.Is(err, ErrEpoch):
		return nil // the window says the same
	case err != nil && !errors.Is(err, ErrTrimmed):
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return r.readUpTo(ctx, p)
}

// Members returns the roster as of now, in the order of joining, in a slice of the caller's.
func (r *Room) Members() []User {
	r.mu.Lock()
	seats := r.fold.share()
	r.mu.Unlock()
	return users(seats)
}

// Kick ends the session of the member of that name, compared as logins compare them, wherever it is connected. Its
// [Left] has the [Reason] Kicked and note, at most 256 bytes of which are kept; its connection, if a room of this
// process serves it, is closed with a [KickedError]. A nil error means that the Left is in the log. If the session was
// leaving already, its Left has the reason that came first, and its connection is not closed.
//
// Errors: [ErrName] or what else the policy says, [ErrNotMember], [ErrClosed], [ErrUnknown], and those of the log.
func (r *Room) Kick(ctx context.Context, name, note string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, key, err := r.name(name)
	if err != nil {
		return r.refused(err)
	}
	note = cut(note, 256)
	if err := r.catchUp(ctx); err != nil { // else it might be a session that has left, and not the one that has the name now
		return r.refused(err)
	}
	for {
		r.mu.Lock()
		m := r.fold.members[key]
		if err = r.refusal(); err == nil && m == nil {
			err = ErrNotMember
		}
		if err != nil {
			r.mu.Unlock()
			return r.refused(err)
		}
		if s := r.sessions[m.session]; s != nil {
			l := r.leave(s, Kicked, note, nil)
			r.mu.Unlock()
			if err := l.wait(ctx); !errors.Is(err, ErrTakenOver) {
				return err
			}
			continue
		}
		e := leftEntry(key, m.last, m.session, m.user, m.join, Kicked, note)
		c := r.enroll(e.ID, nil)
		r.mu.Unlock()
		_, _, err = r.append(ctx, e, c)
		if !errors.Is(err, ErrConflict) {
			return r.refused(err)
		}
		// The member has resumed or left since; look again once this room has seen that.
		if err := r.seen(ctx, func() bool {
			n := r.fold.members[key]
			return n != m || n.last != e.Guard.Seq || r.refusal() != nil
		}); err != nil {
			return err
		}
	}
}

// ShutdownOptions configures [Room.Shutdown].
type ShutdownOptions struct {
	// RetryAfter is how long clients are told to wait before they come back. Zero means 1 s.
	RetryAfter time.Duration

	// Spread adds to each client's RetryAfter a part of it drawn at random, so that they do not all come back at once.
	Spread time.Duration

	// HandOver leaves the sessions that linger in the room, for other nodes to resume, instead of ending them. Others adopt
	// them as away when this room's [Node] is closed; until then, and without a Node for ever, they count as connected.
	HandOver bool
}

// Shutdown ends the room in order: it refuses newcomers and new messages, lets what was accepted reach every connection,
// ends each session with a [Left] or hands it over, ends each connection with a [ShutdownError], lets subscriptions be
// read to their end, and then closes the room. If ctx ends first it closes the room at once and returns ctx.Err().
func (r *Room) Shutdown(ctx context.Context, o *ShutdownOptions) error {
	var opts ShutdownOptions
	if o != nil {
		opts = *o
	}
	if opts.RetryAfter == 0 {
		opts.RetryAfter = time.Second
	}
	r.mu.Lock()
	r.closing, r.handOver = true, opts.HandOver
	r.change()
	r.mu.Unlock()
	err := r.until(ctx, func() bool { return len(r.calls) == 0 })
	if err == nil {
		r.mu.Lock()
		for c := range r.conns {
			after := opts.RetryAfter
			if opts.Spread > 0 {
				after += mathrand.N(opts.Spread)
			}
			r.stopAt(&c.cursor, r.window.head(), ShutdownError{after})
		}
		r.endSessions()
		r.rouse()
		r.mu.Unlock()
		err = r.until(ctx, func() bool { return len(r.sessions) == 0 && len(r.conns) == 0 })
	}
	if err == nil {
		r.mu.Lock()
		for _, c := range r.cursors {
			r.stopAt(c, r.window.head(), ErrClosed)
		}
		r.rouse()
		r.mu.Unlock()
		err = r.until(ctx, func() bool { return len(r.cursors) == 0 })
	}
	r.Close()
	return err
}

// endSessions ends those of this room, in the order of joining (promise 12). Those that are another node's to end, or handed over,
// are only let go. The room's mutex is held.
func (r *Room) endSessions() {
	list := make([]*Session, 0, len(r.sessions))
	for _, s := range r.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Session) int { return cmp.Compare(a.join, b.join) })
	for _, s := range list {
		r.endSession(s)
	}
}

func (r *Room) endSession(s *Session) {
	switch {
	case s.leaving != nil: // under way
	case s.adopted, r.handOver && s.linger > 0 && s.join > 0:
		s.finish(ErrClosed)
	default:
		r.leave(s, Shutdown, "", nil)
	}
}

// handsOver reports whether the room leaves a session that has joined to other nodes, should it end now.
func (r *Room) handsOver(s *Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handOver && s.linger > 0
}

// stopAt ends c with err when it has read up to index at. The room's mutex is held.
func (r *Room) stopAt(c *cursor, at uint64, err error) {
	if c.hearing {
		at = min(at, c.stop)
	} else {
		c.next = at
	}
	c.stop, c.stopErr = at, err
	r.urge(c)
}

// Close ends the room now: sessions end with a [Left], for which it tries at most 1 s in all, connections and
// subscriptions end with [ErrClosed]. When it returns, no goroutine of the room is left: so it is not for a [Transport], a
// [NamePolicy] or a [Format] to call. Twice is harmless, from several goroutines as well. The error is nil.
func (r *Room) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.gone
		return nil
	}
	r.closed, r.closing = true, true
	r.change()
	r.endSessions()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if r.until(ctx, func() bool { return len(r.sessions) == 0 }) != nil {
		r.opts.Logger.Warn("chat: closed before the log took each session's end")
	}

	r.mu.Lock()
	for _, c := range r.cursors {
		r.end(c, ErrClosed)
	}
	for _, s := range r.sessions {
		s.finish(ErrClosed)
	}
	r.dead = true
	r.mu.Unlock()
	r.cancel()
	r.unfold()
	if r.opts.Node != nil {
		r.opts.Node.leave(r)
	}
	r.wg.Wait()
	close(r.gone)
	return nil
}

// Stats returns plain counters of the room's life.
func (r *Room) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{
		Members:     len(r.fold.members),
		Subscribers: r.hearers,
		Connections: len(r.conns),
		Events:      r.stats.events,
		Slow:        r.stats.slow,
		Refused:     make(map[string]uint64, len(r.stats.refused)),
	}
	for code, n := range r.stats.refused {
		s.Refused[code] = n
	}
	return s
}

// Stats are what [Room.Stats] returns.
type Stats struct {
	Members     int               // logged in now, on all nodes
	Subscribers int               // hearing now, connections included
	Connections int               // served now
	Events      uint64            // read from the log since the room was opened, including what it held then
	Slow        uint64            // subscribers ended for slowness
	Refused     map[string]uint64 // refusals, by the Code of their error
}

type counters struct {
	events, slow uint64
	refused      map[string]uint64
}
