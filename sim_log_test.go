package chat_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/chat"
)

// A simStore is one log of the simulation: a MemoryLog that only the simulation's own goroutine appends to, one entry at a
// time. Rooms and nodes reach it by handles, where their calls wait until the simulation has decided what becomes of
// them. So the order of all that happens is the simulation's.
type simStore struct {
	sim     *sim
	name    string
	mem     *chat.MemoryLog
	handles []*simLog
	late    []*simCall // entries that nobody waits for any more, and that may yet land
	by      *simLog    // who appends just now
}

// A simLog is one process's handle on a store. It keeps the clauses of [chat.Log], whatever becomes of its calls.
type simLog struct {
	store *simStore
	label string
	mood  mood
	state handleState
	first uint64 // what was trimmed when its room opened

	mu    sync.Mutex
	calls []*simCall // those that wait for an answer
	tail  *simTail
}

type handleState int

const (
	up     handleState = iota
	paused             // calls wait until it goes on, the tail stands still
	dead               // it answers nothing any more
)

// A mood is how a handle behaves: how long things take at most, and how often out of 100 an outcome is unknown.
type mood struct {
	name               string
	land, answer, tail time.Duration
	landsUnknown       int // it lands, and the answer is "unknown"
	lostUnknown        int // the answer is "unknown", and it never lands
	lateUnknown        int // the answer is "unknown", and it lands later
	full               int // ErrFull
}

// A log remembers IDs for 30 s (clause A1). A room may be behind by 12 s, so that it does not know that an entry of its own
// has landed, try it again, and have it under way for 10 s; then maxLate is how long it may take to land when nobody waits
// for it any more. Together that is less.
const maxLate = 6 * time.Second

var moods = []mood{
	{name: "calm"},
	{name: "slow", land: 800 * time.Millisecond, answer: 800 * time.Millisecond},
	{name: "shown early", land: 100 * time.Millisecond, answer: 3 * time.Second},
	{name: "lagging", tail: 4 * time.Second},
	{name: "far behind", tail: 12 * time.Second, land: 20 * time.Millisecond},
	{name: "flaky", land: 50 * time.Millisecond, answer: 50 * time.Millisecond, landsUnknown: 20, lostUnknown: 15, lateUnknown: 20},
	{name: "awful", land: 2 * time.Second, answer: time.Second, tail: time.Second, landsUnknown: 15, lostUnknown: 15, lateUnknown: 15, full: 10},
	{name: "out of reach", land: 10 * time.Second, answer: 12 * time.Second, lateUnknown: 30},
}

// A simCall is a call of a handle.
type simCall struct {
	log    *simLog
	kind   string
	name   string     // of whom it is, for order and trace
	entry  chat.Entry // of an append
	read   func()     // of any other call: does it
	done   chan struct{}
	rec    chat.Record
	err    error
	at     time.Duration // when the next thing happens to it
	answer time.Duration // and how long after that it is answered
	order  int           // among those of one time
	fate   fate
	landed bool
	gone   bool // nobody waits for it; guarded by log.mu
}

// A simTail is the follower of a handle, behind by what is in queue.
type simTail struct {
	mu    sync.Mutex
	apply func([]chat.Record, error)
	ended bool
	queue []shown
}

type shown struct {
	rec chat.Record
	at  time.Duration
}

func (s *sim) newStore(name string, keep int) *simStore {
	return &simStore{sim: s, name: name, mem: chat.NewMemoryLog(&chat.MemoryLogOptions{MaxRecords: keep})}
}

func (st *simStore) handle(label string) *simLog {
	l := &simLog{store: st, label: label, mood: moods[0]}
	st.handles = append(st.handles, l)
	return l
}

func (st *simStore) snapshot() chat.Snapshot {
	snap, err := st.mem.Snapshot(context.Background())
	if err != nil {
		st.sim.failf("snapshot: %v", err)
	}
	return snap
}

// Append waits until the simulation has an answer, or ctx ends.
func (l *simLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	e.Data = bytes.Clone(e.Data)
	c := &simCall{log: l, kind: "append", entry: e, done: make(chan struct{})}
	if err := l.call(ctx, c); err != nil {
		return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, err)
	}
	return c.rec, c.err
}

func (l *simLog) Snapshot(ctx context.Context) (s chat.Snapshot, err error) {
	c := &simCall{log: l, kind: "snapshot", done: make(chan struct{})}
	c.read = func() { s, err = l.store.mem.Snapshot(context.Background()) }
	if ended := l.call(ctx, c); ended != nil {
		return chat.Snapshot{}, ended
	}
	return s, err
}

func (l *simLog) Read(ctx context.Context, after chat.Position, max int) (recs []chat.Record, err error) {
	c := &simCall{log: l, kind: "read", done: make(chan struct{})}
	c.read = func() { recs, err = l.store.mem.Read(context.Background(), after, max) }
	if ended := l.call(ctx, c); ended != nil {
		return nil, ended
	}
	return recs, err
}

// call hands c to the simulation.
func (l *simLog) call(ctx context.Context, c *simCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	l.calls = append(l.calls, c)
	l.mu.Unlock()
	l.store.sim.ring()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		c.gone = true
		return ctx.Err()
	}
}

