package chattest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/chat"
)

func deliverWhileReceiving(p *transportProbe) {
	bob := p.member("bob")
	l := p.guest("ann", -1)
	for i := range 3 { // one would do
		p.say(bob, fmt.Sprint(i))
	}
	for {
		v, err := l.next()
		if err != nil {
			p.fatalf("a peer that says nothing is not told what others say: %v", err)
		}
		if _, ok := v.(chat.Said); ok {
			return
		}
	}
}

func receiveWhileDelivering(p *transportProbe) {
	l := p.guest("ann", -1)
	if !l.fill(p.member("bob")) {
		return
	}
	err := l.send(chat.SendRequest{Ref: "through", Text: "through"})
	if !p.truth.has(p.Patience, "ann: through") {
		p.errorf("a peer that reads nothing says something, and it is not received (Send: %v)", err)
	}
}

func closeAtOnce(p *transportProbe) {
	l := p.guest("ann", -1)
	l.fill(p.member("bob"))
	closes := func() {
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range 25 {
					_ = l.tap.inner.Close(chat.ErrClosed) // its error is not of the contract
				}
			})
		}
		callers.Wait()
	}
	if !p.within(p.atOnce(), closes) {
		p.errorf("8 goroutines call it 25 times each, the peer reads nothing, and they are not done after %v", p.atOnce())
	}
}

func closeEndsReceive(p *transportProbe) {
	l := p.guest("ann", -1)
	l.tap.until(p.Patience, func() bool { return l.tap.receiving > 0 })
	l.shut(chat.ErrClosed)
	if !l.tap.until(p.Patience, func() bool { return l.tap.received != nil }) {
		p.errorf("Receive has not returned an error %v after Close", p.Patience)
	}
}

func closeEndsDeliver(p *transportProbe) {
	l := p.guest("ann", -1)
	if !l.fill(p.member("bob")) {
		return
	}
	l.shut(chat.ErrClosed)
	ended := func() bool { // in real time Deliver may have been slow only, and be done
		return l.tap.undelivered != nil || !p.Bubble && l.tap.delivering == 0
	}
	if !l.tap.until(p.Patience, ended) {
		p.errorf("the peer reads nothing, and Deliver has not returned an error %v after Close", p.Patience)
	}
}

func closeFirst(p *transportProbe) {
	l := p.connect()
	close(l.served) // it never is
	if !l.shut(chat.ErrClosed) {
		p.errorf("it has not returned after %v", p.atOnce())
	}
	var err error
	ended := p.within(p.Patience, func() {
		for range 10 { // some have a first request of their own
			if _, err = l.tap.inner.Receive(); err != nil {
				return
			}
		}
	})
	if !ended {
		p.errorf("a Receive that was called afterwards has not returned after %v", p.Patience)
	} else if err == nil {
		p.errorf("Receive, called afterwards, returns no error")
	}
}

// A kick is a cause that every room may give.
var kick = chat.KickedError{Note: "first"}

func firstCause(p *transportProbe) {
	l := p.guest("ann", -1)
	closed := make(chan struct{})
	p.running.Go(func() { // while the peer reads
		defer close(closed)
		for _, cause := range []error{kick, chat.ErrClosed, chat.SlowError{}} { // and then what Serve makes of it
			l.shut(cause)
		}
	})
	defer func() { <-closed }()
	l.wantTold(chat.ErrKicked, "Close was called for a kick first, then for an end and for slowness")
}

func roomsCause(p *transportProbe) {
	l := p.guest("ann", -1)
	p.kick(l)
	l.wantTold(chat.ErrKicked, "its user was kicked")
	l = p.guest("bob", -1)
	ctx, cancel := context.WithTimeout(context.Background(), p.Patience)
	p.running.Go(func() {
		defer cancel()
		_ = p.room.Shutdown(ctx, nil) // its error is that of ctx
	})
	l.wantTold(chat.ErrClosed, "the room was shut down")
}

func (p *transportProbe) kick(l *line) {
	ctx, cancel := context.WithTimeout(context.Background(), p.Patience)
	defer cancel()
	if err := p.room.Kick(ctx, l.name, kick.Note); err != nil {
		p.fatalf("before the check: the kit's own kick: %v", err)
	}
}

