package chattest

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A Peer is the far end of a transport that is tested: a client, which speaks the transport's own wire form. The kit looks
// at no more of what is read than the types, the names of users, the texts, and Ref where it is not empty. What the wire has
// no words for is left out, as the [Connector] says.
//
// Send, Malformed and Goodbye are called one at a time, Read at the same time as they, but not as itself. Drop may come at
// any time, often, and whatever of the others waits returns soon after. A Peer has no queue of its own: what it is not
// asked to Read it leaves on the wire.
type Peer interface {
	// Send asks for something, a [chat.LoginRequest], [chat.SendRequest] or [chat.LogoutRequest]. If the wire cannot
	// say that, [errors.ErrUnsupported]; the first two it must.
	Send(req chat.Request) error

	// Malformed sends what is no request, where that need not end a connection of this wire; [errors.ErrUnsupported] if
	// it must.
	Malformed() error

	// Read returns what the client is told next, a [chat.Reply] or a [chat.Event]. At the connection's end it returns an
	// error: one whose [chat.Code] is that of the cause, as far as the client is told.
	Read() (any, error)

	// Goodbye says that the client leaves.
	Goodbye() error

	// Drop cuts the connection without a word; with half, after the first half of a request, or
	// [errors.ErrUnsupported] if the wire has no halves. The kit drops each connection in the end.
	Drop(half bool) error
}

// Ends are the two ends of a fresh connection.
type Ends struct {
	Transport chat.Transport
	Peer      Peer

	// Close, if it is not nil, is called last. It returns when nothing of the transport runs any more, nor of the peer.
	Close func() error
}

// A Connector says how to make the connections that [TestTransport] and [CheckTransport] try out, and what the kit has to
// know of them. Each case makes its own, so that Open is called some forty times.
type Connector struct {
	// Open makes a connection. Ends that it returns with an error are closed as well.
	Open func() (Ends, error)

	// NoReceipts: a client is not told by the wire that a message, or a logout, was taken, only if it was refused. That an
	// answer comes before its event is then looked at for the login alone.
	NoReceipts bool

	// NoCauses: a client is not told by the wire why its connection ends. That it is told the first cause is then not
	// looked at.
	NoCauses bool

	// InFlight is how many bytes may be on their way to a peer that takes nothing before Deliver must wait: what sockets
	// hold, and buffers. Zero means 64 MiB, more than a TCP connection on one machine takes.
	InFlight int

	// Patience is how long that may take which is to happen "soon": an answer, the end of a call after Close. A fifth of
	// it is the most that a call of Close may take, which is to return at once. Zero means 10 s. It is spent on what is
	// broken alone. It is less than what the transport itself gives a silent peer, or that would do what Close does not.
	Patience time.Duration

	// Heartbeat is how long it may take until a connection that was cut is noticed, where only silence tells. Zero: as
	// long as Patience.
	Heartbeat time.Duration

	// Bubble: the transport can work in a bubble of testing/synctest, in virtual time, as over a [net.Pipe]. TestTransport
	// then runs each case in one; CheckTransport is called in one. There "at once" is no time at all.
	Bubble bool
}

// TestTransport holds a transport to the clauses of [chat.Transport], with a subtest for each case, named as in
// "T4_a_goodbye_is_io.EOF". It must not be called in a bubble of testing/synctest: there, use [CheckTransport], or set
// Bubble.
//
// Where a first, plain conversation does not work the other cases are skipped: they would fail for that reason alone.
//
// T8 is about TryDeliver, and looked at where the transport has that; its cases call it before each Deliver. From the cases
// of the other clauses it is hidden.
//
// What it can't see: a transport that keeps a batch and does no harm with it; and T1, as far as it is about Serve, which
// is the room's to keep.
func TestTransport(t *testing.T, c Connector) {
	if err := c.valid(); err != nil {
		t.Fatal(err)
	}
	broken := false
	for i, tc := range transportCases {
		t.Run(tc.clause+"_"+strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			if broken {
				t.Skip("not looked at, since it rests on the first case")
			}
			check := func(t *testing.T) {
				errs := c.check(tc)
				broken = i == 0 && hasClause(errs, tc.clause)
				for _, err := range errs {
					t.Error(err)
				}
			}
			if c.Bubble {
				synctest.Test(t, check)
			} else {
				check(t)
			}
		})
	}
}

