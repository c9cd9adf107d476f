package chattest_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"example.com/chat"
	"example.com/chat/chattest"
)

// A faultyStore is a store of one log, written to be looked through: a right one, apart from one fault. All that waits in
// it waits as testing/synctest wants it, so that what a fault lets happen in between happens in virtual time, always.
//
// Its positions skip two, as they do where rooms share a store.
type faultyStore struct {
	fault   fault
	max     int           // how many records are kept; 0: all
	release chan struct{} // closed when the test is over: what hangs is let go

	lock    chan struct{} // guards the fields below, and is held while followers are called
	seq     uint64        // the last one given out
	recs    []chat.Record // all that were ever added
	trimmed int           // how many of recs
	ids     map[string]chat.Record
	by      map[string]*faultyLog // who added an ID
	refused map[string]bool       // IDs
	logs    []*faultyLog
	tails   []*faultyTail
	appends int
	telling int // calls that have told followers, and have not returned
	ended   bool
}

// A faultyLog is a handle.
type faultyLog struct {
	*faultyStore
	stale   chat.Snapshot // as of its own last append
	advance uint64        // a position taken in advance
}

type faultyTail struct {
	log   *faultyLog
	apply func([]chat.Record, error)
	queue chan telling // what is still to be told, where that is the fault
	done  chan struct{}
	stops int
	held  []chat.Record // what is told after the next one
	buf   []byte
}

type telling struct {
	recs []chat.Record
	err  error
}

const (
	epoch = 77
	pause = time.Microsecond // of virtual time: everybody else goes on
)

// faultyStores says how to open such logs.
func faultyStores(f fault, release chan struct{}) chattest.LogStore {
	open := func(max int) *faultyStore {
		return &faultyStore{
			fault: f, max: max, release: release, lock: make(chan struct{}, 1),
			ids: map[string]chat.Record{}, by: map[string]*faultyLog{}, refused: map[string]bool{},
		}
	}
	return chattest.LogStore{
		Open: func() (a, b chat.Log, cleanup func(), err error) {
			s := open(0)
			s.hangIf(openHangs)
			return s.handle(), s.handle(), func() { s.hangIf(cleanupHangs) }, nil
		},
		Tiny:  func() (chat.Log, func(), error) { return open(20).handle(), nil, nil },
		Close: func(l chat.Log) { l.(*faultyLog).end() },
	}
}

func (s *faultyStore) handle() *faultyLog {
	l := &faultyLog{faultyStore: s}
	s.logs = append(s.logs, l)
	return l
}

func (s *faultyStore) enter(ctx context.Context) error {
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *faultyStore) leave() { <-s.lock }

// elsewhere lets the others go on. The lock is held before and after.
func (s *faultyStore) elsewhere() {
	s.leave()
	time.Sleep(pause)
	s.lock <- struct{}{}
}

// hang never returns.
func (s *faultyStore) hang() {
	<-s.release
	runtime.Goexit()
}

func (s *faultyStore) hangIf(f fault) {
	if s.fault == f {
		s.hang()
	}
}