// wantTold looks at what the peer is told. That it is told nothing is for T7 to say.
func (l *line) wantTold(want error, why string) {
	err := l.end()
	if err != errWaited && !l.p.NoCauses && chat.Code(err) != chat.Code(want) {
		l.p.errorf("%s: the peer is told %q (%v), not %q", why, chat.Code(err), err, chat.Code(want))
	}
}

func goodbyeIsEOF(p *transportProbe) {
	l := p.guest("ann", -1)
	l.wantGoodbye()
}

func goodbyeUnread(p *transportProbe) {
	l := p.guest("ann", -1)
	if l.fill(p.member("bob")) {
		l.wantGoodbye()
	}
}

func (l *line) wantGoodbye() {
	if err := l.bounded(l.Peer.Goodbye); err != nil {
		l.p.errorf("the peer's Goodbye: %v", err)
	}
	if err, ok := l.broken(l.p.Patience); !ok || err != io.EOF {
		l.p.errorf("the peer said goodbye, and Receive returned %s, not io.EOF", describe(err))
	}
}

func dropIsNotEOF(p *transportProbe) {
	l := p.guest("ann", -1)
	l.wantLoss(false)
}

func halfIsNotEOF(p *transportProbe) {
	l := p.guest("ann", -1)
	l.wantLoss(true)
}

func dropUnread(p *transportProbe) {
	l := p.guest("ann", -1)
	if l.fill(p.member("bob")) {
		l.wantLoss(false)
	}
}

func (l *line) wantLoss(half bool) {
	switch err := l.bounded(func() error { return l.Peer.Drop(half) }); {
	case half && errors.Is(err, errors.ErrUnsupported):
		return
	case err != nil:
		l.p.errorf("the peer's Drop(%v): %v", half, err)
	}
	if err, ok := l.broken(l.p.Heartbeat); !ok || err == io.EOF {
		l.p.errorf("the connection was cut, and Receive returned %s, not an error that is not io.EOF", describe(err))
	}
}

// broken waits until Receive has ended, and returns with what.
func (l *line) broken(d time.Duration) (err error, ok bool) {
	ok = l.tap.until(d, func() bool { err = l.tap.received; return err != nil })
	return err, ok && err != errNoRequest // which is said already
}

func describe(err error) string {
	if err == nil {
		return "nothing"
	}
	return fmt.Sprintf("%q (%T)", err, err)
}

func malformed(p *transportProbe) {
	l := p.guest("ann", -1)
	switch err := l.bounded(l.Peer.Malformed); {
	case errors.Is(err, errors.ErrUnsupported):
		return
	case err != nil:
		p.fatalf("the peer's Malformed: %v", err)
	}
	if !l.tap.until(p.Patience, func() bool { return l.tap.bad > 0 || l.tap.received != nil }) {
		p.fatalf("Receive returned no BadRequest")
	}
	if cause, closed := l.tap.cause(); closed {
		p.fatalf("Receive returned no BadRequest; the connection ended with %v", cause)
	}
	for {
		v, err := l.next()
		if err != nil {
			p.fatalf("the peer reads no ErrorReply: %v", err)
		}
		if _, ok := v.(chat.ErrorReply); ok {
			break
		}
	}
	if err := l.send(chat.SendRequest{Ref: "on", Text: "on"}); err != nil || !p.truth.has(p.Patience, "ann: on") {
		p.errorf("the next, proper request is not received (Send: %v)", err)
	}
}

func endsAfterGoodbye(p *transportProbe) {
	l := p.guest("ann", -1)
	if err := l.bounded(l.Peer.Goodbye); err != nil {
		p.errorf("the peer's Goodbye: %v", err)
	}
	l.wantGone()
}

func endsAfterLoss(p *transportProbe) {
	l := p.guest("ann", -1)
	if err := l.bounded(func() error { return l.Peer.Drop(false) }); err != nil {
		p.errorf("the peer's Drop: %v", err)
	}
	l.wantGone()
}

