package chattest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/chat"
)

// Each case looks at its own clause alone, and passes over what another one is broken by: so that what is told is where
// the fault lies.

func appendsEachOnce(p *logProbe) {
	a, b := p.open()
	var mu sync.Mutex
	returned := map[string]chat.Record{}
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 40 {
			e := chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Data: fmt.Appendf(nil, "%d", i)}
			if i%4 == 0 {
				e.Key, e.Final = fmt.Sprint("k", n), i%8 == 0
			}
			want := chat.Record{ID: e.ID, Key: e.Key, Final: e.Final, Data: bytes.Clone(e.Data)}
			rec, err := p.try(l, e)
			if err != nil {
				p.errorf("Append(%+v): %v", e, err)
				return
			}
			want.Pos, want.Time = rec.Pos, rec.Time
			p.diff("the record of "+e.ID, want, rec)
			mu.Lock()
			returned[e.ID] = want
			mu.Unlock()
		}
	})
	there := map[string]chat.Record{}
	for _, rec := range p.all(a) {
		if _, twice := there[rec.ID]; twice {
			p.errorf("%s is in the log twice", rec.ID)
		}
		there[rec.ID] = rec
	}
	p.diff("the log, against what Append returned", returned, there)
}

func dedupesFirst(p *logProbe) {
	a, b := p.open()
	first := p.append(a, chat.Entry{ID: "x", Key: "k", Data: []byte("1")})
	second := p.append(b, chat.Entry{ID: "y", Key: "k", Data: []byte("2")})
	for _, l := range []chat.Log{a, b} {
		// Its guard does not hold any more, and nobody looks: the first time it did.
		again, err := p.try(l, chat.Entry{ID: "x", Key: "k", Guard: chat.Guard{Key: "k"}, Data: []byte("1")})
		if err != nil {
			p.errorf("the retry of what is in the log: %v", err)
			continue
		}
		p.diff("the retry's record", first, again)
	}
	p.diff("the log", []chat.Record{first, second}, p.all(a))
}

func dedupesBeyondRetention(p *logProbe) {
	l := p.tiny()
	e := chat.Entry{ID: "x", Data: []byte("1")}
	began := time.Now()
	first := p.append(l, e)
	var last atomic.Uint64
	p.eight(l, l, func(n int, l chat.Log) { // 4,095 more, unless that takes so long that the 30 s may be over
		for i := range 512 - n/7 {
			if time.Since(began) > 20*time.Second {
				return
			}
			rec := p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)})
			for {
				was := last.Load()
				if rec.Pos.Seq <= was || last.CompareAndSwap(was, rec.Pos.Seq) {
					break
				}
			}
		}
	})
	again, err := p.try(l, e)
	if time.Since(began) > 30*time.Second {
		return
	}
	if err != nil {
		p.fatalf("the retry of what is trimmed: %v", err)
	}
	p.diff("the retry of what is trimmed", first, again)
	if recs := p.read(l, chat.Position{Epoch: first.Pos.Epoch, Seq: last.Load()}, 10); len(recs) > 0 {
		p.errorf("the retry of what is trimmed has added %+v", recs)
	}
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
		{chat.Guard{Key: "held", Seq: old}, false, "a record stands there, of another key"},
		{chat.Guard{Key: "moved", Seq: moved}, true, "its last record"},
		{chat.Guard{Key: "moved", Seq: old}, false, "not its last record any more"},
		{chat.Guard{Key: "moved", Seq: ended + 1000}, false, "beyond the end"},
		{chat.Guard{Key: "ended"}, true, "a final record frees the key"},
		{chat.Guard{Key: "ended", Seq: was}, false, "not its last record: the final one is"},
		{chat.Guard{Key: "ended", Seq: ended}, true, "the final record is its last"},
	} {
		for j, l := range []chat.Log{a, b} {
			p.guarded(l, chat.Entry{ID: fmt.Sprintf("g%d-%d", i, j), Guard: row.guard}, row.holds, row.why)
		}
	}
	e := chat.Entry{ID: "again", Guard: chat.Guard{Key: "held"}}
	p.guarded(a, e, false, "it is not free")
	p.append(a, chat.Entry{ID: "6", Key: "held", Final: true})
	p.guarded(a, e, true, "it was refused, and the same entry may come again")
}

