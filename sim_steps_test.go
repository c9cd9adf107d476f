package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/chat"
)

// step does one thing that the seed says.
func (s *sim) step() {
	n := s.rnd.IntN(1000)
	for _, op := range simOps {
		if n -= op.weight; n < 0 {
			op.do(s)
			return
		}
	}
	panic("the weights of simOps are not 1000")
}

var simOps = []struct {
	weight int
	do     func(s *sim)
}{
	{170, (*sim).stepCome},
	{260, (*sim).stepSay},
	{90, (*sim).stepResend},
	{70, (*sim).stepGo},
	{40, (*sim).stepNotice},
	{40, (*sim).stepStall},
	{30, (*sim).stepTakeOver},
	{15, (*sim).stepStale},
	{30, (*sim).stepLast},
	{15, (*sim).stepKick},
	{80, (*sim).stepProgram},
	{30, (*sim).stepSubscribe},
	{60, (*sim).stepMood},
	{45, (*sim).stepNode},
	{25, (*sim).stepTime},
}

// pickNode returns a room that is open, and may be paused.
func (s *sim) pickNode() *simNode {
	var with []*simNode
	for _, n := range s.places {
		if n != nil && n.open {
			with = append(with, n)
		}
	}
	if len(with) == 0 {
		return nil
	}
	return with[s.rnd.IntN(len(with))]
}

// pickUser returns one for whom is holds.
func (s *sim) pickUser(is func(u *simUser) bool) *simUser {
	var with []*simUser
	for _, u := range s.users {
		if is(u) {
			with = append(with, u)
		}
	}
	if len(with) == 0 {
		return nil
	}
	return with[s.rnd.IntN(len(with))]
}

func (u *simUser) isIn() bool {
	return u.conn != nil && u.conn.member != nil && u.conn.member == u.member
}

// stepCome: somebody who is not there comes, with the token if there is one, mostly.
func (s *sim) stepCome() {
	u := s.pickUser(func(u *simUser) bool {
		return !u.program && (u.conn == nil || u.conn.member == nil && u.conn.answered == len(u.conn.asked))
	})
	n := s.pickNode()
	if u == nil || n == nil {
		return
	}
	c := u.conn
	if c == nil {
		c = s.connect(u, n)
	}
	c.enter(u.token != "" && s.chance(85))
	if s.chance(15) && u.isIn() { // and goes on at once
		c.say(s.newSend(u))
	}
}

// stepSay: one who is in says something, or more than one thing.
func (s *sim) stepSay() {
	u := s.pickUser((*simUser).isIn)
	if u == nil {
		return
	}
	for range 1 + s.rnd.IntN(3)*s.rnd.IntN(2) {
		u.conn.say(s.newSend(u))
	}
}

// stepResend: one who is in sends again what it may have said before, often what was never answered.
func (s *sim) stepResend() {
	u := s.pickUser(func(u *simUser) bool { return u.isIn() && len(u.sends) > 0 })
	if u == nil {
		return
	}
	var open []*simSend
	for _, m := range u.sends {
		if !m.ok && m.open > 0 {
			open = append(open, m)
		}
	}
	if len(open) == 0 || s.chance(30) {
		open = u.sends
	}
	u.conn.say(open[s.rnd.IntN(len(open))])
}

// stepGo: somebody goes, in one of many ways.
func (s *sim) stepGo() {
	u := s.pickUser(func(u *simUser) bool { return u.conn != nil })
	if u == nil {
		return
	}
	c := u.conn
	switch n := s.rnd.IntN(10); {
	case n < 2:
		c.out = true
		c.request(&simAsk{what: "logout"}, chat.LogoutRequest{Ref: c.ref()})
	case n < 4:
		c.leave(true)
	case n < 7:
		c.leave(false)
		c.notice()
	default: // the transport notices later
		c.leave(false)
	}
}

// stepNotice: a transport notices that its client is gone.
func (s *sim) stepNotice() {
	for _, c := range s.open {
		if c.gone && !c.cut && !c.ended && s.chance(50) {
			c.sim.tracef("%s: is noticed", c.label)
			c.notice()
			return
		}
	}
}

// stepStall: a client stops reading, or reads on.
func (s *sim) stepStall() {
	for _, c := range s.open {
		if c.resume != nil && s.chance(40) {
			s.tracef("%s: reads on", c.label)
			c.unstall()
			return
		}
	}
	if u := s.pickUser((*simUser).isIn); u != nil && u.conn.resume == nil {
		s.tracef("%s: stops reading", u.conn.label)
		u.conn.resume = u.conn.stall()
	}
}

