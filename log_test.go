package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/chat"
)

// testLog holds a log to its clauses. open returns two handles on one new store, for two nodes of a room; they may be the
// same value. tiny returns a log that keeps no more than 64 records.
func testLog(t *testing.T, open func() (a, b chat.Log), tiny func() chat.Log) {
	for _, c := range logCases {
		t.Run(c.clause+" "+strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			for _, err := range c.check(open, tiny) {
				t.Error(err)
			}
		})
	}
}

// checkLog is testLog for a program: it returns what is wrong, joined, each with its clause. With a clause given it looks
// at that alone.
func checkLog(open func() (a, b chat.Log), tiny func() chat.Log, clause string) error {
	var errs []error
	for _, c := range logCases {
		if clause == "" || clause == c.clause {
			errs = append(errs, c.check(open, tiny)...)
		}
	}
	return errors.Join(errs...)
}

// A logCase is one clause of [chat.Log], or a part of one.
type logCase struct {
	clause, name string
	run          func(p *logProbe)
}

// check runs the case on fresh logs.
func (c logCase) check(open func() (a, b chat.Log), tiny func() chat.Log) []error {
	p := &logProbe{clause: c.clause + " (" + c.name + ")", open: open, tiny: tiny}
	done := make(chan struct{})
	go func() { // fatalf ends it
		defer close(done)
		c.run(p)
	}()
	<-done
	p.stop()
	return p.errs
}

var logCases = []logCase{
	{"A1", "dedupe first", dedupeFirst},
	{"A1", "dedupe beyond retention", dedupeBeyondRetention},
	{"A2", "guard", guards},
	{"A2", "guard and adding are one step", oneWinner},
	{"A2", "no conflict but by the guard", noOtherConflict},
	{"A3", "order", realTimeOrder},
	{"A4", "seen", seenOnReturn},
	{"A5", "too large", tooLarge},
	{"A5", "refused is not there", refusedIsNotThere},
	{"A5", "an ended context is settled by a retry", settledByRetry},
	{"A6", "copies", copies},
	{"S1", "snapshot", snapshots},
	{"S1", "snapshot is of one position", snapshotOfOnePosition},
	{"S2", "trimming keeps keys", trimmingKeepsKeys},
	{"Read", "pages", readPages},
	{"Read", "errors", readErrors},
	{"Follow", "errors", followErrors},
	{"Follow", "in order, each once, no gap", followInOrder},
	{"F2", "records may be kept", followedMayBeKept},
	{"F3", "no call without records", followHasRecords},
	{"F4", "stop", followStops},
}

func dedupeFirst(p *logProbe) {
	a, b := p.open()
	first := p.append(a, chat.Entry{ID: "x", Key: "k", Data: []byte("1")})
	second := p.append(b, chat.Entry{ID: "y", Key: "k", Data: []byte("2")})
	for _, l := range []chat.Log{a, b} {
		// Its guard does not hold any more, and nobody looks: the first time it did.
		again := p.append(l, chat.Entry{ID: "x", Key: "k", Guard: chat.Guard{Key: "k"}, Data: []byte("1")})
		p.diff("the retry's record", first, again)
	}
	p.diff("the log", []chat.Record{first, second}, p.all(a))
}

func dedupeBeyondRetention(p *logProbe) {
	l := p.tiny()
	began := time.Now()
	first := p.append(l, chat.Entry{ID: "x", Data: []byte("1")})
	for i := range 4095 {
		p.append(l, chat.Entry{ID: fmt.Sprint(i), Data: []byte("2")})
	}
	if _, err := l.Read(context.Background(), chat.Position{Epoch: first.Pos.Epoch}, 1); !errors.Is(err, chat.ErrTrimmed) {
		p.fatalf("a tiny log of 4,096 records reads from its start: %v", err)
	}
	if time.Since(began) > 29*time.Second {
		p.fatalf("4,096 appends took %v: too long to tell", time.Since(began))
	}
	end := p.end(l)
	p.diff("the retry of the 4,096th last record", first, p.append(l, chat.Entry{ID: "x", Data: []byte("1")}))
	p.diff("the end after it", end, p.end(l))
}

