package chattest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/chat"
)

// most is how many bytes of a long text are shown.
const most = 1500

// A logProbe is what a case works with. Its methods may be called from any goroutine that the case waits for. Those that
// call the log end their goroutine when the log does not return.
type logProbe struct {
	store LogStore
	c     logCase
	ctx   context.Context // ends with the case

	mu       sync.Mutex
	errs     []error
	follows  []*logFollower
	cleanups []func()
	hangs    bool // a call did not return: nothing is tried any more
}

func (p *logProbe) errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) < 5 {
		p.errs = append(p.errs, ClauseError{p.c.clause, p.c.name, fmt.Sprintf(format, args...)})
	}
}

// fatalf ends the goroutine that calls it as well.
func (p *logProbe) fatalf(format string, args ...any) {
	p.errorf(format, args...)
	runtime.Goexit()
}

// diff reports whether the two are the same.
func (p *logProbe) diff(what string, want, got any) bool {
	if reflect.DeepEqual(want, got) { // is faster, and stricter
		return true
	}
	d := cmp.Diff(want, got, cmpopts.EquateEmpty())
	if d != "" {
		p.errorf("%s (-want +got):\n%.*s", what, most, d)
	}
	return d == ""
}

// together runs functions in goroutines that begin together, and waits for them.
func (p *logProbe) together(fs ...func()) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, f := range fs {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil { // what the log returned led the case astray
					p.errorf("panic: %v\n%.*s", v, most, debug.Stack())
				}
			}()
			<-start
			f()
		})
	}
	close(start)
	wg.Wait()
}

// eight runs f in eight goroutines, every other one on b.
func (p *logProbe) eight(a, b chat.Log, f func(n int, l chat.Log)) {
	var fs []func()
	for n := range 8 {
		fs = append(fs, func() { f(n, []chat.Log{a, b}[n%2]) })
	}
	p.together(fs...)
}

// call runs a call of what is tested, and waits for it, but not for ever.
func (p *logProbe) call(what string, f func()) {
	p.mu.Lock()
	hangs := p.hangs
	p.mu.Unlock()
	if hangs {
		runtime.Goexit()
	}
	done := make(chan string, 1)
	go func() {
		problem := "has ended its goroutine"
		defer func() {
			if v := recover(); v != nil {
				problem = fmt.Sprintf("panics: %v\n%.*s", v, most, debug.Stack())
			}
			done <- problem
		}()
		f()
		problem = ""
	}()
	timeout := time.NewTimer(p.store.Patience)
	defer timeout.Stop()
	select {
	case problem := <-done:
		if problem != "" {
			p.fatalf("%s %s", what, problem)
		}
	case <-timeout.C:
		p.mu.Lock()
		p.hangs = true
		p.mu.Unlock()
		p.fatalf("%s has not returned after %v", what, p.store.Patience)
	}
}

// open opens a log for the case.
func (p *logProbe) open() (a, b chat.Log) {
	var cleanup func()
	var err error
	p.call("LogStore.Open", func() { a, b, cleanup, err = p.store.Open() })
	p.opened("Open", cleanup, err, a, b)
	return a, b
}

// tiny opens a log that trims.
func (p *logProbe) tiny() (l chat.Log) {
	var cleanup func()
	var err error
	p.call("LogStore.Tiny", func() { l, cleanup, err = p.store.Tiny() })
	p.opened("Tiny", cleanup, err, l)
	return l
}

func (p *logProbe) opened(what string, cleanup func(), err error, logs ...chat.Log) {
	if cleanup != nil {
		p.mu.Lock()
		p.cleanups = append(p.cleanups, cleanup)
		p.mu.Unlock()
	}
	if err != nil || slices.Contains(logs, nil) {
		p.fatalf("LogStore.%s: %v, %v", what, logs, err)
	}
}

// done stops the case's followers and gives back what it opened.
func (p *logProbe) done() {
	p.together(func() {
		for _, f := range p.follows {
			if !f.stopped {
				f.stop()
			}
		}
	})
	p.together(func() {
		for _, cleanup := range p.cleanups {
			p.call("cleanup", cleanup)
		}
	})
}

// try appends, and takes any outcome.
func (p *logProbe) try(l chat.Log, e chat.Entry) (rec chat.Record, err error) {
	return p.tryUntil(p.ctx, l, e)
}

func (p *logProbe) tryUntil(ctx context.Context, l chat.Log, e chat.Entry) (rec chat.Record, err error) {
	p.call("Append of "+e.ID, func() { rec, err = l.Append(ctx, e) })
	return rec, err
}

