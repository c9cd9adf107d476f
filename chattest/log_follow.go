package chattest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/chat"
)

func followRefuses(p *logProbe) {
	rows := p.badPositions()
	var fs []*logFollower
	for _, row := range rows {
		f := &logFollower{p: p}
		fs = append(fs, f)
		if err := f.try(row.log, row.after); !errors.Is(err, row.err) {
			p.errorf("Follow(%v): %v, not %v: %s", row.after, err, row.err, row.why)
		}
	}
	for i, row := range rows {
		p.append(row.log, chat.Entry{ID: fmt.Sprint("for nobody ", i)})
	}
	for i, f := range fs {
		if recs := f.wait(0); len(recs) > 0 || len(f.lasts) > 0 {
			p.errorf("Follow(%v) calls apply, with %d records and %v", rows[i].after, len(recs), f.lasts)
		}
	}
}

func followsInOrder(p *logProbe) {
	a, b := p.open()
	var recs []chat.Record
	for i := range 10 {
		recs = append(recs, p.append(a, chat.Entry{ID: fmt.Sprint(i), Data: []byte{byte(i)}}))
	}
	followers := []*logFollower{p.follow(a, chat.Position{}), p.follow(b, recs[4].Pos), p.follow(a, recs[9].Pos)}
	from := []int{0, 5, 10}
	for i := range 10 { // in one line of calls first
		p.append([]chat.Log{a, b}[i%2], chat.Entry{ID: fmt.Sprint("line ", i)})
	}
	var mu sync.Mutex
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 40 {
			e := chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Data: []byte{byte(n), byte(i)}}
			ctx, cancel := context.WithCancel(p.ctx)
			if i%5 == 0 {
				go cancel() // who does not wait for an answer is not in the followers' way
			}
			if _, err := p.tryUntil(ctx, l, e); err != nil {
				p.append(l, e)
			}
			cancel()
			if i == 20 { // while records come in
				f := p.follow(l, recs[4].Pos)
				mu.Lock()
				followers, from = append(followers, f), append(from, 5)
				mu.Unlock()
			}
		}
	})
	recs = p.all(a)
	for i, f := range followers {
		p.diff("what a follower got, against the log", withoutData(recs[from[i]:]), withoutData(f.wait(len(recs)-from[i])))
	}
}

// withoutData leaves what F2 is about out.
func withoutData(recs []chat.Record) []chat.Record {
	recs = slices.Clone(recs)
	for i := range recs {
		recs[i].Data = nil
	}
	return recs
}

func followsOnFromThePast(p *logProbe) {
	for round := range 20 {
		a, b := p.open()
		for i := range 5 {
			p.append(a, chat.Entry{ID: fmt.Sprint(i)})
		}
		told := make(chan struct{})
		var once sync.Once
		f := &logFollower{p: p, during: func([]chat.Record) { once.Do(func() { close(told) }) }}
		p.together(
			func() { f.begin(a, chat.Position{}) },
			func() {
				if round%2 == 0 {
					<-f.first(told) // as soon as the past is told
				}
				for i := range 5 {
					p.append(b, chat.Entry{ID: fmt.Sprint("more ", i)})
				}
			})
		recs := p.all(a)
		if !p.diff("what a follower got, against the log", withoutData(recs), withoutData(f.wait(len(recs)))) {
			return
		}
	}
}

// first is closed when told is, or after the longest wait, so that nobody waits for a log that does not call apply.
func (f *logFollower) first(told <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		timeout := time.NewTimer(f.p.store.Patience)
		defer timeout.Stop()
		select {
		case <-told:
		case <-timeout.C:
		}
	}()
	return done
}

func followsOneAtATime(p *logProbe) {
	a, b := p.open()
	for i := range 20 {
		p.append(a, chat.Entry{ID: fmt.Sprint(i)})
	}
	// The past: nobody else calls the log, so that apply may take its time without being in anybody's way.
	past := &logFollower{p: p, during: func([]chat.Record) { time.Sleep(time.Microsecond) }}
	past.begin(a, chat.Position{})
	past.wait(20)
	past.stop()
	// And the present.
	slow := func([]chat.Record) {
		for range 20 {
			runtime.Gosched()
		}
	}
	f, g := &logFollower{p: p, during: slow}, &logFollower{p: p, during: slow}
	f.begin(a, chat.Position{})
	g.begin(b, chat.Position{})
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 20 {
			p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i)})
		}
	})
	for _, f := range []*logFollower{past, f, g} {
		f.until("calls to end", func() bool { return f.busy == 0 })
		if f.twice > 0 {
			p.errorf("%d calls of apply were made while another one ran", f.twice)
		}
	}
}

func applyWakesCallers(p *logProbe) {
	a, b := p.open()
	p.append(a, chat.Entry{ID: "past"})
	woken := make(chan chat.Record, 100)
	f := &logFollower{p: p, during: func(recs []chat.Record) {
		for _, rec := range recs {
			woken <- rec // there is room, so that it does not block
		}
	}}
	p.together(
		func() {
			f.begin(a, chat.Position{})
			for i := range 20 {
				p.append([]chat.Log{a, b}[i%2], chat.Entry{ID: fmt.Sprint(i)})
			}
		},
		func() {
			timeout := time.NewTimer(2 * p.store.Patience)
			defer timeout.Stop()
			for range 21 {
				select {
				case rec := <-woken: // the call of apply is just about to return
					p.tryRead(a, rec.Pos, 1)
					p.call("Snapshot", func() { _, _ = a.Snapshot(p.ctx) })
					p.try(a, chat.Entry{ID: rec.ID}) // in the log: not a record
					f := &logFollower{p: p}
					if err := f.try(b, rec.Pos); err == nil {
						f.stop()
					}
				case <-timeout.C:
					return // the records that a follower misses are Follow's
				}
			}
		})
}