func guards(p *logProbe) {
	a, b := p.open()
	held := p.append(a, chat.Entry{ID: "1", Key: "held"}).Pos.Seq
	old := p.append(b, chat.Entry{ID: "2", Key: "moved"}).Pos.Seq
	moved := p.append(a, chat.Entry{ID: "3", Key: "moved"}).Pos.Seq
	was := p.append(a, chat.Entry{ID: "4", Key: "ended"}).Pos.Seq
	ended := p.append(b, chat.Entry{ID: "5", Key: "ended", Final: true}).Pos.Seq
	for i, row := range []struct {
		guard chat.Guard
		holds bool
		why   string
	}{
		{chat.Guard{}, true, "the zero guard always holds"},
		{chat.Guard{Key: "free"}, true, "a key that was never used is free"},
		{chat.Guard{Key: "free", Seq: held}, false, "no record of that key stands there"},
		{chat.Guard{Key: "held", Seq: held}, true, "its last record"},
		{chat.Guard{Key: "held"}, false, "it is not free"},
		{chat.Guard{Key: "held", Seq: held + 1}, false, "a record stands there, of another key"},
		{chat.Guard{Key: "moved", Seq: moved}, true, "its last record"},
		{chat.Guard{Key: "moved", Seq: old}, false, "not its last record any more"},
		{chat.Guard{Key: "moved", Seq: ended + 1000}, false, "beyond the end"},
		{chat.Guard{Key: "ended"}, true, "a final record frees the key"},
		{chat.Guard{Key: "ended", Seq: was}, false, "not its last record: the final one is"},
		{chat.Guard{Key: "ended", Seq: ended}, true, "the final record is its last"},
	} {
		for j, l := range []chat.Log{a, b} {
			end := p.end(a)
			e := chat.Entry{ID: fmt.Sprintf("g%d-%d", i, j), Guard: row.guard}
			_, err := l.Append(context.Background(), e)
			switch {
			case row.holds && err != nil:
				p.errorf("guard %+v: %v: %s", row.guard, err, row.why)
			case !row.holds && !errors.Is(err, chat.ErrConflict):
				p.errorf("guard %+v: %v, not ErrConflict: %s", row.guard, err, row.why)
			case !row.holds && p.end(a) != end:
				p.errorf("guard %+v: refused, but the end has moved", row.guard)
			}
		}
	}
}

func oneWinner(p *logProbe) {
	a, b := p.open()
	for round := range 100 {
		key := fmt.Sprintf("k%d", round)
		var won atomic.Int32
		p.eight(a, b, func(n int, l chat.Log) {
			_, err := l.Append(context.Background(), chat.Entry{ID: fmt.Sprintf("%s-%d", key, n), Key: key, Guard: chat.Guard{Key: key}})
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, chat.ErrConflict):
				p.errorf("%v", err)
			}
		})
		if n := won.Load(); n != 1 {
			p.fatalf("round %d: %d of 8 took a key that was free once", round, n)
		}
	}
}

func noOtherConflict(p *logProbe) {
	a, b := p.open()
	p.eight(a, b, func(n int, l chat.Log) {
		guard := chat.Guard{Key: fmt.Sprint("own", n)} // nobody else's
		for i := range 50 {
			rec, err := l.Append(context.Background(), chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: guard.Key, Guard: guard})
			if err != nil {
				p.errorf("guard %+v, which holds: %v", guard, err)
				return
			}
			guard.Seq = rec.Pos.Seq
		}
	})
}

