package chat_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/chat"
)

// A logProbe is what a case works with. Its methods may be called from any goroutine that the case waits for.
type logProbe struct {
	clause string
	open   func() (a, b chat.Log)
	tiny   func() chat.Log

	mu    sync.Mutex
	errs  []error
	stops []func() // of the followers
}

// stop stops the case's followers.
func (p *logProbe) stop() {
	for _, stop := range p.stops {
		stop()
	}
}

func (p *logProbe) errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) < 5 {
		p.errs = append(p.errs, fmt.Errorf("%s: %s", p.clause, fmt.Sprintf(format, args...)))
	}
}

// fatalf ends the goroutine that calls it as well.
func (p *logProbe) fatalf(format string, args ...any) {
	p.errorf(format, args...)
	runtime.Goexit()
}

func (p *logProbe) diff(what string, want, got any) {
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		p.errorf("%s (-want +got):\n%s", what, d)
	}
}

// eight runs f in eight goroutines that begin together, every other one on b, and waits for them.
func (p *logProbe) eight(a, b chat.Log, f func(n int, l chat.Log)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for n := range 8 {
		wg.Go(func() {
			<-start
			f(n, []chat.Log{a, b}[n%2])
		})
	}
	close(start)
	wg.Wait()
}

func (p *logProbe) append(l chat.Log, e chat.Entry) chat.Record {
	rec, err := l.Append(context.Background(), e)
	if err != nil {
		p.fatalf("Append(%+v): %v", e, err)
	}
	return rec
}

func (p *logProbe) snapshot(l chat.Log) chat.Snapshot {
	s, err := l.Snapshot(context.Background())
	if err != nil {
		p.fatalf("Snapshot: %v", err)
	}
	return s
}

func (p *logProbe) end(l chat.Log) chat.Position { return p.snapshot(l).At }

func (p *logProbe) read(l chat.Log, after chat.Position, max int) []chat.Record {
	recs, err := l.Read(context.Background(), after, max)
	if err != nil {
		p.fatalf("Read(%v, %d): %v", after, max, err)
	}
	return recs
}

// all reads a log that has not been trimmed.
func (p *logProbe) all(l chat.Log) []chat.Record { return p.upTo(l, p.end(l)) }

func (p *logProbe) upTo(l chat.Log, at chat.Position) []chat.Record {
	var recs []chat.Record
	for after := (chat.Position{}); ; {
		page := p.read(l, after, 100)
		for _, rec := range page {
			if rec.Pos.Seq > at.Seq {
				return recs
			}
			recs = append(recs, rec)
		}
		if len(page) == 0 {
			return recs
		}
		after = page[len(page)-1].Pos
	}
}

// A logFollower keeps what Follow gives it, and notices what it must not.
type logFollower struct {
	probe   *logProbe
	stop    func()
	stopped atomic.Bool
	busy    atomic.Bool

	mu   sync.Mutex
	recs []chat.Record
	more chan struct{} // closed when there are more
}

func (p *logProbe) follow(l chat.Log, after chat.Position) *logFollower {
	f := &logFollower{probe: p, more: make(chan struct{})}
	stop, err := l.Follow(after, f.apply)
	if err != nil {
		p.fatalf("Follow(%v): %v", after, err)
	}
	f.stop = stop
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = append(p.stops, stop)
	return f
}

func (f *logFollower) apply(recs []chat.Record, err error) {
	if f.busy.Swap(true) {
		f.probe.errorf("two calls of apply at once")
	}
	defer f.busy.Store(false)
	if f.stopped.Load() {
		f.probe.errorf("apply is called after stop")
	}
	if len(recs) == 0 || err != nil {
		f.probe.errorf("apply is called with %d records, %v", len(recs), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recs = append(f.recs, recs...)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *logFollower) has(pos chat.Position) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.recs, func(r chat.Record) bool { return r.Pos == pos })
}

// wait returns what the follower has once that is at least n records.
func (f *logFollower) wait(n int) []chat.Record {
	timeout := time.After(10 * time.Second)
	for {
		f.mu.Lock()
		recs, more := slices.Clone(f.recs), f.more
		f.mu.Unlock()
		if len(recs) >= n {
			return recs
		}
		select {
		case <-more:
		case <-timeout:
			f.probe.fatalf("a follower has got %d records of %d", len(recs), n)
		}
	}
}
