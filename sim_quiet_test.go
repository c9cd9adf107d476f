package chat_test

import (
	"slices"
	"time"

	"example.com/chat"
)

// bound is promise 6's for a process that dies while everything else is well, and for what its room may not have had the
// time to write: judging takes 4 heartbeats, the longest linger follows at worst, and a try that failed just before is
// repeated after 5 s, or given up after 10.
const simBound = 20*time.Second + 20*time.Second + 20*time.Second

// heal makes all logs well and lets paused processes go on.
func (s *sim) heal() {
	s.tracef("everything is well from here on")
	for _, st := range []*simStore{s.log, s.beats} {
		for _, l := range slices.Clone(st.handles) {
			l.mood = moods[0]
			l.hurry()
		}
		for _, c := range slices.Clone(st.late) {
			if c.at = s.now(); s.chance(50) {
				st.late = slices.DeleteFunc(st.late, func(d *simCall) bool { return d == c })
			}
		}
	}
	for _, n := range s.nodes {
		s.pause(n, false)
	}
	s.settle()
	for place, n := range s.places {
		if n == nil {
			s.openRoom(place, nil)
		}
	}
}

// lull heals everything, lets time pass in which nobody does anything, and then everything must be in order.
func (s *sim) lull() {
	s.heal()
	for _, c := range s.open {
		if c.gone && !c.cut {
			c.notice()
		}
		if c.resume != nil && s.chance(60) {
			c.unstall()
		}
	}
	s.wait(simBound + 50*time.Second) // those without a login are sent away meanwhile
	if len(s.wrong) > 0 {
		return
	}
	s.tracef("everything must be in order")
	for _, st := range []*simStore{s.log, s.beats} {
		if !st.settled() {
			s.failf("calls of the log %s are under way when everything is well", st.name)
		}
	}
	for _, w := range s.waits {
		s.failf("a call has not returned: %s", w.what)
	}
	s.noGhosts()
	end := s.truth.end()
	roster := s.truth.rosters[end]
	for _, n := range s.places {
		if n == nil || !n.open {
			continue
		}
		if got := n.room.Members(); !slices.Equal(got, roster) {
			s.failf("the roster of %s is %v, the fold of the log %v", n.label, got, roster)
		}
		for _, v := range n.subs {
			if !v.ended && !v.stalled && v.view.last.Seq != end {
				s.failf("%s has heard all up to #%d, the log ends at #%d", v.view.label, v.view.last.Seq, end)
			}
		}
		if !slices.ContainsFunc(n.subs, func(v *simSub) bool { return !v.ended && !v.stalled }) { // they were slow
			s.subscribe(n, chat.SubscribeOptions{MaxUnread: -1})
		}
	}
	for _, c := range s.open {
		if c.at.dead {
			continue
		}
		if c.over {
			s.failf("%s was told that it has left, and is still served", c.label)
		}
		if c.cut {
			s.failf("%s is gone, and still served", c.label)
		}
		if c.resume != nil {
			continue
		}
		if c.answered != len(c.asked) {
			s.failf("%s: %d of %d requests are answered", c.label, c.answered, len(c.asked))
		}
		if m := c.member; m != nil {
			if m.left != 0 {
				s.failf("%s is in, and %s has left", c.label, m.label)
			}
			if c.view.last.Seq != end {
				s.failf("%s has heard all up to #%d, the log ends at #%d", c.label, c.view.last.Seq, end)
			}
			if m.by != c.at.log {
				s.failf("%s is in, and %s is held by %s", c.label, m.label, m.by.label)
			}
		}
	}
}

// noGhosts looks for members who are in and are nobody, when all has been well for longer than the bound.
func (s *sim) noGhosts() {
	for _, m := range s.truth.all {
		if m.left == 0 && !s.there(m) {
			s.failf("a ghost: %s (%s) is in since #%d, held by %s, and nobody is there", m.label, m.user.Name, m.join, m.by.label)
		}
		if m.left == 0 && s.judged[m.node] {
			s.failf("%s is in, and its node was taken for dead: %s", m.label, s.beats.label(m.node))
		}
	}
}