func realTimeOrder(p *logProbe) {
	a, b := p.open()
	var mu sync.Mutex
	var last uint64 // the greatest sequence that a call has returned
	for i := range 10 {
		e := chat.Entry{ID: fmt.Sprint(i)}
		rec := p.append([]chat.Log{a, b}[i%2], e)
		if rec.Pos.Seq <= last || rec.ID != e.ID {
			p.errorf("the call for %q, after %d was returned, got %q at %d", e.ID, last, rec.ID, rec.Pos.Seq)
		}
		last = max(last, rec.Pos.Seq)
	}
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 100 {
			mu.Lock()
			before := last
			mu.Unlock()
			rec, err := l.Append(context.Background(), chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)})
			if err != nil {
				p.errorf("%v", err)
				return
			}
			if rec.Pos.Seq <= before {
				p.errorf("a call that began after %d was returned got %d", before, rec.Pos.Seq)
			}
			mu.Lock()
			last = max(last, rec.Pos.Seq)
			mu.Unlock()
		}
	})
	recs := p.all(a)
	if len(recs) != 810 {
		p.errorf("%d records of 810", len(recs))
	}
	for i := 1; i < len(recs); i++ {
		if recs[i].Pos.Seq <= recs[i-1].Pos.Seq || recs[i].Pos.Epoch != recs[0].Pos.Epoch {
			p.errorf("%v follows %v", recs[i].Pos, recs[i-1].Pos)
		}
	}
}

func seenOnReturn(p *logProbe) {
	a, _ := p.open()
	f, g := p.follow(a, chat.Position{}), p.follow(a, chat.Position{})
	p.eight(a, a, func(n int, l chat.Log) {
		for i := range 50 {
			e := chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)}
			rec, err := l.Append(context.Background(), e)
			if err != nil {
				p.errorf("%v", err)
				return
			}
			if !f.has(rec.Pos) || !g.has(rec.Pos) {
				p.errorf("Append returned %v before a follower of the same value had it", rec.Pos)
			}
		}
	})
}

func tooLarge(p *logProbe) {
	a, _ := p.open()
	for _, row := range []struct {
		entry chat.Entry
		err   error
		why   string
	}{
		{chat.Entry{}, chat.ErrTooLarge, "an ID has at least one byte"},
		{chat.Entry{ID: "i"}, nil, "the shortest ID"},
		{chat.Entry{ID: strings.Repeat("i", 128)}, nil, "the longest ID"},
		{chat.Entry{ID: strings.Repeat("i", 129)}, chat.ErrTooLarge, "a byte more"},
		{chat.Entry{ID: "k", Key: strings.Repeat("k", 512)}, nil, "the longest key"},
		{chat.Entry{ID: "l", Key: strings.Repeat("k", 513)}, chat.ErrTooLarge, "a byte more"},
	} {
		end := p.end(a)
		_, err := a.Append(context.Background(), row.entry)
		if !errors.Is(err, row.err) {
			p.errorf("an ID of %d bytes, a key of %d: %v, not %v: %s", len(row.entry.ID), len(row.entry.Key), err, row.err, row.why)
		}
		if (p.end(a) == end) != (err != nil) {
			p.errorf("an ID of %d bytes, a key of %d: %v, and the end went from %v to %v", len(row.entry.ID), len(row.entry.Key), err, end, p.end(a))
		}
	}
}

func refusedIsNotThere(p *logProbe) {
	a, b := p.open()
	p.append(a, chat.Entry{ID: "1", Key: "k"})
	e := chat.Entry{ID: "2", Key: "k", Guard: chat.Guard{Key: "k"}, Data: []byte("x")}
	if _, err := b.Append(context.Background(), e); !errors.Is(err, chat.ErrConflict) {
		p.errorf("%v, not ErrConflict", err)
	}
	p.append(a, chat.Entry{ID: "3", Key: "k", Final: true})
	if recs := p.all(a); len(recs) != 2 {
		p.errorf("the log holds %d records, and 2 were not refused", len(recs))
	}
	// It was not remembered either: now it is a new entry.
	if rec := p.append(b, e); rec.Pos != p.end(a) {
		p.errorf("appended after a refusal: %v, and the end is at %v", rec.Pos, p.end(a))
	}
}

