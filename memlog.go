package chat

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// What a Log remembers for retries at least (clause A1): the lesser of the two.
const (
	dedupeRecords = 4096
	dedupeTime    = 30 * time.Second
)

// A MemoryLog is a [Log] in this process's memory: it lives as long as the value does, and has no goroutine. Its
// positions count 1, 2, 3 … within an epoch drawn at random. Give one to two rooms and they are two nodes of one room.
//
// When it is over a bound it trims its oldest records, except that the last record under each key that is not final
// stays in its snapshot. Beyond its bounds it keeps what clause A1 asks for: at most the last 4,096 records of the last
// 30 s. It never returns [ErrUnknown] but for a context that has ended before the call.
type MemoryLog struct {
	opts  MemoryLogOptions
	epoch uint64

	mu    sync.Mutex         // guards the fields below, and is held while followers are called
	recs  []Record           // those after position kept, the oldest first; their positions are consecutive
	kept  uint64             // the last record that is quite forgotten
	first uint64             // the last record that is trimmed, >= kept: Read begins after it
	bytes int                // the size of those after first
	ids   map[string]uint64  // every ID in recs, and its position
	keys  map[string]*Record // the last record under each key; a final one goes when it is trimmed
	live  int                // how many of keys are not final
	tails []*tail
	ended bool
}

// A tail is one follower.
type tail struct {
	apply func([]Record, error)
}

// MemoryLogOptions configures [NewMemoryLog]. The zero value is ready for use.
type MemoryLogOptions struct {
	// MaxRecords is how many records are kept. Zero means 16,384, negative no bound.
	MaxRecords int

	// MaxBytes is how much is kept: the data, IDs and keys of the records, and 64 bytes for each. Zero means 8 MiB,
	// negative no bound. A single entry over it is refused with [ErrTooLarge].
	MaxBytes int

	// MaxKeys is how many keys may be in use (not final) at a time; an entry that would use one more is refused with
	// [ErrFull]. Zero means 65,536, negative no bound.
	MaxKeys int
}

// NewMemoryLog returns an empty log. With nil options it has the defaults.
func NewMemoryLog(o *MemoryLogOptions) *MemoryLog {
	var opts MemoryLogOptions
	if o != nil {
		opts = *o
	}
	opts.MaxRecords = limit(opts.MaxRecords, 16384)
	opts.MaxBytes = limit(opts.MaxBytes, 8<<20)
	opts.MaxKeys = limit(opts.MaxKeys, 65536)
	return &MemoryLog{
		opts:  opts,
		epoch: rand.Uint64() | 1, // not zero
		ids:   make(map[string]uint64),
		keys:  make(map[string]*Record),
	}
}

// Append implements [Log]. It does not block.
func (l *MemoryLog) Append(ctx context.Context, e Entry) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if len(e.ID) < 1 || len(e.ID) > maxEntryID || len(e.Key) > maxEntryKey {
		return Record{}, fmt.Errorf("%w: an ID of %d bytes, a key of %d", ErrTooLarge, len(e.ID), len(e.Key))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().UTC().Round(0)
	l.forget(now)
	if seq, ok := l.ids[e.ID]; ok {
		return l.recs[seq-l.kept-1], nil
	}
	if l.ended {
		return Record{}, ErrClosed
	}
	if !l.holds(e.Guard) {
		return Record{}, ErrConflict
	}
	old := l.keys[e.Key]
	isNew := e.Key != "" && !e.Final && (old == nil || old.Final)
	if isNew && l.live >= l.opts.MaxKeys {
		return Record{}, fmt.Errorf("%w: %d keys are in use", ErrFull, l.live)
	}
	rec := Record{
		Pos:  Position{l.epoch, l.end() + 1},
		Time: now,
		ID:   e.ID, Key: e.Key, Final: e.Final,
		Data: bytes.Clone(e.Data),
	}
	if size(rec) > l.opts.MaxBytes {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, size(rec))
	}
	l.recs = append(l.recs, rec)
	l.ids[rec.ID] = rec.Pos.Seq
	l.bytes += size(rec)
	if e.Key != "" {
		if isNew {
			l.live++
		} else if e.Final && old != nil && !old.Final {
			l.live--
		}
		l.keys[e.Key] = &rec
	}
	l.trim()
	for _, t := range l.tails {
		t.apply([]Record{rec}, nil)
	}
	return rec, nil
}

