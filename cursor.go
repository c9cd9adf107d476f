package chat

import "math"

// A cursor is one reader's place in a room's window. Nothing is queued for a reader but the replies to its own requests.
// Who hands over to it, see sweep.go.
type cursor struct {
	room   *Room
	reader reader
	bound  int64 // how many bytes the reader may be behind

	// Guarded by the room's mutex.
	slot    int    // where in room.cursors; -1 when detached
	hand    hand   // who hands over now
	urgent  bool   // it stands in room.urgent
	hearing bool   // events are for this reader
	counted bool   // it is one of room.hearers
	kept    bool   // it stays one, since it is about to hear
	next    uint64 // the index of the first event that poll has not returned
	taken   mark   // the last event that poll returned, or the start
	done    mark   // the last event that is handed over, or the start
	begun   int64  // the bytes up to the head when hearing began: being behind counts from there
	stop    uint64 // where the reader ends; noStop for never
	stopErr error  // why; nil: it only stops hearing
	err     error  // why it ended
	owed    bool   // reader.interrupt is still to be called
	over    bool   // reader.end was called
	replies []Reply
	drained chan struct{} // made when somebody waits for replies to be taken; closed then
}

// A reader is what the events of a cursor are for. Of try, deliver and end one is called at a time.
type reader interface {
	// try takes b over without waiting, or takes nothing of it and returns false: then deliver is next.
	try(b *Batch) bool

	// deliver takes b over, and may wait. An error ends the cursor.
	deliver(b *Batch) error

	// interrupt is called at most once, when another than the reader has ended the cursor with err, at any time: deliver
	// is to return soon. It returns at once.
	interrupt(err error)

	// end is the last call, but for interrupt: why there will be nothing more.
	end(err error)
}

// A mark is a place in a window that stays good when the window has moved on.
type mark struct {
	pos Position
	end int64 // the bytes up to and including the event at pos
}

const noStop = math.MaxUint64

// maxRun is how many bytes of events one batch holds at most, but for a single larger event: a slow connection is then
// given the next piece only when it has taken this one.
const maxRun = 64 << 10

// maxReplies is how many replies may wait for a client before no more of its requests are read.
const maxReplies = 64

// attach makes c, which has a reader, one of the room's cursors. The room's mutex is held.
func (r *Room) attach(c *cursor) {
	c.room, c.slot, c.stop = r, len(r.cursors), noStop
	r.cursors = append(r.cursors, c)
	if r.unseen > 0 { // c may stand before others that are still to be looked at
		r.unseen++
	}
}

// detach takes c out of those; what is due to it already it still gets. The room's mutex is held.
func (r *Room) detach(c *cursor) {
	if c.slot < 0 {
		return
	}
	r.unhear(c)
	last := len(r.cursors) - 1
	moved := r.cursors[last]
	r.cursors[c.slot], moved.slot = moved, c.slot
	r.cursors[last] = nil
	r.cursors = r.cursors[:last]
	c.slot = -1
	if moved != c && moved.due() { // it may have moved to where the sweep has been
		r.urge(moved)
	}
}

// reserve gives c a place among those who hear, if there is one, until unreserve: then it loses it unless it hears. The
// room's mutex is held.
func (r *Room) reserve(c *cursor) error {
	if !c.counted && r.hearers >= r.opts.MaxSubscribers {
		return LimitError{Limit: ErrSubscribers, Max: r.opts.MaxSubscribers, RetryAfter: admitRetry}
	}
	c.kept = true
	r.count(c)
	return nil
}

func (r *Room) unreserve(c *cursor) {
	c.kept = false
	r.count(c)
}

// count sees to it that c is one of room.hearers as long as it hears or is about to. The room's mutex is held.
func (r *Room) count(c *cursor) {
	switch want := c.hearing || c.kept; {
	case want && !c.counted:
		r.hearers++
	case !want && c.counted:
		r.hearers--
	}
	c.counted = c.hearing || c.kept
}

// hear lets c read from index at. The room's mutex is held.
func (r *Room) hear(c *cursor, at uint64) {
	c.hearing, c.next, c.stop, c.stopErr = true, at, noStop, nil
	c.taken = r.window.mark(max(at, r.window.base))
	c.done = c.taken
	c.begun = r.window.mark(r.window.head()).end
	r.count(c)
	if c.due() {
		r.urge(c)
	}
}

func (r *Room) unhear(c *cursor) {
	c.hearing = false
	r.count(c)
}

// due reports whether there is something for poll to see. The room's mutex is held.
func (c *cursor) due() bool {
	if c.over {
		return false
	}
	return c.err != nil || len(c.replies) > 0 || c.next >= c.stop || c.hearing && c.next < c.room.window.head()
}

// poll returns what is due to the reader: replies, then events. It returns nil if there is nothing now, or, with c.err set,
// if there will be nothing more. What it returned before counts as handed over. The batch is last, which may be nil, if
// that is the same. The room's mutex is held.
func (c *cursor) poll(last *Batch) *Batch {
	r := c.room
	c.done = c.taken
	for c.err == nil {
		if c.hearing && c.next < r.window.base {
			r.slow(c)
			break
		}
		to := c.next
		if c.hearing {
			to = r.window.run(c.next, min(r.window.head(), c.stop), maxRun)
		}
		if len(c.replies) > 0 || to > c.next {
			replies := c.replies[:c.portion()]
			if c.replies = c.replies[len(replies):]; len(c.replies) > 0 {
				to = c.next // events come after all replies
			} else {
				c.replies = nil
			}
			b := last
			if len(replies) > 0 || !last.is(c.next, to) {
				b = r.batch(replies, c.next, to)
			}
			if to > c.next {
				c.next, c.taken = to, r.window.mark(to)
			}
			c.drain()
			return b
		}
		if c.next < c.stop {
			break
		}
		if c.err = c.stopErr; c.err == nil {
			r.unhear(c)
			c.stop = noStop
		}
	}
	return nil
}

// portion is how many replies one batch holds: no more than one roster among them, for a room's may be large.
func (c *cursor) portion() int {
	for i, rep := range c.replies {
		if _, ok := rep.(laterReply); ok {
			return i + 1
		}
	}
	return len(c.replies)
}

// reply queues an answer to the reader's own request. The room's mutex is held.
func (c *cursor) reply(rep Reply) {
	if c.err == nil && rep != nil {
		c.replies = append(c.replies, rep)
		c.room.urge(c)
	}
}

// drain tells who waits for replies to be taken. The room's mutex is held.
func (c *cursor) drain() {
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// halt ends the cursor, and reports whether it had not ended before: the first reason counts. The room's mutex is held.
func (c *cursor) halt(err error) bool {
	if c.err != nil {
		return false
	}
	c.err = err
	c.room.urge(c)
	c.drain()
	return true
}

// end ends the cursor; the first reason counts. Its reader is interrupted soon. The room's mutex is held.
func (r *Room) end(c *cursor, err error) {
	if c.halt(err) {
		c.owed = true
		r.ending = append(r.ending, c)
	}
}

// slow ends the cursor for being too far behind (promise 9). The room's mutex is held.
func (r *Room) slow(c *cursor) {
	r.stats.slow++
	r.end(c, SlowError{Pos: c.done.pos, Behind: r.window.mark(r.window.head()).end - c.done.end})
}