func settledByRetry(p *logProbe) {
	a, b := p.open()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Append(ended, chat.Entry{ID: "e"}); !errors.Is(err, chat.ErrUnknown) || !errors.Is(err, context.Canceled) {
		p.errorf("with an ended context: %v, which is not both ErrUnknown and the context's", err)
	}
	p.append(a, chat.Entry{ID: "e"})
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 50 {
			ctx, cancel := context.WithCancel(context.Background())
			go cancel() // at any time during the call
			e := chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)}
			rec, err := l.Append(ctx, e)
			if err != nil && !(errors.Is(err, chat.ErrUnknown) && errors.Is(err, context.Canceled)) {
				p.errorf("cancelled during the call: %v", err)
			}
			again, err2 := l.Append(context.Background(), e)
			if err2 != nil || err == nil && again.Pos != rec.Pos {
				p.errorf("first %v, %v; then %v, %v", rec.Pos, err, again.Pos, err2)
			}
		}
	})
	seen := map[string]int{}
	for _, rec := range p.all(a) {
		seen[rec.ID]++
	}
	for id, n := range seen {
		if n != 1 {
			p.errorf("%s stands in the log %d times", id, n)
		}
	}
	if len(seen) != 401 {
		p.errorf("%d entries are in the log, of 401", len(seen))
	}
}

func copies(p *logProbe) {
	a, b := p.open()
	f := p.follow(a, chat.Position{})
	data := []byte("data")
	e := chat.Entry{ID: "1", Key: "k", Data: data}
	rec := p.append(a, e)
	p.diff("the caller's entry", chat.Entry{ID: "1", Key: "k", Data: []byte("data")}, e)
	copy(data, "XXXX")
	want := []chat.Record{{Pos: rec.Pos, Time: rec.Time, ID: "1", Key: "k", Data: []byte("data")}}
	p.diff("the returned record", want, []chat.Record{rec})
	p.diff("the log", want, p.all(a))
	p.diff("what a follower got", want, f.wait(1))
	p.diff("the snapshot", want, p.snapshot(b).Records)
	p.diff("the retry's record", want, []chat.Record{p.append(b, e)})
}

func snapshots(p *logProbe) {
	a, b := p.open()
	s := p.snapshot(b)
	if len(s.Records) != 0 || s.At.Seq != 0 || s.First != s.At || s.At.Epoch == 0 {
		p.errorf("of an empty log: %+v", s)
	}
	var recs []chat.Record
	for i, e := range []chat.Entry{
		{Key: "a"}, {Key: "b"}, {}, {Key: "c"}, {Key: "a"}, {Key: "b", Final: true}, {Key: "d", Final: true}, {Key: "c", Final: true}, {Key: "c"}, {},
	} {
		e.ID, e.Data = fmt.Sprint(i), []byte{byte(i)}
		recs = append(recs, p.append([]chat.Log{a, b}[i%2], e))
	}
	want := chat.Snapshot{At: recs[9].Pos, First: s.First, Records: []chat.Record{recs[4], recs[8]}}
	p.diff("by one handle", want, p.snapshot(a))
	p.diff("by the other", want, p.snapshot(b))
}

func snapshotOfOnePosition(p *logProbe) {
	a, b := p.open()
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 25 {
			rec := p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: fmt.Sprint((n + i) % 10), Final: i%3 == 0})
			other := []chat.Log{b, a}[n%2]
			s := p.snapshot(other)
			if s.At.Seq < rec.Pos.Seq {
				p.errorf("%v was returned, and a snapshot after that is of %v", rec.Pos, s.At)
			}
			p.diff("the snapshot against the log's keys", lastOfKeys(p.upTo(other, s.At)), s.Records)
		}
	})
}

// lastOfKeys is what a snapshot means.
func lastOfKeys(recs []chat.Record) []chat.Record {
	var last []chat.Record
	for _, rec := range recs {
		if rec.Key != "" {
			last = slices.DeleteFunc(last, func(r chat.Record) bool { return r.Key == rec.Key })
			if !rec.Final {
				last = append(last, rec)
			}
		}
	}
	return last
}

