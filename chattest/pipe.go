package chattest

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"example.com/chat"
)

// Pipe returns the two ends of a connection in memory: a transport, to be given to [chat.Room.Serve], and the client that
// is connected by it.
//
//	transport, client := chattest.Pipe()
//	go room.Serve(ctx, transport, nil)
//	err := client.Send(chat.LoginRequest{Name: "Ann"})
//	…
//	reply, err := client.Read()
//
// Nothing is buffered, in either direction: what one end hands over the other has taken. So a client that does not call
// Read is one that stalls, and the room sees at once that it falls behind; and what was handed over before the client
// goes is not lost.
//
// There is no goroutine and no timer behind it, and all waiting is on channels: a pipe that is made within a bubble of
// testing/synctest works there in virtual time. The transport keeps all clauses of [chat.Transport].
func Pipe() (chat.Transport, *Client) {
	p := newPipe()
	return p, &Client{p}
}

// A Client is the far end of a [Pipe]. Its methods may be called from any goroutine.
type Client struct{ p *pipe }

// Send asks for something. It returns when the room has taken the request; that waits while another request of this
// client is carried out, and while 64 answers are not read. What no client could say in an orderly way, Send says as well:
// a [chat.BadRequest], or requests out of turn. After the connection has ended it returns [io.ErrClosedPipe].
func (c *Client) Send(req chat.Request) error {
	if err := c.p.over(); err != nil {
		return err
	}
	select {
	case c.p.in <- req:
		return nil
	case <-c.p.bye:
	case <-c.p.lost:
	case <-c.p.closed:
	}
	return io.ErrClosedPipe
}

// Read returns what the client is told next, a [chat.Reply] or a [chat.Event], and waits for it. When the room has closed
// the connection Read returns the cause, as Close was told it: a [chat.KickedError], a [chat.ShutdownError] and so on;
// [io.EOF] after a goodbye. After Lose it returns [io.ErrClosedPipe].
func (c *Client) Read() (any, error) {
	if c.p.over() != nil { // do not choose among what is ready
		select {
		case <-c.p.lost:
			return nil, io.ErrClosedPipe
		default:
		}
		select {
		case <-c.p.closed:
			return nil, c.p.cause
		default:
		}
	}
	select {
	case v := <-c.p.out:
		return v, nil
	case <-c.p.lost:
		return nil, io.ErrClosedPipe
	case <-c.p.closed:
		return nil, c.p.cause
	}
}

// Goodbye ends the connection as a client does that leaves in order. Read returns what comes until the room has closed the
// connection. Twice is harmless.
func (c *Client) Goodbye() { c.p.goodbye.Do(func() { close(c.p.bye) }) }

// Lose breaks the connection. The room's [chat.Room.Serve] returns an error that is err; nil stands for one without a name.
// The first call counts.
func (c *Client) Lose(err error) {
	c.p.loss.Do(func() {
		c.p.err = errLost
		if err != nil { // wrapped: io.EOF by itself would be a goodbye
			c.p.err = fmt.Errorf("%w: %w", errLost, err)
		}
		close(c.p.lost)
	})
}

var errLost = errors.New("chattest: connection lost")

// A pipe is the near end.
type pipe struct {
	in  chan chat.Request
	out chan any

	goodbye, loss, closing sync.Once
	bye, lost, closed      chan struct{}
	err                    error // of lost; set before it is closed
	cause                  error // of closed; set before it is closed
}

func newPipe() *pipe {
	return &pipe{
		in: make(chan chat.Request), out: make(chan any),
		bye: make(chan struct{}), lost: make(chan struct{}), closed: make(chan struct{}),
	}
}

// over returns an error if the client has gone, or the room has closed the connection.
func (p *pipe) over() error {
	select {
	case <-p.bye:
	case <-p.lost:
	case <-p.closed:
	default:
		return nil
	}
	return io.ErrClosedPipe
}

func (p *pipe) Receive() (chat.Request, error) {
	if p.over() == nil {
		select {
		case req := <-p.in:
			return req, nil
		case <-p.bye:
		case <-p.lost:
		case <-p.closed:
		}
	}
	select {
	case <-p.lost:
		return nil, p.err
	default:
	}
	select {
	case <-p.bye:
		return nil, io.EOF
	default:
		return nil, io.ErrClosedPipe
	}
}

func (p *pipe) Deliver(b *chat.Batch) error { return p.hand(items(b)) }

// items lists what is due, in order.
func items(b *chat.Batch) []any {
	list := make([]any, 0, len(b.Replies())+len(b.Events()))
	for _, rep := range b.Replies() {
		list = append(list, rep)
	}
	for _, e := range b.Events() {
		list = append(list, e)
	}
	return list
}

// hand waits until the client has taken the list.
func (p *pipe) hand(list []any) error {
	for _, v := range list {
		select {
		case <-p.lost:
			return p.err
		case <-p.closed:
			return io.ErrClosedPipe
		default:
		}
		select {
		case p.out <- v:
		case <-p.lost:
			return p.err
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

func (p *pipe) Close(cause error) error {
	p.closing.Do(func() {
		if p.cause = cause; cause == nil {
			p.cause = io.EOF
		}
		close(p.closed)
	})
	return nil
}