func recordsMayBeKept(p *logProbe) {
	a, _ := p.open()
	for i := range 50 {
		p.append(a, chat.Entry{ID: fmt.Sprint(i), Data: fmt.Appendf(nil, "data of %d", i)})
	}
	f := p.follow(a, chat.Position{})
	for i := range 50 {
		p.append(a, chat.Entry{ID: fmt.Sprint(50 + i), Data: fmt.Appendf(nil, "data of %d", 50+i)})
	}
	for _, rec := range f.wait(100) {
		p.diff("a kept record's data", "data of "+rec.ID, string(rec.Data))
	}
}

func callsHaveRecords(p *logProbe) {
	a, b := p.open()
	f, g := p.follow(a, chat.Position{}), p.follow(b, chat.Position{})
	p.append(a, chat.Entry{ID: "1"})
	p.try(b, chat.Entry{ID: "1"})                                      // a retry is not a record
	p.try(b, chat.Entry{ID: "2", Guard: chat.Guard{Key: "k", Seq: 1}}) // nor is a refusal
	p.append(b, chat.Entry{ID: "3"})
	for _, f := range []*logFollower{f, g} {
		f.until("two records", func() bool { return len(f.recs) >= 2 })
		f.until("calls to end", func() bool { return f.busy == 0 })
		if f.empty > 0 || len(f.lasts) > 0 {
			p.errorf("apply was called %d times with nothing, and with %v, and the log has not ended", f.empty, f.lasts)
		}
	}
}

func callsLast(p *logProbe) {
	a, _ := p.open()
	fs := []*logFollower{p.follow(a, chat.Position{}), p.follow(a, chat.Position{})}
	p.append(a, chat.Entry{ID: "1"})
	p.call("LogStore.Close", func() { p.store.Close(a) })
	for _, f := range fs {
		f.until("a last call, since the log has ended", func() bool { return len(f.lasts) > 0 || f.empty > 0 })
	}
	p.try(a, chat.Entry{ID: "2"}) // for nobody
	for _, f := range fs {
		f.stop() // what is on its way has come
		f.mu.Lock()
		lasts := f.lasts
		if len(lasts) != 1 || f.mixed > 0 || f.after > 0 || f.empty > 0 {
			p.errorf("last calls for %v, %d of them with records, %d calls after the first, %d with nothing",
				lasts, f.mixed, f.after, f.empty)
		}
		f.mu.Unlock()
		ends := []error{chat.ErrClosed, chat.ErrTrimmed, chat.ErrEpoch}
		if len(lasts) > 0 && !slices.ContainsFunc(ends, func(err error) bool { return errors.Is(lasts[0], err) }) {
			p.errorf("the reason is %v, which is neither ErrClosed nor ErrTrimmed nor ErrEpoch", lasts[0])
		}
	}
	f := &logFollower{p: p}
	if err := f.try(a, chat.Position{}); err == nil {
		f.until("a last call, since the log had ended before it followed", func() bool { return len(f.lasts) > 0 })
	}
}

func stops(p *logProbe) {
	a, b := p.open()
	end := chat.Position{}
	for round := range 10 {
		f := p.follow(a, end)
		var fs []func()
		for n := range 4 {
			fs = append(fs, func() {
				for i := range 10 {
					p.append([]chat.Log{a, b}[n%2], chat.Entry{ID: fmt.Sprintf("%d-%d-%d", round, n, i)})
				}
			})
		}
		p.together(append(fs, func() {
			f.until("a record", func() bool { return len(f.recs) > 0 })
			f.stop() // while records come in
			f.stop()
		})...)
		end = p.append(a, chat.Entry{ID: fmt.Sprint("end ", round)}).Pos
		p.notLate(f)
	}
	f, g := p.follow(a, end), p.follow(a, end) // and while none do
	f.stop()
	p.append(a, chat.Entry{ID: "after"})
	g.wait(1)
	f.stop()
	p.notLate(f)
}

func (p *logProbe) notLate(f *logFollower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late > 0 {
		p.errorf("apply was called %d times after stop had returned", f.late)
	}
}

func stopWaits(p *logProbe) {
	a, _ := p.open()
	end := chat.Position{}
	for round := range 20 {
		var stopped, early atomic.Bool
		in := make(chan struct{})
		f := &logFollower{p: p}
		var once sync.Once
		f.during = func([]chat.Record) {
			once.Do(func() { close(in) })
			for range 1000 { // time enough for stop to be called
				if stopped.Load() {
					early.Store(true)
					return
				}
				runtime.Gosched()
			}
		}
		f.begin(a, end)
		p.together(
			func() { end = p.append(a, chat.Entry{ID: fmt.Sprint(round)}).Pos },
			func() {
				<-f.first(in)
				p.call("stop", func() {
					f.halt()
					stopped.Store(true)
				})
				f.mu.Lock()
				f.stopped = true
				f.mu.Unlock()
			})
		if early.Load() {
			p.fatalf("stop returned while apply ran")
		}
	}
}
