package chat

import (
	"cmp"
	"slices"
	"sync"
)

// A window is the recent part of a room's events, which cursors read. It is guarded by the room's mutex; the slices
// that it hands out are never written to again.
type window struct {
	max    int64 // bytes
	base   uint64
	events []Event  // at index base, base+1, …
	slots  []slot   // one for each of events
	prev   Position // of the last event that was trimmed, or of the log's start
	start  int64    // the bytes up to prev
}

// A slot is what a window knows of an event beside it.
type slot struct {
	end  int64  // the bytes of all events of the room's life up to and including this one
	join uint64 // the sequence of the Joined of the event's session
}

// head is the index after the last event.
func (w *window) head() uint64 { return w.base + uint64(len(w.events)) }

// last is the position of the last event.
func (w *window) last() Position { return w.mark(w.head()).pos }

// mark returns the event before index i, base <= i <= head.
func (w *window) mark(i uint64) mark {
	if i == w.base {
		return mark{w.prev, w.start}
	}
	n := i - w.base - 1
	return mark{w.events[n].Meta().Pos, w.slots[n].end}
}

// add puts an event of n bytes at the head and trims what no longer fits. The newest event always stays.
func (w *window) add(e Event, n int, join uint64) {
	end := w.mark(w.head()).end + int64(n)
	w.events = append(w.events, e)
	w.slots = append(w.slots, slot{end, join})
	trim := 0
	for end-w.start > w.max && trim < len(w.events)-1 {
		w.start = w.slots[trim].end
		trim++
	}
	if trim > 0 {
		w.prev = w.events[trim-1].Meta().Pos
		w.base += uint64(trim)
		w.events, w.slots = w.events[trim:], w.slots[trim:]
	}
}

// find returns the index of the event after p.
func (w *window) find(p Position) (uint64, error) {
	last := w.last()
	switch {
	case p.Epoch != last.Epoch:
		return 0, ErrEpoch
	case p == w.prev:
		return w.base, nil
	case p.Seq < w.prev.Seq:
		return 0, ErrTrimmed
	}
	i, ok := slices.BinarySearchFunc(w.events, p.Seq, func(e Event, seq uint64) int { return cmp.Compare(e.Meta().Pos.Seq, seq) })
	if !ok {
		return 0, ErrAhead
	}
	return w.base + uint64(i) + 1, nil
}

// run returns the index after the last event of a run that begins at i and is at most budget bytes, but at least one
// event if there is one before end.
func (w *window) run(i, end uint64, budget int64) uint64 {
	if i >= end {
		return i
	}
	limit := w.mark(i).end + budget
	n, _ := slices.BinarySearchFunc(w.slots[i-w.base:end-w.base], limit, func(s slot, limit int64) int {
		if s.end <= limit {
			return -1
		}
		return 1
	})
	return i + uint64(max(n, 1))
}

// An encoding is what one Format made of a room's recent events: each once, end to end in chunks, so that a run of
// events is nearly always one piece of memory that all its readers share.
type encoding struct {
	format *Format

	mu     sync.Mutex
	next   uint64          // the index of the next event to encode; what was before the first is not kept
	chunks []*chunk        // the oldest first, without a gap
	lists  [keptLists]list // the last that were made, in a ring
	oldest int             // where in lists the next one goes
}

// A list is an encoded roster.
type list struct {
	at   Position
	data []byte
}

// keptLists is how many encoded rosters are remembered: some readers are behind, each at its own place.
const keptLists = 8

// A chunk holds the units of events first, first+1, …; ends[i] is where the i-th ends. Bytes in use are never changed.
type chunk struct {
	first uint64
	ends  []int
	buf   []byte
}

// Chunks begin small, for most rooms are quiet, and double up to maxChunk; a single event may need more.
const (
	minChunk = 1 << 10
	maxChunk = 32 << 10
)

// units returns the units of events, which begin at index first. base is where the room's window begins now: chunks
// that end before it go.
func (e *encoding) units(base, first uint64, events []Event) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	end := first + uint64(len(events))
	if first > e.next || e.chunks == nil { // nobody asked for those between
		e.chunks, e.next = nil, first
	}
	for e.next < end {
		e.encode(events[e.next-first])
	}
	for len(e.chunks) > 1 && e.chunks[1].first <= base {
		e.chunks = e.chunks[1:]
	}
	return e.cut(first, end, events)
}

// encode adds the next event's units.
func (e *encoding) encode(ev Event) {
	size := minChunk
	var spill []byte
	if n := len(e.chunks); n > 0 {
		c := e.chunks[n-1]
		buf := e.format.Append(c.buf, ev)
		if len(buf) <= cap(c.buf) {
			c.buf, c.ends = buf, append(c.ends, len(buf))
			e.next++
			return
		}
		spill, size = buf[len(c.buf):], min(2*cap(c.buf), maxChunk)
	} else {
		spill = e.format.Append(nil, ev)
	}
	c := &chunk{first: e.next, buf: append(make([]byte, 0, max(size, len(spill))), spill...)}
	c.ends = append(c.ends, len(c.buf))
	e.chunks = append(e.chunks, c)
	e.next++
}

// cut returns the units of [first, end).
func (e *encoding) cut(first, end uint64, events []Event) []byte {
	var out []byte
	joined := false // out is memory of this call's own
	for i := first; i < end; {
		var piece []byte
		n := uint64(1)
		if c := e.chunk(i); c == nil { // from before the first that is kept
			piece = e.format.Append(nil, events[i-first])
		} else {
			n = min(end, c.first+uint64(len(c.ends))) - i
			from, to := 0, c.ends[i-c.first+n-1]
			if i > c.first {
				from = c.ends[i-c.first-1]
			}
			piece = c.buf[from:to:to]
		}
		switch {
		case out == nil:
			out = piece
		case !joined:
			out, joined = append(append(make([]byte, 0, len(out)+len(piece)), out...), piece...), true
		default:
			out = append(out, piece...)
		}
		i += n
	}
	return out
}

// chunk returns the chunk that holds index i, nil if none does.
func (e *encoding) chunk(i uint64) *chunk {
	n, ok := slices.BinarySearchFunc(e.chunks, i, func(c *chunk, i uint64) int { return cmp.Compare(c.first, i) })
	if !ok {
		n--
	}
	if n < 0 || i >= e.next {
		return nil
	}
	return e.chunks[n]
}

// list returns the roster at a position, encoded.
func (e *encoding) list(at Position, roster func() []User) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.lists {
		if e.lists[i].at == at {
			return e.lists[i].data
		}
	}
	l := list{at, e.format.Roster(nil, at, roster())}
	e.lists[e.oldest] = l
	e.oldest = (e.oldest + 1) % keptLists
	return l.data
}