func (l *simLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	t := &simTail{apply: apply}
	first := true
	t.mu.Lock()
	stop, err := l.store.mem.Follow(after, func(recs []chat.Record, err error) {
		if first { // what is there already
			apply(recs, err)
			return
		}
		l.show(t, recs)
	})
	first = false
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.tail = t
	l.mu.Unlock()
	return func() {
		stop()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended = true
	}, nil
}

// show puts records into the queue of a tail. The simulation's goroutine has just appended them.
func (l *simLog) show(t *simTail, recs []chat.Record) {
	s := l.store.sim
	if l.state == dead {
		return
	}
	for _, rec := range recs {
		at := s.now() + s.upTo(l.mood.tail)
		if n := len(t.queue); n > 0 {
			at = max(at, t.queue[n-1].at)
		}
		t.queue = append(t.queue, shown{rec, at})
	}
}

// give hands the tail what is in its queue up to a time or a position.
func (l *simLog) give(until time.Duration, seq uint64) bool {
	l.mu.Lock()
	t := l.tail
	l.mu.Unlock()
	if t == nil || l.state == dead {
		return false
	}
	n := 0
	for n < len(t.queue) && (t.queue[n].at <= until || t.queue[n].rec.Pos.Seq <= seq) {
		n++
	}
	if n == 0 {
		return false
	}
	recs := make([]chat.Record, n)
	for i := range recs {
		recs[i] = t.queue[i].rec
	}
	t.queue = t.queue[n:]
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.apply(recs, nil)
	}
	clear(recs) // clause F2
	return true
}

// hurry makes all that is under way on a calm handle happen now.
func (l *simLog) hurry() {
	now := l.store.sim.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		c.at, c.answer = min(c.at, now), 0
	}
	if l.tail != nil {
		for i := range l.tail.queue {
			l.tail.queue[i].at = min(l.tail.queue[i].at, now)
		}
	}
}

// wake lets a handle go on that was paused. What it had under way is lost, as with a connection that has timed out.
func (l *simLog) wake() {
	l.state = up
	for _, c := range l.waiting() {
		if c.kind == "append" && !c.landed {
			c.fate = lostUnknown
		}
	}
}

// label numbers random IDs in the order of their coming.
func (st *simStore) label(id string) string { return fmt.Sprint(st.name[:1], st.sim.label(id)) }

// kill ends the handle. What it had under way may land.
func (l *simLog) kill() {
	s := l.store.sim
	l.state = dead
	for _, c := range l.waiting() {
		if c.kind == "append" && !c.landed && s.chance(50) {
			c.at = s.now() + s.upTo(maxLate)
			l.store.late = append(l.store.late, c)
		}
	}
	l.store.handles = slices.DeleteFunc(l.store.handles, func(h *simLog) bool { return h == l })
}

// waiting returns the calls that the simulation knows of and whose callers wait.
func (l *simLog) waiting() []*simCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.calls), func(c *simCall) bool { return c.gone || c.order == 0 })
}

// meet takes in the calls that are new, in an order that does not depend on who was first at the same time.
func (st *simStore) meet() {
	for _, l := range st.handles {
		l.mu.Lock()
		l.calls = slices.DeleteFunc(l.calls, func(c *simCall) bool { return c.gone && c.order == 0 }) // as if it had never been
		var fresh []*simCall
		for _, c := range l.calls {
			if c.order == 0 {
				c.name = shape(c.entry.ID)
				fresh = append(fresh, c)
			}
		}
		l.mu.Unlock()
		slices.SortStableFunc(fresh, func(a, b *simCall) int {
			return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.entry.Guard.Key, b.entry.Guard.Key),
				cmp.Compare(a.entry.Guard.Seq, b.entry.Guard.Seq), strings.Compare(a.name, b.name),
				cmp.Compare(st.sim.number(a.entry.ID), st.sim.number(b.entry.ID)))
		})
		var read *simCall
		for _, c := range fresh {
			if c.kind != "append" && read != nil { // whose is whose cannot be told
				c.order, c.at, c.answer, c.name = read.order, read.at, read.answer, c.kind
				continue
			}
			if c.kind != "append" {
				read = c
			}
			st.sim.orders++
			c.order = st.sim.orders
			c.name = c.kind
			if c.kind == "append" {
				c.name = st.label(c.entry.ID) + shape(c.entry.ID)
			}
			st.sim.decide(c)
		}
		l.abandon()
	}
}

// abandon looks after the calls whose callers are gone: they may land later.
func (l *simLog) abandon() {
	s := l.store.sim
	var gone []*simCall
	l.mu.Lock()
	l.calls = slices.DeleteFunc(l.calls, func(c *simCall) bool {
		if c.gone {
			gone = append(gone, c)
		}
		return c.gone
	})
	l.mu.Unlock()
	slices.SortFunc(gone, func(a, b *simCall) int { return cmp.Compare(a.order, b.order) })
	for _, c := range gone {
		if c.kind == "append" && !c.landed && c.fate != lostUnknown && l.state == up {
			s.tracef("%s: %s is not waited for any more", l.label, c.name)
			c.at = s.now() + s.upTo(maxLate)
			l.store.late = append(l.store.late, c)
		}
	}
}