// append adds what nothing stands against. The record it returns is the one that there should be.
func (p *logProbe) append(l chat.Log, e chat.Entry) chat.Record {
	want := chat.Record{ID: e.ID, Key: e.Key, Final: e.Final, Data: bytes.Clone(e.Data)}
	rec, err := p.try(l, e)
	if err != nil {
		p.fatalf("Append(%+v): %v", e, err)
	}
	want.Pos, want.Time = rec.Pos, rec.Time
	return want
}

func (p *logProbe) snapshot(l chat.Log) (s chat.Snapshot) {
	var err error
	p.call("Snapshot", func() { s, err = l.Snapshot(p.ctx) })
	if err != nil {
		p.fatalf("Snapshot: %v", err)
	}
	return s
}

// tryRead reads, and takes any outcome.
func (p *logProbe) tryRead(l chat.Log, after chat.Position, max int) (recs []chat.Record, err error) {
	p.call("Read", func() { recs, err = l.Read(p.ctx, after, max) })
	return recs, err
}

func (p *logProbe) read(l chat.Log, after chat.Position, max int) []chat.Record {
	recs, err := p.tryRead(l, after, max)
	if err != nil {
		p.fatalf("Read(%v, %d): %v", after, max, err)
	}
	return recs
}

// all reads a log that has not been trimmed.
func (p *logProbe) all(l chat.Log) []chat.Record {
	var recs []chat.Record
	for after := (chat.Position{}); ; {
		page := p.read(l, after, 100)
		if len(page) == 0 {
			return recs
		}
		recs = append(recs, page...)
		if len(recs) > 10_000 {
			p.fatalf("Read does not come to an end: %d records", len(recs))
		}
		after = page[len(page)-1].Pos
	}
}

// A logFollower keeps what Follow gives it, and notes what it must not.
type logFollower struct {
	p      *logProbe
	halt   func()              // stops it
	during func([]chat.Record) // what else apply does, or nil

	mu      sync.Mutex // guards the fields below
	recs    []chat.Record
	stopped bool          // stop has returned
	busy    int           // calls of apply under way
	twice   int           // calls that met another
	empty   int           // calls without records or a reason
	late    int           // calls after stop returned
	lasts   []error       // reasons given
	after   int           // calls after a reason was given
	mixed   int           // calls with both records and a reason
	more    chan struct{} // closed when there is more
}

// follow has a follower that does nothing but note.
func (p *logProbe) follow(l chat.Log, after chat.Position) *logFollower {
	f := &logFollower{p: p}
	f.begin(l, after)
	return f
}

func (f *logFollower) begin(l chat.Log, after chat.Position) {
	if err := f.try(l, after); err != nil {
		f.p.fatalf("Follow(%v): %v", after, err)
	}
}

// try follows, and takes any outcome.
func (f *logFollower) try(l chat.Log, after chat.Position) (err error) {
	f.more = make(chan struct{})
	var stop func()
	f.p.call("Follow", func() { stop, err = l.Follow(after, f.apply) })
	if err == nil && stop == nil {
		f.p.fatalf("Follow(%v) returns no stop", after)
	}
	if err == nil {
		f.halt = stop
		f.p.mu.Lock()
		f.p.follows = append(f.p.follows, f)
		f.p.mu.Unlock()
	}
	return err
}

func (f *logFollower) stop() {
	f.p.call("stop", func() {
		f.halt()
		f.mu.Lock()
		f.stopped = true
		f.mu.Unlock()
	})
}

func (f *logFollower) apply(recs []chat.Record, err error) {
	f.mu.Lock()
	f.busy++
	if f.busy > 1 {
		f.twice++
	}
	if f.stopped {
		f.late++
	}
	if len(recs) == 0 && err == nil {
		f.empty++
	}
	if len(recs) > 0 && err != nil {
		f.mixed++
	}
	if len(f.lasts) > 0 {
		f.after++
	}
	if err != nil {
		f.lasts = append(f.lasts, err)
	}
	f.mu.Unlock()
	if f.during != nil {
		f.during(recs)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.recs = append(f.recs, recs...)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *logFollower) has(pos chat.Position) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.recs, func(r chat.Record) bool { return r.Pos == pos })
}

// until waits until ok, which is called with the lock held.
func (f *logFollower) until(what string, ok func() bool) {
	timeout := time.NewTimer(f.p.store.Patience)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		done, more, n := ok(), f.more, len(f.recs)
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-more:
		case <-timeout.C:
			f.p.fatalf("a follower waits for %s: it has %d records after %v", what, n, f.p.store.Patience)
		}
	}
}

// wait returns what the follower has once that is at least n records.
func (f *logFollower) wait(n int) []chat.Record {
	f.until(fmt.Sprintf("%d records", n), func() bool { return len(f.recs) >= n })
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.recs)
}