func trimmingKeepsKeys(p *logProbe) {
	l := p.tiny()
	p.append(l, chat.Entry{ID: "ended", Key: "ended", Data: []byte("1")})
	live := p.append(l, chat.Entry{ID: "live", Key: "live", Data: []byte("2")})
	p.append(l, chat.Entry{ID: "ended!", Key: "ended", Final: true})
	for i := range 200 {
		p.append(l, chat.Entry{ID: fmt.Sprint(i)})
	}
	s := p.snapshot(l)
	if s.First.Seq < live.Pos.Seq || s.First.Seq >= s.At.Seq {
		p.errorf("after 203 records, of which a tiny log keeps at most 64, First is %v and At %v", s.First, s.At)
	}
	p.diff("the snapshot", []chat.Record{live}, s.Records)
	if kept := p.read(l, s.First, 1000); len(kept) == 0 || len(kept) > 64 || kept[len(kept)-1].Pos != s.At {
		p.errorf("%d records follow First", len(kept))
	}
	if _, err := l.Append(context.Background(), chat.Entry{ID: "again", Key: "live", Guard: chat.Guard{Key: "live"}}); !errors.Is(err, chat.ErrConflict) {
		p.errorf("a key whose record is trimmed seems free: %v", err)
	}
	p.append(l, chat.Entry{ID: "moved", Key: "live", Guard: chat.Guard{Key: "live", Seq: live.Pos.Seq}})
	p.append(l, chat.Entry{ID: "new", Key: "ended", Guard: chat.Guard{Key: "ended"}})
}

func readPages(p *logProbe) {
	a, b := p.open()
	start := p.end(b)
	p.diff("an empty log", 0, len(p.read(b, start, 10)))
	var recs []chat.Record
	for i := range 10 {
		recs = append(recs, p.append(a, chat.Entry{ID: fmt.Sprint(i), Key: "k", Final: i == 3, Data: []byte{byte(i)}}))
		if tm := recs[i].Time; tm.Location() != time.UTC || strings.Contains(tm.String(), "m=") || time.Since(tm).Abs() > time.Hour {
			p.errorf("time %v: not UTC, not plain, or not now", tm)
		}
	}
	for _, after := range []chat.Position{{}, start} {
		p.diff("from the start", recs, p.read(b, after, 1000))
	}
	for i := range recs {
		p.diff("a page", recs[i+1:min(i+4, 10)], p.read(b, recs[i].Pos, 3))
	}
	p.diff("none asked for", 0, len(p.read(a, start, 0)))
	p.diff("less than none asked for", 0, len(p.read(a, start, -1)))
}

func readErrors(p *logProbe) {
	for _, row := range p.badPositions() {
		recs, err := row.log.Read(context.Background(), row.after, 10)
		if !errors.Is(err, row.err) || len(recs) > 0 {
			p.errorf("Read(%v): %d records and %v, not %v: %s", row.after, len(recs), err, row.err, row.why)
		}
	}
	a, _ := p.open()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Read(ended, chat.Position{}, 1); !errors.Is(err, context.Canceled) {
		p.errorf("Read with an ended context: %v", err)
	}
	if _, err := a.Snapshot(ended); !errors.Is(err, context.Canceled) {
		p.errorf("Snapshot with an ended context: %v", err)
	}
}

func followErrors(p *logProbe) {
	rows := p.badPositions()
	for _, row := range rows {
		stop, err := row.log.Follow(row.after, func(recs []chat.Record, err error) {
			p.errorf("Follow(%v) calls apply with %d records, %v", row.after, len(recs), err)
		})
		if !errors.Is(err, row.err) {
			p.errorf("Follow(%v): %v, not %v: %s", row.after, err, row.err, row.why)
			if err == nil {
				stop()
			}
		}
	}
	for _, row := range rows {
		p.append(row.log, chat.Entry{ID: row.why}) // for nobody
	}
}

type badPosition struct {
	log   chat.Log
	after chat.Position
	err   error
	why   string
}