// stepLast: somebody who is away comes back at about the time when the linger is over, while a room is behind.
func (s *sim) stepLast() {
	u := s.pickUser(func(u *simUser) bool {
		return !u.program && u.conn == nil && u.token != "" && u.member.left == 0 && u.member.lost >= 0 && u.member.linger > 0
	})
	if u == nil {
		return
	}
	behind := s.pickNode()
	if behind != nil && behind.log.mood.name == "calm" {
		behind.log.mood = moods[1+s.rnd.IntN(4)]
		s.tracef("%s: is %s", behind.label, behind.log.mood.name)
	}
	s.wait(max(0, u.member.lost+u.member.linger-s.now()-s.upTo(6*time.Second)))
	if n := s.pickNode(); n != nil && u.conn == nil && u.token != "" {
		s.connect(u, n).enter(true)
	}
}

// stepTakeOver: somebody who is in comes over a second connection.
func (s *sim) stepTakeOver() {
	u := s.pickUser(func(u *simUser) bool { return u.isIn() && u.token != "" })
	n := s.pickNode()
	if u == nil || n == nil {
		return
	}
	old := u.conn
	c := s.connect(u, n)
	c.enter(true)
	if s.chance(50) {
		old.leave(false)
		u.conn = c
	}
	old.gone = true
}

// stepStale: the token of a session that has left, or of none, opens nothing.
func (s *sim) stepStale() {
	n := s.pickNode()
	if n == nil {
		return
	}
	token := "nobody's token at all"
	var of *simMember
	for _, m := range s.truth.all {
		if m.left != 0 && s.chance(30) {
			if m.token != "" {
				token, of = m.token, m
			}
			break
		}
	}
	var err error
	s.start(fmt.Sprintf("%s: resume by a stale token", n.label), 5*time.Second, func(ctx context.Context) {
		_, err = n.room.Resume(ctx, token, s.orders%2 == 0)
	}, func() {
		s.tracef("a stale token: %v", err)
		if err == nil {
			label := "nobody"
			if of != nil {
				label = of.label
			}
			s.failf("a token of a session that has left is taken: %s", label)
		}
	})
}

// stepKick: somebody is kicked, on any node.
func (s *sim) stepKick() {
	n := s.pickNode()
	if n == nil {
		return
	}
	u := s.users[s.rnd.IntN(len(s.users))]
	key := keyOf(u.name)
	m := s.truth.holders[key]
	var err error
	s.start(fmt.Sprintf("%s: kick of %s", n.label, u.name), time.Duration(1+s.rnd.IntN(20))*time.Second, func(ctx context.Context) {
		err = n.room.Kick(ctx, u.name, "note")
	}, func() {
		s.tracef("%s: kick of %s: %v", n.label, u.name, err)
		if err == nil && m != nil && m.left == 0 {
			s.failf("acknowledged and missing: %s was kicked, and %s is in", u.name, m.label)
		}
		if errors.Is(err, chat.ErrNotMember) && m != nil && m.left == 0 {
			s.failf("nobody has the name %s, says %s, and %s is in", u.name, n.label, m.label)
		}
	})
}

// stepProgram: a part of a program logs in, speaks, leaves, resumes, or gives up a call.
func (s *sim) stepProgram() {
	u := s.pickUser(func(u *simUser) bool { return u.program })
	n := s.pickNode()
	if u == nil || n == nil {
		return
	}
	limit := []time.Duration{time.Second, 8 * time.Second, 40 * time.Second}[s.rnd.IntN(3)]
	switch k := s.rnd.IntN(12); {
	case u.asking:
		if n := len(s.waits); n > 0 && k < 4 {
			w := s.waits[s.rnd.IntN(n)]
			if w.limited() {
				s.tracef("%s: is given up", w.what)
				w.cancel()
			}
		}
	case u.session == nil, k == 0 && u.token != "":
		s.programIn(u, n, limit)
	case k < 8:
		if len(u.sends) > 0 && k < 3 {
			s.programSay(u, u.sends[len(u.sends)-1-s.rnd.IntN(min(3, len(u.sends)))], limit)
		} else {
			s.programSay(u, s.newSend(u), limit)
		}
	case k < 9:
		var err error
		session, m := u.session, u.member
		s.start(fmt.Sprintf("%s@%s: logout", u.id(), u.at.label), limit, func(ctx context.Context) {
			err = u.roomOf().Logout(ctx, session)
		}, func() {
			s.tracef("%s: logout: %v", u.id(), err)
			if err == nil && m.left == 0 {
				s.failf("acknowledged and missing: %s has logged out", m.label)
			}
		})
	}
}

// limited reports whether the call is one that its caller may give up.
func (w *simWait) limited() bool { return w.what[0] == 'u' }

func (u *simUser) roomOf() *chat.Room { return u.at.room }