func endsAfterKick(p *transportProbe) {
	l := p.guest("ann", -1)
	p.kick(l)
	l.wantGone()
}

// wantGone looks at what is left when Serve has returned. That it does not return is for other clauses to say: then
// Receive or Deliver still waits.
func (l *line) wantGone() {
	if !l.p.within(l.p.Heartbeat, func() { <-l.served }) {
		return
	}
	if err := l.end(); err == errWaited {
		l.p.errorf("Serve has returned, and the peer sees no end of the connection")
	}
	if l.given = true; l.Close == nil {
		return
	}
	var err error
	if !l.p.within(l.p.Patience, func() { err = l.Close() }) {
		l.p.errorf("Serve has returned, and something of the transport still runs: Ends.Close waits")
	} else if err != nil {
		l.p.errorf("Ends.Close: %v", err)
	}
}

// allInOrder compares what a peer reads with the log, while several speak at once, it too.
func allInOrder(p *transportProbe) {
	l := p.guest("ann", -1)
	var senders sync.WaitGroup
	for _, name := range []string{"bob", "cy", "dee"} {
		s := p.member(name)
		senders.Go(func() {
			for i := range 1000 {
				p.say(s, fmt.Sprintf(`%d grüße an "%s" & 漢字\`, i, name))
				if i%100 == 99 {
					guest := p.member(fmt.Sprint(name, i))
					if err := p.room.Logout(context.Background(), guest); err != nil {
						p.errorf("before the check: the kit's own logout: %v", err)
					}
				}
			}
		})
	}
	senders.Go(func() {
		for i := range 200 {
			if err := l.send(chat.SendRequest{Ref: fmt.Sprint(i), Text: fmt.Sprint(i)}); err != nil {
				p.errorf("the peer's Send: %v", err)
				return
			}
		}
	})
	p.running.Go(func() {
		senders.Wait()
		if p.truth.has(p.Patience, "ann: 199") {
			p.say(p.member("end"), "end")
		}
	})
	l.wantAll()
}

// sharedStays lets several read what the room has once, events and their bytes.
func sharedStays(p *transportProbe) {
	var lines []*line
	for _, name := range []string{"ann", "bea", "cat"} {
		lines = append(lines, p.guest(name, -1))
	}
	var readers sync.WaitGroup
	for _, l := range lines {
		readers.Go(l.wantAll)
	}
	bob := p.member("bob")
	want := []string{"bob joined"}
	for i := range 300 {
		p.say(bob, fmt.Sprint("line ", i))
		want = append(want, fmt.Sprint("bob: line ", i))
	}
	p.say(p.member("end"), "end")
	readers.Wait()
	// Who comes late reads what the others were given.
	sub, err := p.room.Subscribe(context.Background(), &chat.SubscribeOptions{Last: len(want) + 2})
	if err != nil {
		p.fatalf("before the check: the kit's own subscription: %v", err)
	}
	var late truth
	p.running.Go(func() { late.follow(sub) })
	late.has(p.Patience, "end: end")
	sub.Close()
	if got := late.since(want[0]); !slices.Equal(got[:min(len(got), len(want))], want) {
		p.errorf("the room's own events were changed")
	}
}

// wantAll reads until the end is said, and compares with the log.
func (l *line) wantAll() {
	own, last := l.name+" joined", "end: end"
	var err error
	for err == nil && !slices.Contains(l.heard[max(0, len(l.heard)-1):], last) {
		_, err = l.next()
	}
	if !l.p.truth.has(l.p.Patience, last) {
		l.p.errorf("the peer's requests are not received")
		return
	}
	got := l.heard[max(0, slices.Index(l.heard, own)):] // before that it may have heard the room, or not
	want := l.p.truth.since(own)
	for i := range max(len(want), len(got)) {
		switch {
		case i == len(got):
			l.p.errorf("event %d of %d, %.60q, is missing, and all after it (%v)", i, len(want), want[i], err)
		case i == len(want):
			l.p.errorf("event %d, %.60q, is one too many", i, got[i])
		case got[i] != want[i]:
			l.p.errorf("event %d is %.60q, not %.60q: it was %s", i, got[i], want[i], fate(want, got, i))
		default:
			continue
		}
		return
	}
}

// fate says in a word what happened at i.
func fate(want, got []string, i int) string {
	switch {
	case slices.Contains(want[:i], got[i]):
		return "doubled"
	case slices.Contains(got[i:], want[i]):
		return "overtaken"
	case slices.Contains(want[i:], got[i]):
		return "lost"
	}
	return "changed"
}

// answersFirst lets a peer ask for much at once, and compares the order of its answers with that of its own events.
func answersFirst(p *transportProbe) {
	const requests = 100 // messages; the login is number 0, the logout the one after them
	l := p.serve(-1)
	l.mustSend(chat.LoginRequest{Ref: "0", Name: "ann"})
	p.running.Go(func() {
		if !p.truth.has(p.Patience, "ann joined") {
			return
		}
		for i := range requests {
			if err := l.send(chat.SendRequest{Ref: fmt.Sprint(i + 1), Text: fmt.Sprint(i + 1)}); err != nil {
				return // the reader misses its answer
			}
		}
		if p.truth.has(p.Patience, fmt.Sprint("ann: ", requests)) {
			_ = l.send(chat.LogoutRequest{Ref: fmt.Sprint(requests + 1)}) // some cannot say it
			p.say(p.member("end"), "end")
		}
	})
	answers := 0
	for {
		v, err := l.next()
		if err != nil {
			p.fatalf("after %d answers there came no more: %v", answers, err)
		}
		if rep, ok := v.(chat.Reply); ok {
			if ref, ok := refOf(rep); !ok || ref != "" && ref != fmt.Sprint(answers) {
				p.fatalf("answer %d is %#v", answers, rep)
			}
			answers++
			continue
		}
		due := 0 // the answers that come before it
		switch e := gist(v); {
		case e == "end: end" && (answers > requests || p.NoReceipts):
			return
		case e == "ann joined":
			due = 1
		case e == "ann left":
			due = requests + 2
		case e == "end: end":
			due = requests + 1
		case strings.HasPrefix(e, "ann: "):
			i, err := strconv.Atoi(e[len("ann: "):])
			if due = i + 1; err != nil || i > requests {
				p.fatalf("the peer reads %q, which nobody said", e)
			}
		}
		if p.NoReceipts {
			due = min(due, 1)
		}
		if answers < due {
			p.fatalf("the peer reads %q, and has %d answers to its requests, not %d", gist(v), answers, due)
		}
	}
}

// refOf returns the mark of a request that was carried out, as its answer has it; false for one that was refused.
func refOf(rep chat.Reply) (string, bool) {
	switch rep := rep.(type) {
	case chat.LoginReply:
		return rep.Ref, true
	case chat.SendReply:
		return rep.Ref, true
	}
	return "", false
}

// deliverWaits lets one peer take nothing while another takes all: the room has to see how far the one is behind, and the
// other is not to notice.
func deliverWaits(p *transportProbe) {
	stalled, reader := p.guest("ann", 4*fillText*fillRun), p.guest("bea", -1)
	bob := p.member("bob")
	waits := false
	for run, sent := 0, 0; sent < p.InFlight; run, sent = run+1, sent+fillText*fillRun {
		for range fillRun {
			p.say(bob, strings.Repeat("x", fillText))
		}
		mark := p.say(bob, fmt.Sprint(run))
		for text := ""; text != fmt.Sprint("bob: ", run); {
			v, err := reader.next()
			if cause, closed := stalled.tap.cause(); closed {
				if !errors.Is(cause, chat.ErrSlow) {
					p.errorf("the room ended the connection with %v, which is no ErrSlow", cause)
				}
				return
			}
			if err != nil {
				p.fatalf("while one peer takes nothing, another is not told what is said: %v", err)
			}
			text = gist(v)
		}
		// So that a Deliver which is on its way is not taken for one that waits.
		waits = waits || !stalled.takes(mark.Seq, quiet)
	}
	p.errorf("the peer takes nothing, and Deliver has taken %d bytes for it", p.InFlight)
}