// there reports whether somebody is there who could be m.
func (s *sim) there(m *simMember) bool {
	for _, c := range s.open {
		if c.member == m && c.at.log == m.by && !c.cut && !c.at.dead {
			return true
		}
	}
	for _, u := range s.users {
		if u.session != nil && u.member == m && u.at.log == m.by && u.session.Err() == nil && !u.at.dead {
			return true
		}
	}
	return false
}

// finish ends the schedule: everything is well and in order, everybody can say a last word, and when all rooms are shut
// down nobody is in and nothing is left.
func (s *sim) finish() {
	if len(s.wrong) == 0 {
		s.lull()
	}
	if len(s.wrong) == 0 {
		s.comeBack()
	}
	if len(s.wrong) == 0 {
		s.lastWords()
	}
	s.over = true
	if len(s.wrong) == 0 {
		for _, c := range s.open {
			c.unstall()
		}
		for _, n := range s.places {
			if n == nil {
				continue
			}
			for _, v := range n.subs {
				v.stalled = false
			}
			if n.open {
				s.shut(n, s.rnd.IntN(3), false)
			}
		}
		s.wait(simBound)
	}
	s.stop()
	s.sum()
}

// comeBack has everybody come whose name is free, and stay.
func (s *sim) comeBack() {
	s.over = true
	var back []*simConn
	for _, u := range s.users {
		if n := s.pickNode(); n != nil && !u.program && u.conn == nil && s.truth.holders[keyOf(u.name)] == nil {
			c := s.connect(u, n)
			c.request(&simAsk{what: "login as " + u.name}, chat.LoginRequest{Ref: c.ref(), Name: u.name})
			s.settle()
			back = append(back, c)
		}
	}
	s.wait(simBound)
	for _, c := range back {
		if c.ended || c.member == nil || c.member.left != 0 {
			s.failf("everything is well, and %s cannot come and stay", c.label)
		}
	}
}

// fenced looks for connections of a node that has read that it was judged, and goes on with them.
func (s *sim) fenced() {
	for _, c := range s.open {
		if m := c.member; m != nil && m.left == 0 && m.by == c.at.log && s.judged[m.node] && c.at.open && c.at.beat.idle() && !c.cut {
			s.failf("fencing: %s was taken for dead and knows it, and goes on with %s", c.at.label, c.label)
		}
	}
}

func (s *sim) lastWords() {
	var last []*simSend
	for _, u := range s.users {
		switch {
		case u.isIn() && u.conn.resume == nil:
			m := s.newSend(u)
			u.conn.say(m)
			last = append(last, m)
		case u.session != nil && u.session.Err() == nil:
			m := s.newSend(u)
			s.programSay(u, m, 20*time.Second)
			last = append(last, m)
		}
		s.settle()
	}
	s.wait(15 * time.Second)
	for _, m := range last {
		if !m.ok {
			s.failf("%s is in, everything is well, and cannot say %s", m.by.label, m.id)
		}
	}
}

// stop ends everything that still runs, whatever state it is in.
func (s *sim) stop() {
	s.over = true
	for _, st := range []*simStore{s.log, s.beats} {
		for _, l := range slices.Clone(st.handles) {
			l.state = dead
		}
	}
	for _, w := range s.waits {
		w.cancel()
	}
	for _, c := range s.open {
		c.unstall()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, w := range s.waits {
			<-w.done
		}
		for _, n := range s.nodes {
			for _, v := range n.subs {
				v.Close()
			}
			if n.room != nil {
				n.room.Close()
			}
			if n.node != nil {
				n.node.Close()
			}
		}
	}()
	<-done
	for _, c := range s.open {
		<-c.served
	}
}

// sum checks what can be known only at the end.
func (s *sim) sum() {
	for _, m := range s.sends {
		said := m.by.said[m.id]
		switch {
		case m.ok && said == nil:
			s.failf("acknowledged and missing: %s of %s", m.id, m.by.label)
		case said != nil && m.refused == m.tries:
			s.failf("refused yet present: %s of %s, at #%d", m.id, m.by.label, said.seq)
		}
	}
}