func (l *faultyLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	l.hangIf(appendHangs)
	if err := ctx.Err(); err != nil && l.fault == contextIsNotUnknown {
		return chat.Record{}, err
	} else if err != nil {
		return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, err)
	}
	if l.fault == longKeyIsCut {
		e.Key = e.Key[:min(len(e.Key), 512)]
	}
	if len(e.ID) < 1 || len(e.ID) > 128 || len(e.Key) > 512 {
		return chat.Record{}, chat.ErrTooLarge
	}
	if err := l.enter(ctx); err != nil {
		return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, err)
	}
	defer l.leave()
	l.appends++
	if l.fault == guardFirst && !l.holds(e.Guard) {
		return chat.Record{}, chat.ErrConflict
	}
	if l.ended && l.fault == endedDeniesAll {
		return chat.Record{}, chat.ErrClosed
	}
	if rec, ok := l.remembered(e.ID); ok {
		return rec, nil
	}
	if l.ended {
		return chat.Record{}, chat.ErrClosed
	}
	if !l.holds(e.Guard) || l.fault == refusedForEver && l.refused[e.ID] {
		l.refused[e.ID] = true
		switch l.fault {
		case refusedIsAdded:
			l.add(e)
		case refusedIsTold:
			l.tell()
		}
		return chat.Record{}, chat.ErrConflict
	}
	if seq := l.seq; e.Guard.Key != "" && (l.fault == guardNotAtomic || l.fault == contentionIsConflict) {
		l.elsewhere()
		if l.fault == contentionIsConflict && l.seq != seq {
			return chat.Record{}, chat.ErrConflict
		}
	}
	rec := l.add(e)
	switch l.fault {
	case snapshotIsStale:
		l.stale = l.snapshot()
	case changesData:
		clear(e.Data)
	case answersLess:
		rec.Key = ""
	}
	return rec, nil
}

func (l *faultyLog) remembered(id string) (chat.Record, bool) {
	rec, ok := l.ids[id]
	switch l.fault {
	case noDedupe:
		return rec, false
	case dedupeByHandle:
		return rec, ok && l.by[id] == l
	case dedupeUntilTrimmed:
		return rec, ok && (l.trimmed == 0 || rec.Pos.Seq > l.recs[l.trimmed-1].Pos.Seq)
	}
	return rec, ok
}

func (s *faultyStore) holds(g chat.Guard) bool {
	if s.fault == guardIgnored {
		return true
	}
	if g.Key == "" {
		return g.Seq == 0
	}
	recs := s.recs
	if s.fault == trimmedKeyIsFree {
		recs = recs[s.trimmed:]
	}
	for _, rec := range slices.Backward(recs) {
		if rec.Key == g.Key {
			return rec.Pos.Seq == g.Seq || g.Seq == 0 && rec.Final && s.fault != finalKeepsKey
		}
	}
	return g.Seq == 0
}

// add adds a record and tells the followers.
func (l *faultyLog) add(e chat.Entry) chat.Record {
	rec := chat.Record{
		Pos: chat.Position{Epoch: epoch}, Time: time.Now().UTC().Round(0),
		ID: e.ID, Key: e.Key, Final: e.Final, Data: bytes.Clone(e.Data),
	}
	if l.fault == keepsData {
		rec.Data = e.Data
	}
	switch {
	case l.fault != positionsInAdvance || e.Key != "":
		l.seq += 3
		rec.Pos.Seq = l.seq
	case l.advance != 0:
		rec.Pos.Seq, l.advance = l.advance, 0
	default:
		l.seq += 6
		rec.Pos.Seq, l.advance = l.seq-3, l.seq
	}
	many := e.Key == "" && l.appends%10 == 0
	if l.fault == lost && many && l.isB() {
		return rec
	}
	l.put(rec)
	l.ids[e.ID], l.by[e.ID] = rec, l
	if l.fault == doubled && many && l.isB() {
		again := rec
		l.seq += 3
		again.Pos.Seq = l.seq
		l.put(again)
	}
	return rec
}

// isB reports whether l is the second of two handles.
func (l *faultyLog) isB() bool { return slices.Index(l.logs, l) == 1 }

func (s *faultyStore) put(rec chat.Record) {
	s.recs = append(s.recs, rec)
	if s.fault == positionsInAdvance {
		slices.SortFunc(s.recs, func(a, b chat.Record) int { return cmp.Compare(a.Pos.Seq, b.Pos.Seq) })
	}
	if s.max > 0 {
		s.trimmed = max(0, len(s.recs)-s.max)
	}
	s.tell(rec)
}