// Snapshot implements [Log].
func (l *MemoryLog) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Snapshot{At: Position{l.epoch, l.end()}, First: Position{l.epoch, l.first}}
	for _, rec := range l.keys {
		if !rec.Final {
			s.Records = append(s.Records, *rec)
		}
	}
	slices.SortFunc(s.Records, func(a, b Record) int { return cmp.Compare(a.Pos.Seq, b.Pos.Seq) })
	return s, nil
}

// Read implements [Log].
func (l *MemoryLog) Read(ctx context.Context, after Position, n int) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	recs, err := l.after(after)
	if err != nil {
		return nil, err
	}
	return slices.Clone(recs[:min(len(recs), max(n, 0))]), nil
}

// Follow implements [Log]. It calls apply before it returns if there are records after after, and from then on inside
// Append.
func (l *MemoryLog) Follow(after Position, apply func([]Record, error)) (stop func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, ErrClosed
	}
	recs, err := l.after(after)
	if err != nil {
		return nil, err
	}
	if len(recs) > 0 {
		apply(slices.Clone(recs), nil)
	}
	t := &tail{apply}
	l.tails = append(l.tails, t)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tails = slices.DeleteFunc(l.tails, func(u *tail) bool { return u == t })
	}, nil
}

// Close ends the log: its followers get their last call, with [ErrClosed], and nothing is added any more. What is in it
// can still be read, and a retry of that is still answered. A log that nobody uses need not be closed. Twice is harmless.
func (l *MemoryLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, t := range l.tails {
		t.apply(nil, ErrClosed)
	}
	l.tails = nil
	return nil
}

// end is the position of the last record.
func (l *MemoryLog) end() uint64 { return l.kept + uint64(len(l.recs)) }

// after returns the records that follow p.
func (l *MemoryLog) after(p Position) ([]Record, error) {
	switch {
	case p.IsZero():
		p = Position{l.epoch, 0}
	case p.Epoch != l.epoch:
		return nil, ErrEpoch
	}
	switch {
	case p.Seq > l.end():
		return nil, ErrAhead
	case p.Seq < l.first:
		return nil, ErrTrimmed
	}
	return l.recs[p.Seq-l.kept:], nil
}

func (l *MemoryLog) holds(g Guard) bool {
	last := l.keys[g.Key]
	if g.Seq == 0 {
		return last == nil || last.Final
	}
	return last != nil && last.Pos.Seq == g.Seq
}

// trim moves first until the log is within its bounds. The last record always stays.
func (l *MemoryLog) trim() {
	for l.bytes > l.opts.MaxBytes || l.end()-l.first > uint64(l.opts.MaxRecords) {
		if l.end()-l.first <= 1 {
			return
		}
		rec := l.recs[l.first-l.kept]
		l.bytes -= size(rec)
		l.first++
		if last := l.keys[rec.Key]; last != nil && last.Final && last.Pos == rec.Pos {
			delete(l.keys, rec.Key)
		}
	}
}

// forget drops trimmed records that need not be remembered for retries any more.
func (l *MemoryLog) forget(now time.Time) {
	n := 0
	for l.kept < l.first && (len(l.recs)-n > dedupeRecords || now.Sub(l.recs[n].Time) > dedupeTime) {
		delete(l.ids, l.recs[n].ID)
		l.recs[n] = Record{} // let its data go before the slice is next copied
		n++
		l.kept++
	}
	l.recs = l.recs[n:]
}

// size is what a record counts for.
func size(r Record) int { return 64 + len(r.ID) + len(r.Key) + len(r.Data) }

// limit resolves an option: zero is the default, negative no limit.
func limit(n, byDefault int) int {
	switch {
	case n == 0:
		return byDefault
	case n < 0:
		return int(^uint(0) >> 1)
	}
	return n
}
