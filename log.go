package chat

import (
	"context"
	"time"
)

// A Log is the ordered record of one room, and all that the room knows. Its methods may be called from any goroutine.
// Two rooms that use one Log, or two Logs over one store, are two nodes of the same room.
//
// The numbered clauses are the contract. There is no Close, for who opened a log closes it; no Trim, for retention is
// the log's own option; and no Read that waits, so that an idle room needs no goroutine. [MemoryLog] is the default.
// Package chattest holds a log to the clauses.
type Log interface {
	// Append adds e at the end of the log and returns its record.
	//
	//   - A1 (dedupe first) If a record with e.ID is among those that the log remembers, Append returns that record,
	//     adds nothing and does not look at the guard. It remembers at least the last 4,096 records or 30 s,
	//     whichever is less.
	//   - A2 (guard) Otherwise, if e.Guard does not hold at the end of the log, [ErrConflict]; checking and adding are
	//     one step. Never for another reason: contention inside the log is retried inside the log.
	//   - A3 (order) Positions grow. A call that starts after another returned gets the greater one.
	//   - A4 (seen) When it returns nil, every follower of this Log value has been given the record.
	//   - A5 (true errors) [ErrConflict], [ErrFull], [ErrTooLarge], [ErrClosed]: not in the log, and never will be.
	//     [ErrUnknown] (also when ctx ends first; it then wraps ctx.Err()): it may be, or may come to be; the same Entry
	//     again settles it.
	//   - A6 (copies) Neither e nor what it points to is kept or changed.
	Append(ctx context.Context, e Entry) (Record, error)

	// Snapshot returns the last record under each key that is not Final, in log order, all as of one position.
	//
	//   - S1 It includes every append that had returned, on any node, when Snapshot was called.
	//   - S2 Trimming does not remove these records from it.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Read returns up to max records that follow after, in order, without a gap; none if after is the end. It never
	// waits for new ones. [ErrTrimmed]: some that followed are gone. [ErrEpoch]: after is of another life of this log.
	// [ErrAhead]: after is beyond the end, or was never a record of this room. The zero Position is the start of this
	// life; {E, 0} that of life E. The records are the caller's, read-only.
	Read(ctx context.Context, after Position, max int) ([]Record, error)

	// Follow calls apply with every record after after: in order, each once, no gap, never two calls at once. Its
	// errors are those of Read, and [ErrClosed].
	//
	//   - F1 apply is quick, does not block and calls no method of the log; it may be called inside Append or Follow
	//     with the log's lock held. So a room holds no lock when it calls its log.
	//   - F2 The slice is valid during the call only; the records and their Data may be kept, not changed.
	//   - F3 A last call has no records and the reason: ErrTrimmed, ErrEpoch or ErrClosed. Being out of reach for a
	//     while is not a reason.
	//   - F4 After stop returned, apply is not running and is not called again. stop is not called in apply. Twice is
	//     harmless.
	Follow(after Position, apply func(recs []Record, err error)) (stop func(), err error)
}

// The longest ID and key of an Entry, in bytes.
const (
	maxEntryID  = 128
	maxEntryKey = 512
)

// An Entry is what [Log].Append adds.
type Entry struct {
	ID    string // what a retry is recognised by, 1 to 128 bytes, unique in the room
	Key   string // what this record is the last word on, up to 512 bytes; empty: on nothing
	Final bool   // ends Key: the key is free after it, and Snapshot leaves it out
	Guard Guard  // what must hold at the end of the log; zero: nothing
	Data  []byte
}

// A Guard holds if the last record under Key stands at Seq; with Seq 0, if there is none or it is Final. The zero
// Guard always holds.
type Guard struct {
	Key string
	Seq uint64
}

// A Record is an [Entry] that stands in a log.
type Record struct {
	Pos   Position
	Time  time.Time // when the log took it: UTC, no monotonic part
	ID    string
	Key   string
	Final bool
	Data  []byte
}

// A Snapshot is the state of a log's keys at one position.
type Snapshot struct {
	// At is the position that Records are as of: Follow(At) continues it. First is the last record trimmed, so that
	// Read(First) returns all that is kept; its Seq is 0 if none was. Both are of this room's own records.
	At, First Position
	Records   []Record
}
