package chattest

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"example.com/chat"
)

// A trier is a transport that has what clause T8 is about.
type trier interface{ TryDeliver(b *chat.Batch) bool }

// tried makes a case of T8 of one that tests Deliver: TryDeliver comes first, as often as it likes to say false.
func tried(run func(p *transportProbe)) func(p *transportProbe) {
	return func(p *transportProbe) {
		p.tries = true
		run(p)
	}
}

// shown makes a case of T8 of one that tests Deliver: the room may call TryDeliver as it sees fit.
func shown(run func(p *transportProbe)) func(p *transportProbe) {
	return func(p *transportProbe) {
		p.shows = true
		run(p)
	}
}

// optional gives the tap what the case is to see of TryDeliver. A case of T8 ends where the transport has none.
func (l *line) optional(t chat.Transport) {
	if !l.p.tries && !l.p.shows {
		return
	}
	has, ok := t.(trier)
	if !ok {
		close(l.served) // it never is
		l.shut(chat.ErrClosed)
		l.p.lacks = true
		runtime.Goexit()
	}
	l.tap.atOnce = l.p.atOnce()
	l.tap.try = func(b *chat.Batch) (ok bool) {
		var err error // careful's; the fault is noted
		defer careful{tap: l.tap}.recover("T8", "TryDeliver", &err)
		return has.TryDeliver(b)
	}
	if l.p.tries {
		offers := 0
		l.tap.drive = func(b *chat.Batch) error {
			offers++
			return l.tap.offer(b, offers%2 == 0)
		}
	}
}

// offer is Deliver after TryDeliver, which is called again and again while it says false: to the end at once, or patiently,
// so that what it took before may be out.
func (t *tap) offer(b *chat.Batch, patient bool) error {
	for i := range 50 {
		if i == 25 && patient {
			time.Sleep(time.Millisecond)
		}
		if t.tryNow(b) {
			return nil
		}
	}
	return t.inner.Deliver(b)
}

// tryNow calls TryDeliver, and notes if that is not at once.
func (t *tap) tryNow(b *chat.Batch) bool {
	late := time.AfterFunc(t.atOnce, func() {
		t.set(func() {
			if !t.slow {
				t.fault("T8", fmt.Sprintf("TryDeliver has not returned after %v", t.atOnce))
			}
			t.slow = true
		})
	})
	defer late.Stop()
	return t.try(b)
}

// A showing tap has TryDeliver for the room to see.
type showing struct{ *tap }

func (t showing) TryDeliver(b *chat.Batch) bool {
	t.enter(&t.delivering, "TryDeliver")
	ok := t.tryNow(b)
	t.set(func() {
		t.delivering--
		if ok {
			t.took(b)
		}
	})
	return ok
}

// tryUnread calls it while the peer takes nothing, and then lets the peer read what was taken over, this way or that.
func tryUnread(p *transportProbe) {
	p.tries = true
	l := p.guest("ann", -1)
	if !l.fill(p.member("bob")) {
		if cause, closed := l.tap.cause(); closed {
			p.fatalf("the peer takes nothing, and the connection ends with %v", cause)
		}
		p.fatalf("the peer takes nothing, and TryDeliver has taken %d bytes for it", p.InFlight)
	}
	p.say(p.member("end"), "end")
	l.wantAll()
}

func tryAfterClose(p *transportProbe) {
	p.tries = true
	l := p.guest("ann", -1)
	var took, done bool
	var err error
	l.tap.set(func() {
		l.tap.drive = func(b *chat.Batch) error {
			l.shut(chat.ErrClosed)
			ok := l.tap.tryNow(b)
			then := l.tap.inner.Deliver(b)
			l.tap.set(func() { took, err, done = ok, then, true })
			return io.ErrClosedPipe // whatever they said
		}
	})
	p.member("bob")
	_ = l.end() // or there is no next batch: what is on its way has to be read first
	switch {
	case !l.tap.until(p.Patience, func() bool { return done }):
		p.errorf("Close, and then TryDeliver and Deliver, have not returned after %v", p.Patience)
	case took:
		p.errorf("TryDeliver, called after Close, is true")
	case err == nil:
		p.errorf("TryDeliver, called after Close, is false, and then Deliver returns no error")
	}
}

// closeDuringTry calls Close beside a TryDeliver, the first, the second and so on, while the peer reads. What was said
// up to some point has then come, whole, once and in order, and nothing of what was said later.
func closeDuringTry(p *transportProbe) {
	p.tries = true
	for round := range 8 {
		l, own := p.guest(fmt.Sprint("ann", round), -1), fmt.Sprintf("ann%d joined", round)
		calls := 0
		l.tap.set(func() {
			l.tap.drive = func(b *chat.Batch) error {
				if calls++; calls == round/2+1 {
					p.running.Go(func() { _ = l.tap.inner.Close(chat.ErrClosed) })
				}
				return l.tap.offer(b, true)
			}
		})
		bob := p.member(fmt.Sprint("bob", round))
		var talk sync.WaitGroup
		talk.Go(func() {
			for i := range 10 {
				// The peer reads, so one that stands still is only slow, and the call to close beside may be yet to come.
				if !l.takes(p.say(bob, fmt.Sprint(i)).Seq, p.Patience) {
					return
				}
			}
		})
		err := l.end()
		talk.Wait()
		if err == errWaited {
			p.fatalf("the peer sees no end of the connection")
		}
		got := l.heard[max(0, slices.Index(l.heard, own)):]
		for _, event := range got[max(0, len(got)-1):] {
			p.truth.has(p.Patience, event)
		}
		if want := p.truth.since(own); !slices.Equal(got, want[:min(len(got), len(want))]) {
			p.fatalf("the peer reads %q, and what was said is %q", got, want)
		}
	}
}

// closeAfterTry ends a connection that has taken more over than its peer takes.
func closeAfterTry(p *transportProbe) {
	p.tries = true
	l := p.guest("ann", -1)
	l.tap.set(func() {
		l.tap.drive = func(b *chat.Batch) error { return l.tap.offer(b, true) }
	})
	if l.fill(p.member("bob")) {
		l.shut(chat.ErrClosed)
		l.wantGone()
	}
}
