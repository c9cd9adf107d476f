package chattest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/chat"
)

// A transportProbe is what a case works with: a room, and connections to it.
type transportProbe struct {
	*Connector
	transportCase
	tries, shows bool // TryDeliver is called by the kit, or by the room; neither: it is hidden
	lacks        bool // it should be called, and there is none
	room         *chat.Room
	lines        []*line
	truth        truth

	running sync.WaitGroup // goroutines of the case

	mu   sync.Mutex
	errs []error
}

// errorf says how the case's clause is broken.
func (p *transportProbe) errorf(format string, args ...any) {
	p.fault(ClauseError{p.clause, p.name, fmt.Sprintf(format, args...)})
}

func (p *transportProbe) fault(err ClauseError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) < 5 {
		p.errs = append(p.errs, err)
	}
}

// found returns the errors so far: what a case leaves behind may find more.
func (p *transportProbe) found() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.errs)
}

// fatalf ends the case as well.
func (p *transportProbe) fatalf(format string, args ...any) {
	p.errorf(format, args...)
	runtime.Goexit()
}

// within runs f, and reports false if it has not returned after d.
func (p *transportProbe) within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	p.running.Go(func() {
		defer close(done)
		f()
	})
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// begin opens the room.
func (p *transportProbe) begin() bool {
	room, err := chat.NewRoom(nil)
	if err != nil {
		p.errorf("the kit's room: %v", err)
		return false
	}
	p.room = room
	sub, err := room.Subscribe(context.Background(), &chat.SubscribeOptions{MaxUnread: -1})
	if err != nil {
		p.errorf("the kit's room: %v", err)
		return false
	}
	p.running.Go(func() { p.truth.follow(sub) })
	return true
}

// finish ends all that the case has begun. What does not end is said to break T7, unless the case has found why.
func (p *transportProbe) finish() {
	var left []string
	wait := func(what string, f func()) {
		if !p.within(p.Heartbeat, f) {
			left = append(left, what)
		}
	}
	for _, l := range p.lines {
		if l.Peer != nil {
			wait("the peer's Drop", func() { _ = l.Peer.Drop(false) }) // most have ended already, one way or another
		}
		wait("Serve, with the peer cut off,", func() { <-l.served })
		if l.Close != nil && !l.given {
			wait("Ends.Close", func() {
				if err := l.Close(); err != nil {
					p.fault(ClauseError{"T7", p.name, fmt.Sprintf("Ends.Close: %v", err)})
				}
			})
		}
	}
	if p.room != nil {
		wait("Room.Close", func() { p.room.Close() })
	}
	done := make(chan struct{})
	go func() { p.running.Wait(); close(done) }()
	timer := time.NewTimer(p.Patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		left = append(left, "a call of the transport or the peer")
	}
	for _, l := range p.lines {
		l.tap.get(func() {
			for _, fault := range l.tap.faults {
				fault.Case = p.name
				p.fault(fault)
			}
		})
	}
	if len(left) > 0 && len(p.found()) == 0 {
		p.fault(ClauseError{"T7", p.name, fmt.Sprintf("%s did not return within %v", strings.Join(left, ", "), p.Heartbeat)})
	}
}

// A line is a connection to the room.
type line struct {
	Ends
	p      *transportProbe
	tap    *tap
	name   string        // of the user who is logged in
	served chan struct{} // closed when Serve has returned, or was never called
	given  bool          // Ends.Close was called
	reads  chan told     // what the one Read under way will return; nil if there is none
	mute   bool          // a Send has not returned
	heard  []string      // the events that were read, in the short form of gist
}

// told is what a Read returned.
type told struct {
	v   any
	err error
}

// connect makes a connection that is not served.
func (p *transportProbe) connect() *line {
	ends, err := p.open()
	l := &line{Ends: ends, p: p, tap: &tap{}, served: make(chan struct{})}
	l.tap.inner = careful{ends.Transport, l.tap}
	if ends.Peer != nil {
		l.Peer = carefulPeer{ends.Peer, p}
	}
	if ends.Close != nil {
		l.Close = func() (err error) { defer p.caught("Ends.Close", &err); return ends.Close() }
	}
	p.lines = append(p.lines, l)
	if err == nil && (ends.Transport == nil || ends.Peer == nil) {
		err = errors.New("the Transport or the Peer is nil")
	}
	if err != nil { // what there is of it has to end all the same
		close(l.served) // it never is
		if ends.Transport != nil {
			l.shut(err)
		}
		p.fatalf("before the check: Open: %v", err)
	}
	l.optional(ends.Transport)
	return l
}

func (p *transportProbe) open() (ends Ends, err error) {
	defer p.caught("Open", &err)
	return p.Open()
}

// serve makes a connection that the room serves.
func (p *transportProbe) serve(maxUnread int) *line {
	l := p.connect()
	var t chat.Transport = l.tap
	if p.shows {
		t = showing{l.tap}
	}
	p.running.Go(func() {
		defer close(l.served)
		// Its error is what Close was told, which the tap has.
		_ = p.room.Serve(context.Background(), t, &chat.ServeOptions{Spectators: true, Rate: -1, MaxUnread: maxUnread})
		l.tap.ended()
	})
	return l
}

// guest makes one whose user is logged in.
func (p *transportProbe) guest(name string, maxUnread int) *line {
	l := p.serve(maxUnread)
	l.login(name)
	return l
}

