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

// pageSize is how many bytes of events a page spans: a run ends where a page does, and an encoding has a page in one
// piece of memory. So a run is never put together from two.
const pageSize = 4 * maxRun

// page is the page of the event that ends at end.
func page(end int64) int64 { return (end - 1) / pageSize }

// run returns the index after the last event of a run that begins at i and is at most budget bytes, but at least one
// event if there is one before end. All of it is of one page.
func (w *window) run(i, end uint64, budget int64) uint64 {
	if i >= end {
		return i
	}
	slots := w.slots[i-w.base : end-w.base]
	limit := min(w.mark(i).end+budget, (page(slots[0].end)+1)*pageSize)
	n, _ := slices.BinarySearchFunc(slots, limit, func(s slot, limit int64) int {
		if s.end <= limit {
			return -1
		}
		return 1
	})
	return i + uint64(max(n, 1))
}

// An encoding is what one Format made of a room's recent events: each once, the units of a page end to end, so that all
// readers of a run share one piece of memory.
type encoding struct {
	format *Format

	mu     sync.Mutex
	sheets []*sheet        // the oldest first, of a page each; not of all pages
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

// A sheet holds the units of some of a page's events, from index first on; ends[i] is where the i-th ends. It grows; bytes
// that are in use are never changed.
type sheet struct {
	page  int64
	first uint64
	ends  []int
	buf   []byte
}

// end is the index after the last event.
func (s *sheet) end() uint64 { return s.first + uint64(len(s.ends)) }

// units returns the units of a run of events of a page, which begins at index first. base is where the room's window
// begins now: sheets that end before it go.
func (e *encoding) units(base uint64, page int64, first uint64, events []Event) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.sheets) > 0 && e.sheets[0].end() <= base {
		e.sheets = e.sheets[1:]
	}
	end := first + uint64(len(events))
	s := e.sheet(page, first, end)
	if first < s.first {
		s = new(sheet) // it is kept from a later place on, for others
		s.first = first
	}
	for i := s.end(); i < end; i++ {
		s.buf = e.format.Append(s.buf, events[i-first])
		s.ends = append(s.ends, len(s.buf))
	}
	from, to := 0, s.ends[end-s.first-1]
	if first > s.first {
		from = s.ends[first-s.first-1]
	}
	return s.buf[from:to:to]
}

// sheet returns the sheet of a page; a new one if there is none, or if all that it holds would be of no use to the run
// [first, end), or be part of it.
func (e *encoding) sheet(page int64, first, end uint64) *sheet {
	i, ok := slices.BinarySearchFunc(e.sheets, page, func(s *sheet, page int64) int { return cmp.Compare(s.page, page) })
	if ok {
		if s := e.sheets[i]; s.first <= first && first <= s.end() || first < s.first && end < s.end() {
			return s
		}
		e.sheets[i] = &sheet{page: page, first: first}
		return e.sheets[i]
	}
	s := &sheet{page: page, first: first}
	if i > 0 { // it will be about as long as the last
		s.ends, s.buf = make([]int, 0, len(e.sheets[i-1].ends)), make([]byte, 0, len(e.sheets[i-1].buf))
	}
	e.sheets = slices.Insert(e.sheets, i, s)
	return s
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