func (l *faultyLog) Snapshot(ctx context.Context) (chat.Snapshot, error) {
	l.hangIf(snapshotHangs)
	if err := ctx.Err(); err != nil {
		return chat.Snapshot{}, err
	}
	if err := l.enter(ctx); err != nil {
		return chat.Snapshot{}, err
	}
	defer l.leave()
	if l.telling > 0 && l.fault == hangsWhileTelling {
		l.hang()
	}
	if l.fault == snapshotIsStale && l.stale.At.Epoch != 0 {
		return l.stale, nil
	}
	snap := l.snapshot()
	if l.fault == snapshotOfTwoPositions {
		l.elsewhere()
		snap.Records = l.snapshot().Records
	}
	return snap, nil
}

func (s *faultyStore) snapshot() chat.Snapshot {
	snap := chat.Snapshot{At: chat.Position{Epoch: epoch}, First: chat.Position{Epoch: epoch}}
	last := map[string]uint64{}
	for _, rec := range s.recs {
		snap.At, last[rec.Key] = rec.Pos, rec.Pos.Seq
	}
	if s.trimmed > 0 && s.fault != firstStays {
		snap.First = s.recs[s.trimmed-1].Pos
	}
	for i, rec := range s.recs {
		if rec.Key != "" && last[rec.Key] == rec.Pos.Seq && (!rec.Final || s.fault == snapshotHasFinals) &&
			(i >= s.trimmed || s.fault != trimmedLeavesSnapshot) {
			snap.Records = append(snap.Records, rec)
		}
	}
	if s.fault == snapshotUnordered {
		slices.Reverse(snap.Records)
	}
	return snap
}

func (l *faultyLog) Read(ctx context.Context, after chat.Position, n int) ([]chat.Record, error) {
	l.hangIf(readHangs)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	switch {
	case l.fault == readWaits && len(l.recs) == 0:
		l.hang()
	case l.fault == readPanics && n < 0:
		panic("a page of less than nothing")
	case l.fault == readTakesAnyEpoch:
		after.Epoch = epoch
	}
	recs, err := l.after(after, l.fault == readSkipsTrimmed)
	switch {
	case l.fault == readTakesAhead && err == chat.ErrAhead:
		return nil, nil
	case err != nil:
		return nil, err
	case l.fault == readIncludes && after.Seq > 0 && n == 3:
		recs = l.recs[len(l.recs)-len(recs)-1:]
	case l.fault == readGivesMore && n == 3:
		n = 4
	}
	recs = slices.Clone(recs[:min(len(recs), max(n, 0))])
	if l.fault == readReverses && n == 3 {
		slices.Reverse(recs)
	}
	return recs, nil
}

// after returns the records after p.
func (s *faultyStore) after(p chat.Position, skip bool) ([]chat.Record, error) {
	if !p.IsZero() && p.Epoch != epoch {
		return nil, chat.ErrEpoch
	}
	i, ok := slices.BinarySearchFunc(s.recs, p.Seq, func(r chat.Record, seq uint64) int { return cmp.Compare(r.Pos.Seq, seq) })
	switch {
	case ok:
		i++
	case p.Seq != 0:
		return nil, chat.ErrAhead
	}
	if i < s.trimmed && !skip {
		return nil, chat.ErrTrimmed
	}
	return s.recs[max(i, s.trimmed):], nil
}

func (l *faultyLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	l.hangIf(followHangs)
	l.lock <- struct{}{}
	defer l.leave()
	if l.ended {
		return nil, chat.ErrClosed
	}
	past, err := l.after(after, l.fault == followSkipsTrimmed)
	if err != nil {
		return nil, err
	}
	t := &faultyTail{log: l, apply: apply}
	if l.fault == toldLater || l.fault == secondToldLater && len(l.tails) > 0 {
		t.queue, t.done = make(chan telling, 1000), make(chan struct{})
		go t.tellLater()
	}
	if len(past) > 0 {
		t.give(past, nil)
		if l.fault == betweenIsLost {
			l.elsewhere()
		}
	}
	l.tails = append(l.tails, t)
	return t.stop, nil
}