// login logs in, and reads up to the answer and the own Joined. That the second is missing is not for here to say.
func (l *line) login(name string) {
	l.mustSend(chat.LoginRequest{Ref: "login", Name: name})
	for in, seen := false, false; !in || !seen; {
		v, err := l.next()
		switch v := v.(type) {
		case chat.LoginReply:
			l.name, in = v.User.Name, true
		case chat.Joined:
			seen = seen || v.User.Name == name
		case chat.ErrorReply:
			l.p.fatalf("before the check: the login of %q is refused: %v", name, v.Err)
		}
		if err != nil && !in {
			l.p.fatalf("before the check: a login is not answered: %v", err)
		}
		if err != nil {
			return
		}
	}
}

var errWaited = errors.New("it did not come in time")

// next reads what the peer is told next; errWaited if there is nothing for too long.
func (l *line) next() (any, error) {
	if l.reads == nil {
		reads := make(chan told, 1)
		l.reads = reads
		l.p.running.Go(func() {
			v, err := l.Peer.Read()
			reads <- told{v, err}
		})
	}
	timer := time.NewTimer(l.p.Patience)
	defer timer.Stop()
	select {
	case got := <-l.reads:
		l.reads = nil
		if e := gist(got.v); e != "" {
			l.heard = append(l.heard, e)
		}
		return got.v, got.err
	case <-timer.C:
		return nil, errWaited
	}
}

// end reads up to the connection's end, and returns what the peer is told of it; errWaited if there is none.
func (l *line) end() error {
	for {
		if _, err := l.next(); err != nil {
			return err
		}
	}
}

// send is the peer's Send; errWaited if it takes too long.
func (l *line) send(req chat.Request) error {
	return l.bounded(func() error { return l.Peer.Send(req) })
}

func (l *line) mustSend(req chat.Request) {
	if err := l.send(req); err != nil {
		l.p.fatalf("before the check: the peer's Send(%#v): %v", req, err)
	}
}

func (l *line) bounded(f func() error) error {
	if l.mute {
		return errWaited
	}
	result := make(chan error, 1)
	if !l.p.within(l.p.Patience, func() { result <- f() }) {
		l.mute = true
		return errWaited
	}
	select {
	case err := <-result:
		return err
	default:
		return errors.New("the call was ended by runtime.Goexit")
	}
}

// atOnce is how long a call may take that is to return at once.
func (p *transportProbe) atOnce() time.Duration {
	if p.Bubble {
		return 1 // time passes only where somebody waits
	}
	return p.Patience / 5
}

// shut calls the transport's Close, and reports whether that returned at once.
func (l *line) shut(cause error) bool {
	return l.p.within(l.p.atOnce(), func() { _ = l.tap.inner.Close(cause) })
}

// member logs somebody in by the program's own hand.
func (p *transportProbe) member(name string) *chat.Session {
	s, err := p.room.Login(context.Background(), name, nil)
	if err != nil {
		p.fatalf("before the check: the kit's own login: %v", err)
	}
	return s
}

func (p *transportProbe) say(s *chat.Session, text string) chat.Position {
	receipt, err := p.room.Send(context.Background(), s, text, nil)
	if err != nil {
		p.fatalf("before the check: the kit's own message: %v", err)
	}
	return receipt.Pos
}

// What is said to fill a connection: as much at a time as one Deliver is given at most.
const (
	fillText = 2000
	fillRun  = 32
)

// quiet is after how long without a move a call is taken to wait.
const quiet = 200 * time.Millisecond

// fill lets somebody talk until Deliver waits for the peer, which reads nothing. It reports false if Deliver goes on
// taking, or has ended the connection: that is for the one case to say which looks at it.
func (l *line) fill(by *chat.Session) bool {
	for sent := 0; sent < l.p.InFlight; sent += fillText * fillRun {
		var at chat.Position
		for range fillRun {
			at = l.p.say(by, strings.Repeat("x", fillText))
		}
		if !l.takes(at.Seq, quiet) {
			_, closed := l.tap.cause()
			return !closed
		}
	}
	return false
}

// takes waits until Deliver has taken the event at a position over; false when it stands still for so long, or the
// connection ends.
func (l *line) takes(seq uint64, still time.Duration) bool {
	for {
		var was uint64
		l.tap.get(func() { was = l.tap.taken })
		if was >= seq {
			return true
		}
		moved := l.tap.until(still, func() bool { return l.tap.taken != was || len(l.tap.causes) > 0 })
		if _, closed := l.tap.cause(); closed || !moved {
			return false
		}
	}
}

// truth is what the room's events are, by a subscription of the kit's own.
type truth struct {
	board
	events []string // in the short form of gist
}

func (t *truth) follow(sub *chat.Subscription) {
	for e := range sub.Events() {
		t.set(func() { t.events = append(t.events, gist(e)) })
	}
}

// has waits until an event is in the log.
func (t *truth) has(d time.Duration, event string) bool {
	seen := 0
	return t.until(d, func() bool {
		for ; seen < len(t.events); seen++ {
			if t.events[seen] == event {
				return true
			}
		}
		return false
	})
}

// since returns the events from that one on.
func (t *truth) since(event string) (events []string) {
	t.get(func() {
		for i, e := range t.events {
			if e == event {
				events = append(events, t.events[i:]...)
				return
			}
		}
	})
	return events
}

// gist is what is compared of an event.
func gist(e any) string {
	switch e := e.(type) {
	case chat.Joined:
		return e.User.Name + " joined"
	case chat.Said:
		return e.User.Name + ": " + e.Text
	case chat.Left:
		return e.User.Name + " left"
	}
	return ""
}
