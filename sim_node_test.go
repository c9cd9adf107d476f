package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/chat"
)

// A simNode is one process: its node, its room, and its handles on the two logs. A place runs one at a time, and those that
// it ran before and that were killed go on as far as they can, until the end.
type simNode struct {
	place     int
	label     string
	log, beat *simLog
	node      *chat.Node
	room      *chat.Room
	subs      []*simSub
	asked     int  // how many subscriptions
	busy      bool // it opens, or shuts down
	open      bool
	dead      bool
}

// A simSub is a subscription.
type simSub struct {
	*chat.Subscription
	view    simView
	stalled bool
	ended   bool
}

// A simWait is a call of the program that has not returned.
type simWait struct {
	what   string
	done   chan struct{}
	cancel context.CancelFunc
	then   func()
}

// start begins a call; then runs when it has returned.
func (s *sim) start(what string, limit time.Duration, f func(ctx context.Context), then func()) *simWait {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	w := &simWait{what: what, done: make(chan struct{}), cancel: cancel, then: then}
	s.waits = append(s.waits, w)
	s.tracef("%s", what)
	go func() {
		defer close(w.done)
		f(ctx)
	}()
	return w
}

// returned takes in the calls that have.
func (s *sim) returned() (any bool) {
	for i := 0; i < len(s.waits); {
		w := s.waits[i]
		select {
		case <-w.done:
			s.waits = slices.Delete(s.waits, i, i+1)
			w.cancel()
			w.then()
			any = true
		default:
			i++
		}
	}
	return any
}

// openRoom opens a place's next process; or, with a node that goes on, its next room.
func (s *sim) openRoom(place int, keep *simNode) {
	n := &simNode{place: place, busy: true}
	s.gens[place]++
	n.label = fmt.Sprintf("%c%d", 'A'+place, s.gens[place])
	n.log = s.log.handle(n.label)
	if keep != nil && keep.node != nil {
		n.node, n.beat = keep.node, keep.beat
	} else {
		n.beat = s.beats.handle(n.label + "'")
	}
	s.places[place] = n
	s.nodes = append(s.nodes, n)
	var err error
	s.start(n.label+": opens", time.Hour, func(context.Context) {
		if n.node == nil {
			if n.node, err = chat.NewNode(n.beat, nil); err != nil {
				return
			}
		}
		if n.room, err = chat.NewRoom(&chat.RoomOptions{Log: n.log, Node: n.node, Window: []int{1500, 6000, 1 << 20}[place]}); err != nil {
			n.node.Close()
		}
	}, func() {
		n.busy = false
		s.tracef("%s: open: %v", n.label, err)
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, chat.ErrUnknown) && !errors.Is(err, chat.ErrFull) && !n.dead {
				s.failf("%s: opening: %v", n.label, err)
			}
			n.room = nil
			s.quit(n)
			return
		}
		n.log.first = s.log.snapshot().First.Seq
		if n.open = !n.dead; n.open {
			s.subscribe(n, chat.SubscribeOptions{MaxUnread: -1, Last: 3})
		}
	})
}

// quit is a process that has ended.
func (s *sim) quit(n *simNode) {
	n.open, n.busy = false, false
	if s.places[n.place] == n {
		s.places[n.place] = nil
	}
}

// kill ends a process in the middle of what it does.
func (s *sim) kill(n *simNode) {
	s.tracef("%s: is killed", n.label)
	n.dead, n.open = true, false
	n.log.kill()
	n.beat.kill()
	s.cutAll(n)
	for _, u := range s.users {
		if u.at == n {
			u.session, u.at = nil, nil
		}
	}
	s.quit(n)
}

// cutAll is the clients of a process losing it.
func (s *sim) cutAll(n *simNode) {
	for _, c := range s.open {
		if c.at == n && !c.gone {
			c.leave(false)
			if c.member != nil && c.member.by == n.log {
				c.member.lost = s.now()
			}
		}
	}
}

