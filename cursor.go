package chat

import "math"

// A cursor is one reader's place in a room's window. The reader calls take again and again from one goroutine; all else
// may come from any. Nothing is queued for a reader but the replies to its own requests.
type cursor struct {
	room  *Room
	bound int64         // how many bytes the reader may be behind
	wake  chan struct{} // holds one token when a parked reader is to look again
	ended func(error)   // called once, without a lock, when err is set by somebody else than the reader; may be nil

	// Guarded by the room's mutex.
	slot    int    // where in room.cursors; -1 when detached
	hearing bool   // events are for this reader
	counted bool   // it is one of room.hearers
	kept    bool   // it stays one, since it is about to hear
	parked  bool   // the reader waits for wake
	called  bool   // the reader was woken and has not come back to look yet
	woken   bool   // and it was the waker who woke it
	next    uint64 // the index of the first event that take has not returned
	taken   mark   // the last event that take returned, or the start
	done    mark   // the last event that is handed over, or the start
	begun   int64  // the bytes up to the head when hearing began: being behind counts from there
	stop    uint64 // where the reader ends; noStop for never
	stopErr error  // why; nil: it only stops hearing
	err     error  // why it ended
	owed    bool   // ended is still to be called
	replies []Reply
	drained chan struct{} // made when somebody waits for replies to be taken; closed then
}

// A mark is a place in a window that stays good when the window has moved on.
type mark struct {
	pos Position
	end int64 // the bytes up to and including the event at pos
}

const noStop = math.MaxUint64

// maxRun is how many bytes of events one take returns at most, but for a single larger event: a slow connection is then
// given the next piece only when it has taken this one.
const maxRun = 64 << 10

// maxWoken is how many readers the waker has woken at most that have not yet come to look.
const maxWoken = 32

// maxReplies is how many replies may wait for a client before no more of its requests are read.
const maxReplies = 64

// attach makes c one of the room's cursors. The room's mutex is held.
func (r *Room) attach(c *cursor) {
	c.room, c.wake, c.slot, c.stop = r, make(chan struct{}, 1), len(r.cursors), noStop
	r.cursors = append(r.cursors, c)
}

// detach is for the reader when it will not call take again. The room's mutex is held.
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
	if moved != c && r.due(moved) { // it may have moved to where the waker has been
		moved.nudge()
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
}

func (r *Room) unhear(c *cursor) {
	c.hearing = false
	r.count(c)
}

// take returns what is due to the reader: replies, then events. It waits until there is something, and says why when
// there will be nothing more. With it the reader says that what the last call returned is handed over.
func (c *cursor) take() (*Batch, error) {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	c.done = c.taken
	for {
		if c.err != nil {
			return nil, c.err
		}
		if c.hearing && c.next < r.window.base {
			r.slow(c)
			continue
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
			b := r.batch(replies, c.next, to)
			if to > c.next {
				c.next, c.taken = to, r.window.mark(to)
			}
			c.drain()
			return b, nil
		}
		if c.next >= c.stop {
			if c.err = c.stopErr; c.err == nil {
				r.unhear(c)
				c.stop = noStop
			}
			continue
		}
		c.parked = true
		r.mu.Unlock()
		<-c.wake
		r.mu.Lock()
		c.called = false
		if c.woken {
			c.woken = false
			if r.woken--; r.woken <= maxWoken/2 && r.waiting {
				r.waiting = false
				r.back <- struct{}{}
			}
		}
	}
}

// portion is how many replies one take returns: no more than one roster among them, for a room's may be large.
func (c *cursor) portion() int {
	for i, rep := range c.replies {
		if _, ok := rep.(laterReply); ok {
			return i + 1
		}
	}
	return len(c.replies)
}

// nudge wakes the reader if it waits. The room's mutex is held.
func (c *cursor) nudge() {
	if c.parked {
		c.parked, c.called = false, true
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// reply queues an answer to the reader's own request. The room's mutex is held.
func (c *cursor) reply(rep Reply) {
	if c.err == nil && rep != nil {
		c.replies = append(c.replies, rep)
		c.nudge()
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
	c.nudge()
	c.drain()
	return true
}

// end ends the cursor; the first reason counts. ended is called soon, by the waker, unless the reader ends it itself.
// The room's mutex is held.
func (r *Room) end(c *cursor, err error) {
	if c.halt(err) && c.ended != nil {
		c.owed = true
		r.ending = append(r.ending, c)
		r.rouse()
	}
}

// slow ends the cursor for being too far behind (promise 9). The room's mutex is held.
func (r *Room) slow(c *cursor) {
	r.stats.slow++
	r.end(c, SlowError{Pos: c.done.pos, Behind: r.window.mark(r.window.head()).end - c.done.end})
}

// due reports whether a parked reader has something to look at, and ends c if it is too far behind. The room's mutex is
// held.
func (r *Room) due(c *cursor) bool {
	w := &r.window
	switch {
	case c.err != nil || !c.hearing:
		return false
	case c.parked:
		return c.next < w.head() || c.next >= c.stop
	case c.called: // it had all, and has not had the time to look
		return false
	case c.next < w.base || c.stop == noStop && w.mark(w.head()).end-max(c.done.end, c.begun) > c.bound:
		r.slow(c)
	}
	return false
}

// rouse sees to it that the waker looks at the cursors. It costs the same for any number of them. The room's mutex is
// held.
func (r *Room) rouse() {
	r.stale = true
	if !r.waking && (len(r.cursors) > 0 || len(r.ending) > 0) {
		r.waking = true
		r.goLocked(r.waker)
	}
}

// The waker wakes the readers for whom something is due and ends those that are too far behind. It lives only while
// there is work: so Send does not pay for the number of readers, and an idle room has no goroutine.
//
// It wakes a few at a time, the next when those have come to look: ten thousand that are ready to run would stand in line
// before whoever calls Send next, and before all else that the process does.
func (r *Room) waker() {
	var wake [maxWoken / 2]*cursor
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.waking = false }()
	for r.stale {
		r.stale = false
		for i := 0; i < len(r.cursors) || len(r.ending) > 0; {
			n := 0
			for ; i < len(r.cursors) && n < len(wake); i++ {
				if c := r.cursors[i]; r.due(c) {
					c.parked, c.called, c.woken = false, true, true
					wake[n] = c
					n++
				}
			}
			r.woken += n
			r.waiting = r.woken > maxWoken/2
			wait := r.waiting
			r.mu.Unlock()
			for _, c := range wake[:n] {
				select {
				case c.wake <- struct{}{}:
				default:
				}
			}
			if wait {
				<-r.back
			}
			r.mu.Lock()
			r.tell()
		}
	}
}

// tell calls what is due to cursors that were ended. The room's mutex is held, but not during the calls.
func (r *Room) tell() {
	for len(r.ending) > 0 {
		ending := r.ending
		r.ending = nil
		r.mu.Unlock()
		for _, c := range ending {
			c.ended(c.err)
		}
		r.mu.Lock()
		for _, c := range ending {
			c.owed = false
		}
		r.change()
	}
}
