package chat_test

import (
	"context"
	"errors"
	"strconv"
	"testing/synctest"

	"example.com/chat"
)

// absorb waits until nothing more happens, takes in what happened, and checks it.
func (w *world) absorb() {
	for {
		synctest.Wait()
		for _, c := range w.calls {
			select {
			case <-c.done:
				if c.person != nil && open(c.err) { // if it lands, it is not waited for
					c.person.cause(chat.Lost, false)
				}
			default:
			}
		}
		more := w.learn()
		for _, r := range w.readers {
			more = r.read(w) || more
		}
		if !more {
			break
		}
	}
	var calls []*pendingCall
	for _, c := range w.calls {
		select {
		case <-c.done:
			c.then(c.err)
		default:
			calls = append(calls, c)
		}
	}
	w.calls = calls
	if !w.over {
		diff(w.t, "members", append([]chat.User{}, w.in...), w.room.Members())
	}
	for _, v := range w.guests {
		w.check(v)
	}
	w.waited, w.kicking = true, false
}

// learn reads the truth on, and checks that it is one: each joins under a free name, speaks while in, leaves once, and
// for a reason that there was.
func (w *world) learn() (more bool) {
	for {
		select {
		case e, ok := <-w.witness.Events():
			if !ok {
				w.t.Fatalf("the witness: %v", w.witness.Err())
			}
			more = true
			if err := chain(w.position(), []chat.Event{e}); err != nil || e.Meta().Pos.Seq != uint64(len(w.truth)+1) {
				w.t.Errorf("event %d: %v", len(w.truth)+1, err)
			}
			w.truth = append(w.truth, e)
			w.in = roll(w.t, w.in, []chat.Event{e})
			switch e := e.(type) {
			case chat.Joined:
				p := w.users[e.User.ID]
				if p.joined++; p.refused || p.joined > 1 && p.id[0] == 'p' {
					w.t.Errorf("%v joined: refused %v, the %d. time", e.User, p.refused, p.joined)
				}
			case chat.Said:
				if !w.isIn(w.users[e.User.ID]) {
					w.t.Errorf("%v speaks and is not in", e.User)
				}
			case chat.Left:
				p := w.users[e.User.ID]
				if e.Reason == chat.Slow && p.narrow {
					p.cause(chat.Slow, false)
				}
				if !p.causes[e.Reason] || p.first != 0 && p.first != e.Reason {
					w.t.Errorf("%v left for %v, at %v; the first reason was %v, others were %v", e.User, e.Reason, e.At.Pos, p.first, p.causes)
				}
				if p.id[0] == 'g' { // the connection's next session is another
					gone := p.causes
					p.first, p.causes = 0, make(map[chat.Reason]bool)
					for reason := range gone {
						if reason != chat.Logout && (reason != chat.Kicked || w.kicking || len(w.calls) > 0) {
							p.causes[reason] = true
						}
					}
					if gone[chat.Logout] { // it may have asked more than once
						p.causes[chat.Logout] = true
					}
				}
			}
		default:
			return more
		}
	}
}

// position is that of the last event.
func (w *world) position() chat.Position {
	if len(w.truth) == 0 {
		return w.witness.Start().At
	}
	return w.truth[len(w.truth)-1].Meta().Pos
}

// fold is the roster as of a position.
func (w *world) fold(at chat.Position) []chat.User {
	w.learnTo(at)
	return roll(w.t, nil, w.truth[:at.Seq:at.Seq])
}

// learnTo reads the truth on up to a position.
func (w *world) learnTo(at chat.Position) {
	for uint64(len(w.truth)) < at.Seq {
		synctest.Wait()
		if !w.learn() {
			w.t.Fatalf("somebody has heard of %v, the log ends at %v", at, w.position())
		}
	}
}

// told checks an event that somebody was given after the one at last.
func (w *world) told(last chat.Position, e chat.Event) {
	w.learnTo(e.Meta().Pos)
	if err := chain(last, []chat.Event{e}); err != nil {
		w.t.Error(err)
	} else if w.truth[e.Meta().Pos.Seq-1] != e {
		w.t.Errorf("somebody was given %v, which is not what the log has there", e)
	}
}