// decide draws the fate of a call.
func (s *sim) decide(c *simCall) {
	m := c.log.mood
	c.at = s.now() + s.upTo(m.land)
	c.answer = s.upTo(m.answer)
	if c.kind != "append" {
		return
	}
	switch n := s.rnd.IntN(100); {
	case n < m.landsUnknown:
		c.fate = landsUnknown
	case n < m.landsUnknown+m.lostUnknown:
		c.fate = lostUnknown
	case n < m.landsUnknown+m.lostUnknown+m.lateUnknown:
		c.fate = lateUnknown
	case n < m.landsUnknown+m.lostUnknown+m.lateUnknown+m.full:
		c.fate = full
	}
}

// due returns what is to happen next to the calls and tails of a store: when, and how.
func (st *simStore) due() (at time.Duration, do func()) {
	at = math.MaxInt64
	order := 0
	for _, l := range st.handles {
		if l.state != up {
			continue
		}
		for _, c := range l.waiting() {
			if c.at < at || c.at == at && c.order < order {
				at, order, do = c.at, c.order, func() { st.proceedAll(c) }
			}
		}
		l.mu.Lock()
		if t := l.tail; t != nil && len(t.queue) > 0 && t.queue[0].at < at {
			at, order, do = t.queue[0].at, 0, func() { l.give(st.sim.now(), 0) }
		}
		l.mu.Unlock()
	}
	for _, c := range st.late {
		if c.at < at || c.at == at && c.order < order {
			at, order, do = c.at, c.order, func() {
				st.late = slices.DeleteFunc(st.late, func(d *simCall) bool { return d == c })
				rec, err := st.land(c)
				st.sim.tracef("%s: %s lands late: %v %v", c.log.label, c.name, rec.Pos.Seq, err)
			}
		}
	}
	return at, do
}

// land adds the entry of c to the store.
func (st *simStore) land(c *simCall) (chat.Record, error) {
	st.by = c.log
	return st.mem.Append(context.Background(), c.entry)
}

// proceedAll is proceed for c and those that cannot be told from it.
func (st *simStore) proceedAll(c *simCall) {
	for _, d := range c.log.waiting() {
		if d.order == c.order {
			st.proceed(d)
		}
	}
}

// proceed does the next thing to a call: it lands, or is answered.
func (st *simStore) proceed(c *simCall) {
	s := st.sim
	if !c.landed {
		c.landed = true
		switch {
		case c.kind != "append":
			c.read()
		case c.fate == pass, c.fate == landsUnknown:
			c.rec, c.err = st.land(c)
		case c.fate == lateUnknown:
			late := *c
			late.landed, late.at = false, s.now()+s.upTo(maxLate)
			st.late = append(st.late, &late)
		case c.fate == full:
			e := c.entry
			e.Guard = chat.Guard{Key: "nobody", Seq: math.MaxUint64} // dedupe comes first
			if c.rec, c.err = st.mem.Append(context.Background(), e); c.err != nil {
				c.err = chat.ErrFull
			}
		}
		if c.kind == "append" {
			switch {
			case c.fate == lateUnknown, c.fate == lostUnknown, c.fate == landsUnknown && c.err == nil:
				c.err = chat.ErrUnknown
			}
			s.tracef("%s: %s: %s, %v", c.log.label, c.name, place(c.rec), c.err)
		}
		if c.answer > 0 {
			c.at = s.now() + c.answer
			return
		}
	}
	if c.kind == "append" {
		if c.err == nil { // clause A4
			c.log.give(s.now(), c.rec.Pos.Seq)
		}
		if !errors.Is(c.err, chat.ErrUnknown) { // clause A5: it is settled
			st.late = slices.DeleteFunc(st.late, func(d *simCall) bool { return d.entry.ID == c.entry.ID })
		}
	}
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = slices.DeleteFunc(l.calls, func(d *simCall) bool { return d == c })
	close(c.done)
}

func place(rec chat.Record) string {
	if rec.Pos.IsZero() {
		return "-"
	}
	return fmt.Sprint("#", rec.Pos.Seq)
}

// textLen is how long an ID is that [rand.Text] makes: that of a session, or of a node's incarnation.
var textLen = len(rand.Text())

// shape is what an entry's ID has besides the session's, or the incarnation's, as far as it is not random.
func shape(id string) string {
	if len(id) < textLen {
		return id
	}
	id = id[textLen:]
	if i := strings.IndexAny(id, "-"); i >= 0 {
		id = id[:i]
	}
	if len(id) > textLen { // a heartbeat
		id = id[:1]
	}
	return id
}

// settled reports whether nothing waits on the handles that are up, and nothing may land any more.
func (st *simStore) settled() bool {
	for _, l := range st.handles {
		if l.state != dead && !l.idle() {
			return false
		}
	}
	return len(st.late) == 0
}

// idle reports whether nothing waits on a handle, and its follower has all.
func (l *simLog) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls) == 0 && (l.tail == nil || len(l.tail.queue) == 0)
}
