package chattest

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"example.com/chat"
)

// A board holds what several goroutines look at and wait for.
type board struct {
	mu    sync.Mutex
	moved chan struct{} // closed when something changes
}

// set changes what is on the board.
func (b *board) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	if b.moved != nil {
		close(b.moved)
		b.moved = nil
	}
}

// get reads what is on the board.
func (b *board) get(look func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	look()
}

// until waits until cond holds, and reports false when that has not been so for d.
func (b *board) until(d time.Duration, cond func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		b.mu.Lock()
		ok := cond()
		if b.moved == nil {
			b.moved = make(chan struct{})
		}
		moved := b.moved
		b.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-moved:
		case <-timer.C:
			return false
		}
	}
}

// A tap is around a transport, and watches the calls.
type tap struct {
	board
	inner chat.Transport

	// Where the case is about TryDeliver:
	try    func(b *chat.Batch) bool  // it
	atOnce time.Duration             // how long it may take
	drive  func(b *chat.Batch) error // what is called for Deliver

	receiving, delivering int           // how many calls run
	causes                []error       // what the calls of Close were told
	received              error         // what Receive ended with
	undelivered           error         // what Deliver ended with
	bad                   int           // how many requests were a BadRequest
	taken                 uint64        // the last position that was taken over
	slow                  bool          // TryDeliver has not returned at once
	returned              bool          // Serve has
	faults                []ClauseError // in the calls themselves
}

var errNoRequest = errors.New("neither a request nor an error")

func (t *tap) Receive() (chat.Request, error) {
	t.enter(&t.receiving, "Receive")
	req, err := t.inner.Receive()
	t.set(func() {
		t.receiving--
		switch req.(type) {
		case nil:
			if err == nil {
				err = errNoRequest
				t.fault("T4", "Receive returned neither a request nor an error")
			}
		case chat.BadRequest:
			t.bad++
		}
		if err != nil && t.received == nil {
			t.received = err
		}
	})
	return req, err
}

func (t *tap) Deliver(b *chat.Batch) error {
	t.enter(&t.delivering, "Deliver")
	deliver := t.inner.Deliver
	t.get(func() {
		if t.drive != nil {
			deliver = t.drive
		}
	})
	err := deliver(b)
	t.set(func() {
		t.delivering--
		if err != nil {
			t.undelivered = err
		} else {
			t.took(b)
		}
	})
	return err
}

// took notes that a batch was taken over. The mutex is held.
func (t *tap) took(b *chat.Batch) {
	if events := b.Events(); len(events) > 0 {
		t.taken = events[len(events)-1].Meta().Pos.Seq
	}
}

func (t *tap) Close(cause error) error {
	t.set(func() {
		t.causes = append(t.causes, cause)
		if t.returned {
			t.fault("T7", "Serve had returned when Close was called")
		}
	})
	return t.inner.Close(cause)
}

func (t *tap) enter(calls *int, name string) {
	t.set(func() {
		switch *calls++; {
		case *calls == 1:
		case calls == &t.delivering && t.try != nil:
			t.fault("T8", name+" was called beside Deliver or TryDeliver")
		default:
			t.fault("T1", name+" was called beside itself")
		}
		if t.returned {
			t.fault("T7", "Serve had returned when "+name+" was called")
		}
	})
}

// ended notes that Serve has returned.
func (t *tap) ended() {
	t.set(func() {
		t.returned = true
		if t.receiving+t.delivering > 0 {
			t.fault("T7", "Serve did not wait for Receive and Deliver")
		}
		if len(t.causes) == 0 {
			t.fault("T7", "Serve did not call Close")
		}
	})
}

// cause returns what the connection was closed with first, if it was.
func (t *tap) cause() (cause error, closed bool) {
	t.get(func() {
		if closed = len(t.causes) > 0; closed {
			cause = t.causes[0]
		}
	})
	return cause, closed
}

// fault notes a call that should not have been, or what came of one. The mutex is held.
func (t *tap) fault(clause, text string) {
	t.faults = append(t.faults, ClauseError{Clause: clause, Text: text})
}

// careful is a transport whose panics are errors: a kit goes on, and says where they were.
type careful struct {
	chat.Transport
	tap *tap
}

func (c careful) Receive() (req chat.Request, err error) {
	defer c.recover("T4", "Receive", &err)
	return c.Transport.Receive()
}

func (c careful) Deliver(b *chat.Batch) (err error) {
	defer c.recover("T5", "Deliver", &err)
	return c.Transport.Deliver(b)
}

func (c careful) Close(cause error) (err error) {
	defer c.recover("T2", "Close", &err)
	return c.Transport.Close(cause)
}

func (c careful) recover(clause, call string, err *error) {
	if v := recover(); v != nil {
		c.tap.set(func() { c.tap.fault(clause, fmt.Sprintf("%s panics: %v\n%.*s", call, v, most, debug.Stack())) })
		*err = fmt.Errorf("%s panics: %v", call, v)
	}
}

// A carefulPeer is a peer whose panics are errors, of the case in which they are.
type carefulPeer struct {
	Peer
	p *transportProbe
}

func (c carefulPeer) Send(req chat.Request) (err error) {
	defer c.p.caught("the peer's Send", &err)
	return c.Peer.Send(req)
}

func (c carefulPeer) Malformed() (err error) {
	defer c.p.caught("the peer's Malformed", &err)
	return c.Peer.Malformed()
}

func (c carefulPeer) Read() (v any, err error) {
	defer c.p.caught("the peer's Read", &err)
	return c.Peer.Read()
}

func (c carefulPeer) Goodbye() (err error) {
	defer c.p.caught("the peer's Goodbye", &err)
	return c.Peer.Goodbye()
}

func (c carefulPeer) Drop(half bool) (err error) {
	defer c.p.caught("the peer's Drop", &err)
	return c.Peer.Drop(half)
}

// caught is deferred by a call of the connector's, and makes errors of its panic.
func (p *transportProbe) caught(call string, err *error) {
	if v := recover(); v != nil {
		p.errorf("%s panics: %v\n%.*s", call, v, most, debug.Stack())
		*err = fmt.Errorf("%s panics: %v", call, v)
	}
}