// guarded reports whether e is taken if its guard holds, and else not.
func (p *logProbe) guarded(l chat.Log, e chat.Entry, holds bool, why string) {
	switch _, err := p.try(l, e); {
	case holds && err != nil:
		p.errorf("guard %+v: %v: %s", e.Guard, err, why)
	case !holds && !errors.Is(err, chat.ErrConflict):
		p.errorf("guard %+v: %v, not ErrConflict: %s", e.Guard, err, why)
	}
}

func guardsTrimmed(p *logProbe) {
	l := p.tiny()
	p.append(l, chat.Entry{ID: "1", Key: "ended"})
	live := p.append(l, chat.Entry{ID: "2", Key: "live"}).Pos.Seq
	p.append(l, chat.Entry{ID: "3", Key: "ended", Final: true})
	for i := range 100 {
		p.append(l, chat.Entry{ID: fmt.Sprint("t", i)})
	}
	p.guarded(l, chat.Entry{ID: "4", Guard: chat.Guard{Key: "live"}}, false, "its record is trimmed, and it is still held")
	p.guarded(l, chat.Entry{ID: "5", Guard: chat.Guard{Key: "live", Seq: live}}, true, "its record is trimmed, and still its last")
	p.guarded(l, chat.Entry{ID: "6", Guard: chat.Guard{Key: "ended"}}, true, "a final record frees the key, trimmed or not")
}

func guardsInOneStep(p *logProbe) {
	a, b := p.open()
	for round := range 40 {
		key := fmt.Sprintf("k%d", round)
		var won atomic.Int32
		p.eight(a, b, func(n int, l chat.Log) {
			_, err := p.try(l, chat.Entry{ID: fmt.Sprintf("%s-%d", key, n), Key: key, Guard: chat.Guard{Key: key}})
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

func conflictsByGuard(p *logProbe) {
	a, b := p.open()
	p.eight(a, b, func(n int, l chat.Log) {
		guard := chat.Guard{Key: fmt.Sprint("own", n)} // nobody else's
		for i := range 40 {
			rec, err := p.try(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: guard.Key, Guard: guard})
			if err != nil {
				p.errorf("guard %+v, which holds: %v", guard, err)
				return
			}
			guard.Seq = rec.Pos.Seq
		}
	})
}

func ordersByTime(p *logProbe) {
	a, b := p.open()
	var mu sync.Mutex
	var last uint64 // the greatest sequence that a call has returned
	add := func(l chat.Log, e chat.Entry) {
		mu.Lock()
		before := last
		mu.Unlock()
		rec := p.append(l, e)
		if rec.Pos.Seq <= before {
			p.errorf("a call that began after %d was returned got %d", before, rec.Pos.Seq)
		}
		mu.Lock()
		last = max(last, rec.Pos.Seq)
		mu.Unlock()
	}
	for i := range 10 { // in one line of calls first
		add([]chat.Log{a, b}[i%2], chat.Entry{ID: fmt.Sprint(i)})
	}
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 50 {
			add(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)})
		}
	})
	recs := p.all(a)
	for i := 1; i < len(recs); i++ {
		if recs[i].Pos.Seq <= recs[i-1].Pos.Seq || recs[i].Pos.Epoch != recs[0].Pos.Epoch {
			p.errorf("%v follows %v", recs[i].Pos, recs[i-1].Pos)
		}
	}
}

func showsBeforeReturn(p *logProbe) {
	a, _ := p.open()
	f, g := p.follow(a, chat.Position{}), p.follow(a, chat.Position{})
	p.eight(a, a, func(n int, l chat.Log) {
		for i := range 40 {
			var rec chat.Record
			var err error
			var seen bool
			p.call("Append", func() {
				rec, err = l.Append(p.ctx, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)})
				seen = f.has(rec.Pos) && g.has(rec.Pos) // at once
			})
			if err != nil {
				p.errorf("%v", err)
				return
			}
			if !seen {
				p.errorf("Append returned %v before a follower of the same value had it", rec.Pos)
			}
		}
	})
}

