package chat

import "runtime"

// How events come to readers: a sweeper walks the cursors and hands to each that is behind what is due to it, without
// waiting (reader.try). For one that can't be served so, a carrier is started, which may wait (reader.deliver) and goes
// when its reader has caught up. Both live only while there is work: a reader that has all costs no goroutine, and
// neither Send nor any other reader waits for one that is slow.

// A hand is who hands over to a cursor's reader.
type hand uint8

const (
	nobody  hand = iota
	sweeper      // which doesn't wait
	called       // a carrier that has not begun: its reader is not to blame for what it has not
	carrier      // which may be waiting for the reader
)

const (
	sweepGroup = 16  // how many a sweeper hands over to before it looks at the room again
	sweepLook  = 256 // how many it looks at while it holds the room's mutex
	sweepShare = 64  // how many are left to look at when a sweeper is joined by another
)

// A sweeping is what a room knows of its sweepers' work. It is guarded by the room's mutex.
type sweeping struct {
	unseen   int       // how many of the room's cursors are still to be looked at: those behind at, in a ring
	at       int       // the one that was looked at last
	urgent   []*cursor // those that are looked at before their turn
	odd      bool      // whose turn it is, of these and of the ring
	ending   []*cursor // those whose reader is to be interrupted
	sweepers int       // how many are at work
}

// rouse sees to it that each cursor is looked at once more. It costs the same for any number of them. The room's mutex is
// held.
func (r *Room) rouse() {
	r.unseen = len(r.cursors)
	if r.sweepers == 0 && r.unswept() {
		r.recruit()
	}
}

// urge sees to it that c is looked at soon. The room's mutex is held.
func (r *Room) urge(c *cursor) {
	if !c.urgent {
		c.urgent = true
		r.urgent = append(r.urgent, c)
	}
	if r.sweepers == 0 {
		r.recruit()
	}
}

// recruit starts a sweeper. Each cursor that is not over belongs to somebody whom Close waits for, so a sweeper may be
// started as long as there is one. The room's mutex is held.
func (r *Room) recruit() {
	r.sweepers++
	r.wg.Go(r.sweep)
}

// unswept reports whether a sweeper has something to do. The room's mutex is held.
func (r *Room) unswept() bool {
	return r.unseen > 0 || len(r.urgent) > 0 || len(r.ending) > 0
}

// A handover is a batch on its way to a reader.
type handover struct {
	c     *cursor
	b     *Batch
	taken bool
}

// sweep is a sweeper.
func (r *Room) sweep() {
	var group [sweepGroup]handover
	var last *Batch // most readers are due the same
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.unswept() {
		n := 0
		for looks := 0; n < len(group) && looks < sweepLook; looks++ {
			c := r.nextCursor()
			if c == nil {
				break
			}
			if b := r.look(c, last); b != nil {
				group[n] = handover{c: c, b: b}
				n++
				if len(b.replies) == 0 {
					last = b
				}
			}
		}
		if r.unseen >= sweepShare && r.sweepers < runtime.GOMAXPROCS(0) {
			r.recruit()
		}
		r.mu.Unlock()
		for i := range group[:n] {
			group[i].taken = group[i].c.reader.try(group[i].b)
		}
		runtime.Gosched() // a long sweep is not to keep others from the processor
		r.mu.Lock()
		for i := range group[:n] {
			r.release(&group[i])
			group[i] = handover{}
		}
		r.tell()
	}
	r.sweepers--
}

// nextCursor returns the next one to look at, in turn of those that are urgent and of all. The room's mutex is held.
func (r *Room) nextCursor() *cursor {
	r.unseen = min(r.unseen, len(r.cursors))
	r.odd = !r.odd
	switch {
	case len(r.urgent) > 0 && (r.odd || r.unseen == 0):
		c := r.urgent[0]
		r.urgent[0] = nil
		if r.urgent = r.urgent[1:]; len(r.urgent) == 0 {
			r.urgent = nil
		}
		c.urgent = false
		return c
	case r.unseen > 0:
		r.unseen--
		r.at++
		if r.at >= len(r.cursors) {
			r.at = 0
		}
		return r.cursors[r.at]
	}
	return nil
}

// look returns what a sweeper is to hand over to the reader of c, if anything. The room's mutex is held.
func (r *Room) look(c *cursor, last *Batch) *Batch {
	switch {
	case c.hand == nobody && c.due():
		b := c.poll(last)
		if b != nil {
			c.hand = sweeper
		} else if c.err != nil {
			r.call(c, nil)
		}
		return b
	case c.hand == carrier && c.err == nil && c.hearing && r.tooFar(c):
		r.slow(c)
	}
	return nil
}

// tooFar reports whether c, whose reader has been given something and has not taken it yet, is too far behind. The room's
// mutex is held.
func (r *Room) tooFar(c *cursor) bool {
	w := &r.window
	return c.next < w.base || c.stop == noStop && w.mark(w.head()).end-max(c.done.end, c.begun) > c.bound
}

// release ends what look began. The room's mutex is held.
func (r *Room) release(h *handover) {
	c := h.c
	if !h.taken {
		own := *h.b
		r.call(c, &own)
		return
	}
	c.hand, c.done = nobody, c.taken
	if c.due() {
		r.urge(c)
	}
}

// call starts a carrier, with a batch that was polled or nil. The room's mutex is held.
func (r *Room) call(c *cursor, b *Batch) {
	c.hand = called
	r.wg.Go(func() { r.carry(c, b) })
}

// carry hands over b and what follows, until nothing is due. It is also who ends the reader.
func (r *Room) carry(c *cursor, b *Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.hand = carrier
	if b == nil {
		b = c.poll(nil)
	}
	for b != nil {
		r.mu.Unlock()
		err := c.reader.deliver(b)
		r.mu.Lock()
		if err != nil {
			c.halt(err)
		}
		b = c.poll(nil)
	}
	if c.err != nil {
		r.mu.Unlock()
		c.reader.end(c.err)
		r.mu.Lock()
		c.over = true
		r.change()
	}
	c.hand = nobody
}

// tell interrupts the readers of cursors that were ended. The room's mutex is held, but not during the calls.
func (r *Room) tell() {
	for len(r.ending) > 0 {
		ending := r.ending
		r.ending = nil
		r.mu.Unlock()
		for _, c := range ending {
			c.reader.interrupt(c.err)
		}
		r.mu.Lock()
		for _, c := range ending {
			c.owed = false
		}
		r.change()
	}
}