// badPositions are those that Read and Follow refuse.
func (p *logProbe) badPositions() []badPosition {
	a, _ := p.open()
	at := p.append(a, chat.Entry{ID: "1"}).Pos
	tiny := p.tiny()
	for i := range 100 {
		p.append(tiny, chat.Entry{ID: fmt.Sprint(i)})
	}
	s := p.snapshot(tiny)
	return []badPosition{
		{a, chat.Position{Epoch: at.Epoch + 1, Seq: at.Seq}, chat.ErrEpoch, "another life"},
		{a, chat.Position{Epoch: at.Epoch ^ 1, Seq: 0}, chat.ErrEpoch, "the start of another life"},
		{a, chat.Position{Epoch: 0, Seq: at.Seq}, chat.ErrEpoch, "a sequence of no life"},
		{a, chat.Position{Epoch: at.Epoch, Seq: at.Seq + 1}, chat.ErrAhead, "the next one, which is not there yet"},
		{a, chat.Position{Epoch: at.Epoch, Seq: at.Seq + 100}, chat.ErrAhead, "beyond the end"},
		{tiny, chat.Position{}, chat.ErrTrimmed, "the start is gone"},
		{tiny, chat.Position{Epoch: s.At.Epoch}, chat.ErrTrimmed, "the start of this life is gone"},
		{tiny, chat.Position{Epoch: s.At.Epoch, Seq: s.First.Seq - 1}, chat.ErrTrimmed, "one record after it is gone"},
	}
}

func followInOrder(p *logProbe) {
	a, b := p.open()
	var mid chat.Position
	for i := range 10 {
		if rec := p.append(a, chat.Entry{ID: fmt.Sprint(i), Data: []byte{byte(i)}}); i == 4 {
			mid = rec.Pos
		}
	}
	followers := []*logFollower{p.follow(a, chat.Position{}), p.follow(b, mid), p.follow(a, p.end(a))}
	from := []int{0, 5, 10}
	var mu sync.Mutex
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 50 {
			p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Data: []byte{byte(n), byte(i)}})
			if i == 25 { // while records come in
				mu.Lock()
				followers, from = append(followers, p.follow(l, mid)), append(from, 5)
				mu.Unlock()
			}
		}
	})
	recs := p.all(a)
	if len(recs) != 410 {
		p.fatalf("%d records, of 410", len(recs))
	}
	for i, f := range followers {
		p.diff("what a follower got, against the log", recs[from[i]:], f.wait(410-from[i]))
	}
}

func followedMayBeKept(p *logProbe) {
	a, _ := p.open()
	f := p.follow(a, chat.Position{})
	for i := range 200 {
		p.append(a, chat.Entry{ID: fmt.Sprint(i), Data: []byte(fmt.Sprintf("data of %d", i))})
	}
	for i, rec := range f.wait(200) {
		p.diff("a kept record's data", fmt.Sprintf("data of %d", i), string(rec.Data))
	}
}

func followHasRecords(p *logProbe) {
	a, b := p.open()
	f, g := p.follow(a, chat.Position{}), p.follow(b, chat.Position{})
	p.append(a, chat.Entry{ID: "1"})
	p.append(b, chat.Entry{ID: "1"})                                                                   // a retry is not a record
	_, err := b.Append(context.Background(), chat.Entry{ID: "2", Guard: chat.Guard{Key: "k", Seq: 1}}) // nor is a refusal
	if !errors.Is(err, chat.ErrConflict) {
		p.errorf("%v", err)
	}
	p.append(b, chat.Entry{ID: "3"})
	f.wait(2)
	g.wait(2)
}

func followStops(p *logProbe) {
	a, b := p.open()
	for round := range 20 {
		f := p.follow(a, p.end(a))
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for i := range 20 {
					p.append([]chat.Log{a, b}[n%2], chat.Entry{ID: fmt.Sprintf("%d-%d-%d", round, n, i)})
				}
			})
		}
		f.wait(1)
		f.stop() // while records come in
		f.stopped.Store(true)
		f.stop()
		wg.Wait()
	}
	f := p.follow(a, p.end(a))
	f.stop()
	f.stopped.Store(true)
	p.append(a, chat.Entry{ID: "after"})
	p.diff("records after stop", 0, len(f.wait(0)))
}
