package socketio

import (
	"errors"
	"sync"
)

// An inbox is what a client sent and nobody has received yet: a queue between
// the one who acts on its packets and the one in Receive, with an end. All of a
// session's together are bounded by Options.MaxUnread. session.mu guards all of
// it.
type inbox[T interface{ cost() int }] struct {
	s     *session
	ready sync.Cond // items grew, or over was set
	items []T
	over  error         // why it ended, or nil
	done  chan struct{} // closed when over is set
}

func (q *inbox[T]) init(s *session) {
	q.s, q.done = s, make(chan struct{})
	q.ready.L = &s.mu
}

// receive waits for an item, or the end behind the last.
func (q *inbox[T]) receive() (item T, err error) {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	for len(q.items) == 0 && q.over == nil {
		q.ready.Wait()
	}
	if len(q.items) == 0 {
		return item, q.over
	}
	var none T
	item, q.items[0] = q.items[0], none
	q.items = q.items[1:]
	q.s.unread -= item.cost()
	q.s.space.Broadcast()
	return item, nil
}

// push adds an item; it blocks while too much waits. What comes after the end is
// dropped. s.mu is held.
func (q *inbox[T]) push(item T) error {
	limit := q.s.srv.opts.MaxUnread
	q.s.stalled++
	for limit >= 0 && q.s.unread >= limit && q.over == nil && q.s.ended == nil {
		q.s.space.Wait()
	}
	q.s.stalled--
	if q.s.ended != nil {
		return q.s.ended
	}
	if q.over == nil {
		q.items = append(q.items, item)
		q.s.unread += item.cost()
		q.ready.Signal()
	}
	return nil
}

// close ends the queue and reports whether that is news; the first cause
// counts. What is in it is still to be had, unless this side ended it. s.mu is
// held.
func (q *inbox[T]) close(cause error) bool {
	if q.over != nil {
		return false
	}
	q.over = cause
	if errors.Is(cause, ErrDisconnected) {
		q.discard()
	}
	close(q.done)
	q.ready.Broadcast()
	q.s.space.Broadcast()
	q.s.wake.Broadcast()
	return true
}

// discard drops what nobody will receive. s.mu is held.
func (q *inbox[T]) discard() {
	for _, item := range q.items {
		q.s.unread -= item.cost()
	}
	q.items = nil
	q.s.space.Broadcast()
}

// write sends units, see session.write, for as long as the queue has no end.
func (q *inbox[T]) write(enc Encoding, units []byte) error {
	err := q.s.write(&q.over, enc, units)
	if err == errGoodbye { // the session's word for it
		q.s.mu.Lock()
		defer q.s.mu.Unlock()
		return q.over
	}
	return err
}

// tryWrite is write for who must not wait, nor overtake who does.
func (q *inbox[T]) tryWrite(enc Encoding, units []byte) bool {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	if q.s.queued > 0 {
		return false
	}
	done, err := q.s.try(&q.over, enc, units)
	return done && err == nil
}