// programIn logs a program in, or has it resume.
func (s *sim) programIn(u *simUser, n *simNode, limit time.Duration) {
	var err error
	var session *chat.Session
	resume := u.token != "" && u.member.left == 0
	over := s.chance(70)
	o := &chat.LoginOptions{ID: u.id(), Linger: lingers[s.rnd.IntN(len(lingers))]}
	u.asking = true
	m, after := u.member, s.truth.end()
	s.start(fmt.Sprintf("%s@%s: in, resume %v", u.id(), n.label, resume), limit, func(ctx context.Context) {
		if resume {
			session, err = n.room.Resume(ctx, u.token, over)
		} else {
			session, err = n.room.Login(ctx, u.name, o)
		}
	}, func() {
		u.asking = false
		s.tracef("%s: in at %s: %v", u.id(), n.label, err)
		switch {
		case err != nil:
			if resume && errors.Is(err, chat.ErrToken) && m.left == 0 {
				s.failf("%s: a token is refused whose session is in: %s", u.id(), m.label)
			}
			return
		case resume:
			if m.left != 0 && m.left <= after {
				s.failf("%s has resumed %s, which has left", u.id(), m.label)
			}
		default:
			m = s.truth.newest(u.id())
			if m == nil {
				s.failf("acknowledged and missing: %s is logged in", u.id())
				return
			}
		}
		s.tokens[session.Token()], m.token = m, session.Token()
		u.is(m, session.Token())
		if !n.dead {
			u.session, u.at = session, n
		}
	})
}

// newest returns the last session of a user.
func (tr *simTruth) newest(id string) *simMember {
	for _, m := range slices.Backward(tr.all) {
		if m.user.ID == id {
			return m
		}
	}
	return nil
}

func (s *sim) programSay(u *simUser, m *simSend, limit time.Duration) {
	m.tries++
	m.open++
	var err error
	var rcpt chat.Receipt
	session, n := u.session, u.at
	who := fmt.Sprintf("%s@%s", u.id(), n.label)
	s.start(fmt.Sprintf("%s: say %s", who, m.id), limit, func(ctx context.Context) {
		rcpt, err = n.room.Send(ctx, session, m.text, &chat.SendOptions{ID: m.id})
	}, func() {
		if err != nil {
			if session.Err() != nil && u.session == session {
				u.session, u.at = nil, nil
			}
			s.refusal(who, m, err, n)
			return
		}
		s.isReceipt(who, m, rcpt)
		s.receipt(who, m, rcpt)
	})
}

// stepSubscribe: a subscription begins, ends, stops or goes on.
func (s *sim) stepSubscribe() {
	n := s.pickNode()
	if n == nil {
		return
	}
	k := s.rnd.IntN(8)
	if k < 4 || len(n.subs) == 0 {
		o := chat.SubscribeOptions{Last: s.rnd.IntN(10), MaxUnread: []int{0, 600, -1}[s.rnd.IntN(3)]}
		if end := s.truth.end(); end > 0 && s.chance(50) {
			o.After = s.truth.events[end-1-uint64(s.rnd.IntN(int(min(end, 40))))].Meta().Pos
			o.Fresh = s.chance(50)
		}
		s.subscribe(n, o)
		return
	}
	v := n.subs[s.rnd.IntN(len(n.subs))]
	if k < 7 {
		v.stalled = !v.stalled
		s.tracef("%s: stalled %v", v.view.label, v.stalled)
	} else {
		s.tracef("%s: closes", v.view.label)
		v.stalled = false
		v.Close()
	}
}

// stepMood: a log is slow for a process, or answers nothing sure, or is well again.
func (s *sim) stepMood() {
	n := s.places[s.rnd.IntN(len(s.places))]
	if n == nil {
		return
	}
	l := n.log
	if s.chance(15) {
		l = n.beat
	}
	l.mood = moods[0]
	if s.chance(60) {
		l.mood = moods[s.rnd.IntN(len(moods))]
	}
	s.tracef("%s: is %s", l.label, l.mood.name)
}

// stepNode: a process is paused or goes on, is killed, is shut down, or begins.
func (s *sim) stepNode() {
	place := s.rnd.IntN(len(s.places))
	n := s.places[place]
	k := s.rnd.IntN(20)
	switch {
	case n == nil:
		s.openRoom(place, nil)
	case n.log.state == paused:
		if k < 14 {
			s.pause(n, false)
		}
	case k < 9:
		s.pause(n, true)
	case k < 12:
		s.kill(n)
	case n.open && k < 17:
		s.shut(n, s.rnd.IntN(3), s.chance(25))
	}
}

// stepTime: a while in which nobody does anything; sometimes everything is well for so long that all must be in order.
func (s *sim) stepTime() {
	if s.chance(25) {
		s.lull()
		return
	}
	s.wait(s.upTo(40 * time.Second))
}