// read reads on, and checks.
func (r *reader) read(w *world) (more bool) {
	if r.stalled && !r.closed || r.ended {
		return false
	}
	last := r.sub.Start().At
	if n := len(r.got); n > 0 {
		last = r.got[n-1].Meta().Pos
	} else if st := r.sub.Start(); !st.Resumed {
		diff(w.t, "the roster at "+st.At.String(), w.fold(st.At), st.Roster)
	}
	for {
		select {
		case e, ok := <-r.sub.Events():
			if !ok {
				r.ended = true
				var slow chat.SlowError
				switch err := r.sub.Err(); {
				case errors.As(err, &slow):
					if slow.Pos != last {
						w.t.Errorf("a reader was given all up to %v, and is told that it stopped at %v", last, slow.Pos)
					}
				case errors.Is(err, chat.ErrClosed) && w.over:
				case err == nil && r.closed:
				default:
					w.t.Errorf("a subscription ended: %v", err)
				}
				return true
			}
			more = true
			w.told(last, e)
			r.got = append(r.got, e)
			last = e.Meta().Pos
		default:
			return more
		}
	}
}

// check looks at all that a connection was given: each request has one answer, in order; an answer comes before its event;
// events are the log's, without a gap, and only while it may hear.
func (w *world) check(v *visitor) {
	var last chat.Position // of what it has heard
	until := uint64(0)     // up to where it may hear
	answered := 0
	for _, x := range v.all() {
		var ref string
		var pos chat.Position
		switch x := x.(type) {
		case chat.LoginReply:
			ref, pos = x.Ref, x.Pos
			if joined, ok := w.at(x.Pos).(chat.Joined); !ok || joined.User != x.User || x.User.ID != v.person.id {
				w.t.Errorf("a login was answered with %+v, the log has %+v", x, joined)
			}
			if until = 1 << 63; x.Start != nil {
				last = x.Start.At
				diff(w.t, "the roster at a login", w.fold(last), x.Start.Roster)
			} else if !v.spectator {
				w.t.Error("a login without a start")
			}
		case chat.SubscribeReply:
			ref, last, until = x.Ref, x.Start.At, 1<<63
			diff(w.t, "the roster at a subscription", w.fold(last), x.Start.Roster)
			if !v.spectator {
				w.t.Error("it hears, and may not")
			}
		case chat.SendReply:
			ref, pos = x.Ref, x.Receipt.Pos
			if x.Receipt.ID == "" {
				if left, ok := w.at(pos).(chat.Left); !ok || left.User.ID != v.person.id {
					w.t.Errorf("a logout was answered with %+v, the log has %+v", x, left)
				}
				if !v.spectator {
					until = pos.Seq
				}
			} else if said, ok := w.at(pos).(chat.Said); !ok || said.Text != v.sent[ref] || said.User.ID != v.person.id {
				w.t.Errorf("a message was answered with %+v, the log has %+v", x, said)
			}
			if v.repeats[ref] {
				pos = chat.Position{}
			}
		case chat.ErrorReply:
			ref = x.Ref
			if chat.Code(x.Err) == "internal" && !(v.gone && errors.Is(x.Err, context.Canceled)) {
				w.t.Errorf("an answer of no known kind: %v", x.Err)
			}
		case chat.Event:
			if x.Meta().Pos.Seq > until {
				w.t.Errorf("it is given %v, and may hear up to %d", x, until)
			}
			w.told(last, x)
			last = x.Meta().Pos
			continue
		}
		n, _ := strconv.Atoi(ref)
		if n != answered+1 {
			w.t.Errorf("request %d is answered after request %d", n, answered)
		}
		answered = n
		if !pos.IsZero() && last.Seq >= pos.Seq {
			w.t.Errorf("%+v comes after the event at %v", x, last)
		}
	}
	if !v.gone && v.resume == nil && w.quiet() && w.log.calm() && answered != v.asked {
		select {
		case <-v.served: // ended by the room
			v.gone = true
		default:
			w.t.Errorf("%d of %d requests are answered", answered, v.asked)
		}
	}
}

// at returns the event at a position.
func (w *world) at(p chat.Position) chat.Event {
	if p.Seq == 0 {
		return nil
	}
	w.learnTo(p)
	return w.truth[p.Seq-1]
}