// tell tells all followers.
func (s *faultyStore) tell(recs ...chat.Record) {
	for _, t := range s.tails {
		t.give(recs, nil)
		if t.stops > 0 && s.fault == stopLetsOneMore {
			s.tails = slices.DeleteFunc(slices.Clone(s.tails), func(u *faultyTail) bool { return u == t })
		}
	}
	if len(s.tails) > 0 && s.fault == hangsWhileTelling {
		s.telling++
		s.elsewhere()
		s.telling--
	}
}

// give tells one follower, or has it told. It works on a slice of its own, and spoils it, for it is valid during the call
// only.
func (t *faultyTail) give(recs []chat.Record, err error) {
	recs = slices.Clone(recs)
	if t.queue != nil {
		t.queue <- telling{recs, err}
		return
	}
	onB, many := t.log.isB(), len(recs) == 1 && recs[0].Pos.Seq > 30 && recs[0].Pos.Seq%7 == 0
	switch {
	case t.log.fault == toldNot && onB && many:
	case t.log.fault == toldTwice && onB && many:
		t.apply(slices.Clone(recs), err)
		t.apply(recs, err)
	case t.log.fault == toldInAnotherOrder && onB && many && t.held == nil:
		t.held = recs
	case t.log.fault == pastToldAtOnce && len(recs) > 1:
		var wg sync.WaitGroup
		wg.Go(func() { t.apply(recs[:1], nil) })
		wg.Go(func() { t.apply(recs[1:], nil) })
		wg.Wait()
	case t.log.fault == toldInABuffer:
		t.buf = t.buf[:0]
		for i, rec := range recs {
			n := copy(t.buf[:cap(t.buf)], rec.Data)
			if n < len(rec.Data) {
				t.buf = append(make([]byte, 0, 100), rec.Data...)
			}
			recs[i].Data = t.buf[:len(rec.Data)]
		}
		t.apply(recs, err)
	default:
		t.apply(recs, err)
		if t.held != nil {
			t.apply(t.held, nil)
			t.held = nil
		}
	}
	clear(recs)
}

func (t *faultyTail) tellLater() {
	defer close(t.done)
	for c := range t.queue {
		time.Sleep(pause)
		t.apply(c.recs, c.err)
	}
}

func (t *faultyTail) stop() {
	l := t.log
	l.hangIf(stopHangs)
	switch l.fault {
	case stopDoesNothing:
		return
	case stopDoesNotWait:
		go t.remove()
		return
	}
	t.remove()
}

func (t *faultyTail) remove() {
	l := t.log
	l.lock <- struct{}{}
	defer l.leave()
	t.stops++
	if t.stops > 1 && l.fault == stopTwicePanics {
		panic("close of closed channel")
	}
	if t.stops == 1 && l.fault == stopLetsOneMore {
		return
	}
	l.tails = slices.DeleteFunc(slices.Clone(l.tails), func(u *faultyTail) bool { return u == t })
	if t.queue != nil && t.stops == 1 {
		close(t.queue)
		<-t.done
	}
}

// end ends the log under its followers.
func (l *faultyLog) end() {
	l.hangIf(endHangs)
	l.lock <- struct{}{}
	defer l.leave()
	l.ended = true
	for _, t := range l.tails {
		last := chat.Record{Pos: chat.Position{Epoch: epoch, Seq: l.seq}}
		switch l.fault {
		case lastCallMissing:
		case lastCallTwice:
			t.give(nil, chat.ErrClosed)
			t.give(nil, chat.ErrClosed)
		case lastCallWithRecords:
			t.give([]chat.Record{last}, chat.ErrClosed)
		case lastCallWithoutReason:
			t.give(nil, nil)
		case lastCallOfTheNetwork:
			t.give(nil, io.ErrUnexpectedEOF)
		default:
			t.give(nil, chat.ErrClosed)
		}
	}
	if l.fault != lastCallMissing {
		l.tails = nil
	}
}