// CheckTransport is [TestTransport] without a test: it returns what is broken, joined, each part a [ClauseError]. With
// clauses given ("T1" to "T8") it tries those alone; one that does not exist is an error.
func CheckTransport(c Connector, clauses ...string) error {
	if err := c.valid(); err != nil {
		return err
	}
	for _, clause := range clauses {
		if !slices.ContainsFunc(transportCases, func(tc transportCase) bool { return tc.clause == clause }) {
			return fmt.Errorf("chattest: a transport has no clause %q", clause)
		}
	}
	var errs []error
	for i, tc := range transportCases {
		if len(clauses) > 0 && !slices.Contains(clauses, tc.clause) {
			continue
		}
		errs = append(errs, c.check(tc)...)
		if i == 0 && hasClause(errs, tc.clause) {
			break // the others would fail for that reason alone
		}
	}
	return errors.Join(errs...)
}

// valid also resolves the options.
func (c *Connector) valid() error {
	if c.Open == nil {
		return errors.New("chattest: a Connector needs Open")
	}
	if c.InFlight <= 0 {
		c.InFlight = 64 << 20
	}
	if c.Patience <= 0 {
		c.Patience = 10 * time.Second
	}
	c.Heartbeat = max(c.Heartbeat, c.Patience)
	return nil
}

// hasClause reports whether one of errs is of that clause.
func hasClause(errs []error, clause string) bool {
	return slices.ContainsFunc(errs, func(err error) bool {
		var broken ClauseError
		return errors.As(err, &broken) && broken.Clause == clause
	})
}

// check runs one case to its end.
func (c *Connector) check(tc transportCase) []error {
	p := &transportProbe{Connector: c, transportCase: tc}
	done := make(chan struct{})
	go func() { // fatalf ends it
		defer close(done)
		problem := "the case's goroutine was ended by runtime.Goexit"
		defer func() {
			if v := recover(); v != nil { // what the connector returned led the case astray
				problem = fmt.Sprintf("panic: %v\n%.*s", v, most, debug.Stack())
			}
			if problem != "" && !p.lacks && len(p.found()) == 0 { // fatalf says why
				p.errorf("%s", problem)
			}
		}()
		if p.begin() {
			tc.run(p)
		}
		problem = ""
	}()
	<-done // every wait of a case is bounded
	p.finish()
	return p.found()
}

// A transportCase is one clause of [chat.Transport], or a part of one. A case looks at its own clause alone: where another
// is broken as well it says nothing of that.
type transportCase struct {
	clause, name string
	run          func(p *transportProbe)
}

var transportCases = []transportCase{
	{"T1", "Deliver goes on while Receive waits", deliverWhileReceiving}, // the others rest on this one
	{"T1", "Receive goes on while Deliver waits", receiveWhileDelivering},
	{"T2", "Close returns at once", closeAtOnce},
	{"T2", "Close ends a Receive that waits", closeEndsReceive},
	{"T2", "Close ends a Deliver that waits", closeEndsDeliver},
	{"T2", "Close may come before all else", closeFirst},
	{"T3", "the first cause is told", firstCause},
	{"T3", "what the room ends a connection with is told", roomsCause},
	{"T4", "a goodbye is io.EOF", goodbyeIsEOF},
	{"T4", "a goodbye of a peer that takes nothing is io.EOF", goodbyeUnread},
	{"T4", "a connection that is cut is not io.EOF", dropIsNotEOF},
	{"T4", "one that is cut in the middle is not io.EOF", halfIsNotEOF},
	{"T4", "one that is cut while Deliver waits is not io.EOF", dropUnread},
	{"T5", "nothing is lost, doubled or out of order", allInOrder},
	{"T5", "an answer comes before its event", answersFirst},
	{"T5", "what is shared is not changed", sharedStays},
	{"T5", "Deliver waits while the peer takes nothing", deliverWaits},
	{"T6", "a malformed request is a BadRequest", malformed},
	{"T7", "all ends after a goodbye", endsAfterGoodbye},
	{"T7", "all ends after a loss", endsAfterLoss},
	{"T7", "all ends after a kick", endsAfterKick},
	{"T8", "it is false at once while the peer takes nothing", tryUnread},
	{"T8", "what it took and what it did not come once and in order", tried(allInOrder)},
	{"T8", "the same where the room calls it", shown(allInOrder)},
	{"T8", "an answer comes before its event", tried(answersFirst)},
	{"T8", "what is shared is not changed", tried(sharedStays)},
	{"T8", "it is false after Close", tryAfterClose},
	{"T8", "Close may come at any time", closeDuringTry},
	{"T8", "all ends after Close", closeAfterTry},
}