// pause stops a process, or lets it go on.
func (s *sim) pause(n *simNode, on bool) {
	if n.dead || (n.log.state == paused) == on {
		return
	}
	s.tracef("%s: paused %v", n.label, on)
	for _, l := range []*simLog{n.log, n.beat} {
		if on {
			l.state = paused
		} else {
			l.wake()
		}
	}
}

// shut ends a room in order: by Shutdown, with or without hand-over, or Close; and its node with it, or not.
func (s *sim) shut(n *simNode, how int, keep bool) {
	n.open, n.busy = false, true
	if how == 0 { // what is still heard then is a race that Close does not decide
		s.cutAll(n)
	}
	var err error
	s.start(fmt.Sprintf("%s: shuts down, how %d, keeps its node %v", n.label, how, keep), 20*time.Second, func(ctx context.Context) {
		switch how {
		case 0:
			n.room.Close()
		default:
			err = n.room.Shutdown(ctx, &chat.ShutdownOptions{HandOver: how == 2, Spread: time.Second})
		}
		if !keep {
			_ = n.node.Close() // it may be out of reach
		}
	}, func() {
		s.tracef("%s: is shut down: %v", n.label, err)
		if s.over && err != nil {
			s.failf("%s: a shutdown when everything is well: %v", n.label, err)
		}
		for _, m := range s.truth.all {
			if s.over && m.left == 0 && m.by == n.log && (how != 2 || m.linger == 0) {
				s.failf("%s is shut down, and %s is in", n.label, m.label)
			}
		}
		for _, u := range s.users {
			if u.at == n {
				u.session, u.at = nil, nil
			}
		}
		if n.dead {
			return
		}
		s.quit(n)
		if keep && !s.over {
			s.openRoom(n.place, n)
		}
	})
}

// subscribe begins a subscription. The first of a room has no bound, and is read at once.
func (s *sim) subscribe(n *simNode, o chat.SubscribeOptions) {
	var sub *chat.Subscription
	var err error
	n.asked++
	v := &simSub{}
	v.view.label = fmt.Sprintf("%s/sub%d", n.label, n.asked)
	s.start(fmt.Sprintf("%s: subscribes, last %d, after #%d, fresh %v", v.view.label, o.Last, o.After.Seq, o.Fresh), 15*time.Second, func(ctx context.Context) {
		sub, err = n.room.Subscribe(ctx, &o)
	}, func() {
		if err != nil {
			s.tracef("%s: %v", v.view.label, err)
			switch {
			case errors.Is(err, chat.ErrTrimmed) && !o.Fresh && !o.After.IsZero():
			case errors.Is(err, chat.ErrUnknown) && !o.After.IsZero(), errors.Is(err, chat.ErrClosed):
			default:
				s.failf("%s: %+v: %v", v.view.label, o, err)
			}
			return
		}
		s.tracef("%s: begins at #%d", v.view.label, sub.Start().At.Seq)
		v.Subscription = sub
		s.begin(&v.view, sub.Start(), o)
		n.subs = append(n.subs, v)
	})
}

// look reads a subscription on.
func (v *simSub) look(s *sim) (any bool) {
	for !v.ended && !v.stalled {
		select {
		case e, ok := <-v.Events():
			if ok {
				s.hears(&v.view, e)
				any = true
				continue
			}
			v.ended = true
			err := v.Err()
			s.tracef("%s: ended: %v", v.view.label, err)
			var slow chat.SlowError
			switch {
			case err == nil, errors.Is(err, chat.ErrClosed):
			case errors.As(err, &slow):
				if slow.Pos != v.view.last {
					s.failf("%s has heard all up to %v, and is told that it stopped at %v", v.view.label, v.view.last, slow.Pos)
				}
			default:
				s.failf("%s ended: %v", v.view.label, err)
			}
		default:
			return any
		}
	}
	return any
}