func refusesTooLarge(p *logProbe) {
	a, _ := p.open()
	p.append(a, chat.Entry{ID: "first"})
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
		before := len(p.all(a))
		_, err := p.try(a, row.entry)
		lengths := fmt.Sprintf("an ID of %d bytes, a key of %d", len(row.entry.ID), len(row.entry.Key))
		if !errors.Is(err, row.err) {
			p.errorf("%s: %v, not %v: %s", lengths, err, row.err, row.why)
		}
		if n := len(p.all(a)); (n == before) != (err != nil) {
			p.errorf("%s: %v, and of %d records there are %d", lengths, err, before, n)
		}
	}
}

func refusedIsNotThere(p *logProbe) {
	a, b := p.open()
	p.append(a, chat.Entry{ID: "1", Key: "k"})
	if _, err := p.try(b, chat.Entry{ID: "2", Key: "k", Guard: chat.Guard{Key: "k"}, Data: []byte("x")}); err == nil {
		return // A2 is broken
	}
	p.append(a, chat.Entry{ID: "3", Key: "k", Final: true})
	for _, rec := range p.all(a) {
		if rec.ID == "2" {
			p.errorf("what was refused is in the log: %+v", rec)
		}
	}
}

func settlesByRetry(p *logProbe) {
	a, b := p.open()
	ended, cancel := context.WithCancel(p.ctx)
	cancel()
	_, err := p.tryUntil(ended, a, chat.Entry{ID: "e"})
	if !errors.Is(err, chat.ErrUnknown) || !errors.Is(err, context.Canceled) {
		p.errorf("with an ended context: %v, which is not both ErrUnknown and the context's", err)
	}
	p.append(a, chat.Entry{ID: "e"})
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 40 {
			ctx, cancel := context.WithCancel(p.ctx)
			go cancel() // at any time during the call
			e := chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: fmt.Sprintf("k%d-%d", n, i)}
			rec, err := p.tryUntil(ctx, l, e)
			if err != nil && !(errors.Is(err, chat.ErrUnknown) && errors.Is(err, context.Canceled)) {
				p.errorf("cancelled during the call: %v", err)
			}
			again, err2 := p.try(l, e)
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
	if len(seen) != 321 {
		p.errorf("%d entries are in the log, of 321", len(seen))
	}
}

func closedIsTrue(p *logProbe) {
	a, _ := p.open()
	there := chat.Entry{ID: "1", Data: []byte("x")}
	rec := p.append(a, there)
	p.call("LogStore.Close", func() { p.store.Close(a) })
	if _, err := p.try(a, chat.Entry{ID: "2"}); !errors.Is(err, chat.ErrClosed) && !errors.Is(err, chat.ErrUnknown) {
		p.errorf("Append to a log that has ended: %v, neither ErrClosed nor ErrUnknown", err)
	}
	switch again, err := p.try(a, there); {
	case err == nil:
		p.diff("the retry's record", rec, again)
	case !errors.Is(err, chat.ErrUnknown):
		p.errorf("the retry, after the log has ended, of what is in it: %v, which says that it is not", err)
	}
}

func copies(p *logProbe) {
	a, b := p.open()
	f := p.follow(a, chat.Position{})
	data := []byte("data")
	e := chat.Entry{ID: "1", Key: "k", Data: data}
	rec, err := p.try(a, e)
	if err != nil {
		p.fatalf("Append(%+v): %v", e, err)
	}
	p.diff("the caller's entry", chat.Entry{ID: "1", Key: "k", Data: []byte("data")}, e)
	copy(data, "XXXX")
	want := []chat.Record{{Pos: rec.Pos, Time: rec.Time, ID: "1", Key: "k", Data: []byte("data")}}
	p.diff("the returned record's data", "data", string(rec.Data))
	p.diff("the log", want, p.all(a))
	p.diff("what a follower got", want, f.wait(1))
	p.diff("the snapshot", want, p.snapshot(b).Records)
	if again, err := p.try(b, e); err == nil && again.Pos == rec.Pos {
		p.diff("the retry's record", want, []chat.Record{again})
	}
}
