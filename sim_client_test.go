package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"example.com/chat"
)

// A simUser is somebody with a name, who comes over connections or is a part of the program, and remembers what a good
// client remembers: its token, where it has read to, and what it has said and not been answered.
type simUser struct {
	index   int
	name    string
	program bool // it calls the room itself

	conn   *simConn // over which it is there, as far as it knows
	member *simMember
	token  string
	kept   chat.Position // the last event it was given, or the start
	sends  []*simSend    // in its session

	back map[*simNode]bool // where it has resumed, or tried to

	// Of a program.
	session *chat.Session
	at      *simNode
	asking  bool // a login or a resuming is under way
}

func (u *simUser) id() string { return fmt.Sprint("u", u.index) }

// A simSend is a message, and what its sender was told of it.
type simSend struct {
	by       *simMember
	id, text string
	tries    int
	open     int // tries that are not answered, nor ever will be
	refused  int // those that leave nothing open
	ok       bool
	rcpt     chat.Receipt
}

// A simConn is a connection.
type simConn struct {
	*guest
	sim      *sim
	user     *simUser
	at       *simNode
	label    string
	view     simView
	member   *simMember // who is logged in over it
	asked    []*simAsk
	answered int
	read     int    // how many of got were looked at
	resume   func() // not nil while it is stalled
	gone     bool   // the client has
	cut      bool   // and the transport has noticed
	ended    bool   // Serve has returned
	out      bool   // it has asked to log out
	over     bool   // the session was ended, and not by its client: the connection must end too
	linger   time.Duration
}

// A simAsk is a request.
type simAsk struct {
	what  string
	send  *simSend
	first bool // nobody has sent that message before
	token string
	of    *simMember // whose token it is, and who was in at the time
	hear  chat.SubscribeOptions
	after uint64 // where the log ended
}

var lingers = []time.Duration{0, 2 * time.Second, 20 * time.Second}

// connect opens a connection of a user.
func (s *sim) connect(u *simUser, n *simNode) *simConn {
	s.conns++
	c := &simConn{guest: newGuest(s.t), sim: s, user: u, at: n, label: fmt.Sprintf("%s/c%d@%s", u.id(), s.conns, n.label), linger: lingers[s.rnd.IntN(len(lingers))]}
	c.view.label = c.label
	o := &chat.ServeOptions{UserID: u.id(), Linger: c.linger, Rate: -1}
	if s.chance(20) && !s.over {
		o.MaxUnread = 800
	}
	c.serve(context.Background(), n.room, o)
	s.open = append(s.open, c)
	u.conn = c
	s.tracef("%s: connects, linger %v", c.label, c.linger)
	return c
}

// ask sends a request.
func (c *simConn) request(a *simAsk, req chat.Request) {
	a.after = c.sim.truth.end()
	c.asked = append(c.asked, a)
	c.sim.tracef("%s: %s", c.label, a.what)
	c.in <- req
}

func (c *simConn) ref() string { return strconv.Itoa(len(c.asked)) }

// enter logs in, or resumes.
func (c *simConn) enter(resume bool) {
	s, u := c.sim, c.user
	a := &simAsk{what: "login as " + u.name}
	req := chat.LoginRequest{Ref: c.ref(), Name: u.name}
	if resume {
		u.back[c.at] = true
		a.what, a.token = "resume of "+u.member.label, u.token
		req.Token, req.Name = u.token, ""
		if u.member.left == 0 {
			a.of = u.member
		}
	}
	switch n := s.rnd.IntN(10); {
	case n < 6 && !u.kept.IsZero():
		req.Hear.After, req.Hear.Fresh = u.kept, s.chance(30)
		a.what += fmt.Sprintf(" after #%d, fresh %v", u.kept.Seq, req.Hear.Fresh)
	case n < 8:
		req.Hear.Last = s.rnd.IntN(12)
	}
	a.hear = req.Hear
	c.request(a, req)
}

// say sends a message, a new one or one that was sent before.
func (c *simConn) say(m *simSend) {
	m.tries++
	m.open++
	c.request(&simAsk{what: "say " + m.id, send: m, first: m.tries == 1}, chat.SendRequest{Ref: c.ref(), ID: m.id, Text: m.text})
}

// newSend makes a message of a user's session.
func (s *sim) newSend(u *simUser) *simSend {
	s.messages++
	m := &simSend{by: u.member, id: fmt.Sprint("m", s.messages), text: fmt.Sprint("text ", s.messages)}
	if s.chance(10) {
		m.text += fmt.Sprintf("%0200d", 0)
	}
	u.sends = append(u.sends, m)
	s.sends = append(s.sends, m)
	return m
}

// leave is the client going, by a goodbye or without a word.
func (c *simConn) leave(goodbye bool) {
	c.sim.tracef("%s: gone, goodbye %v", c.label, goodbye)
	c.gone = true
	if c.user.conn == c {
		c.user.conn = nil
	}
	if goodbye {
		c.cut = true
		c.unstall()
		c.goodbye()
	}
}

// notice is the transport noticing.
func (c *simConn) notice() {
	c.cut = true
	if m := c.member; m != nil && m.by == c.at.log {
		m.lost = c.sim.now()
	}
	c.unstall()
	c.lose(io.ErrUnexpectedEOF)
}

func (c *simConn) unstall() {
	if c.resume != nil {
		c.resume()
		c.resume = nil
	}
}

// look takes in what the connection was given.
func (c *simConn) look() {
	c.mu.Lock()
	got := c.got[c.read:]
	c.read = len(c.got)
	c.mu.Unlock()
	s, u := c.sim, c.user
	for _, x := range got {
		switch x := x.(type) {
		case chat.LoginReply:
			c.entered(c.answer(x.Ref, x), x)
		case chat.SendReply:
			c.sent(c.answer(x.Ref, x), x)
		case chat.ErrorReply:
			c.refused(c.answer(x.Ref, x), x.Err)
		case chat.Event:
			s.hears(&c.view, x)
			if left, ok := x.(chat.Left); ok && c.member != nil && s.truth.whose(left.At.Pos) == c.member {
				c.told(left)
			}
		default:
			s.failf("%s is given %T", c.label, x)
		}
		if u.conn == c {
			u.kept = c.view.last
		}
	}
	select {
	case <-c.served:
		c.finish()
	default:
	}
}

// answer returns the request that a reply is for: they are answered in order, each once.
func (c *simConn) answer(ref string, rep chat.Reply) *simAsk {
	if n, _ := strconv.Atoi(ref); n != c.answered || n >= len(c.asked) {
		c.sim.failf("%s: the answer %+v comes when %d of %d requests are answered", c.label, rep, c.answered, len(c.asked))
		return &simAsk{what: "nothing"}
	}
	c.answered++
	return c.asked[c.answered-1]
}

// early checks that a reply comes before its event.
func (c *simConn) early(what string, pos chat.Position) {
	if c.view.open && c.view.last.Seq >= pos.Seq {
		c.sim.failf("a reply after its event: %s is told of %s at #%d, and has heard all up to #%d", c.label, what, pos.Seq, c.view.last.Seq)
	}
}

// entered takes the answer to a login or a resuming.
func (c *simConn) entered(a *simAsk, x chat.LoginReply) {
	s, u := c.sim, c.user
	m := s.truth.whose(x.Pos)
	c.tracef("in at #%d", x.Pos.Seq)
	if m == nil || m.user != x.User || x.User.ID != u.id() || x.User.Name != u.name {
		s.failf("acknowledged and missing: %s is told that it is in at #%d as %v", c.label, x.Pos.Seq, x.User)
		return
	}
	_, joined := s.truth.at(x.Pos).(chat.Joined)
	_, resumed := s.truth.at(x.Pos).(chat.Resumed)
	switch {
	case a.token != "" && (!resumed || s.tokens[a.token] != m || x.Token != a.token):
		s.failf("%s has %s resumed, and is told of #%d: %s", c.label, a.what, x.Pos.Seq, s.truth.gist(x.Pos.Seq))
	case a.token == "" && (!joined || s.tokens[x.Token] != nil || x.Pos.Seq <= a.after):
		s.failf("%s has logged in, and is told of #%d: %s", c.label, x.Pos.Seq, s.truth.gist(x.Pos.Seq))
	}
	s.tokens[x.Token], m.token = m, x.Token
	if x.Start == nil {
		s.failf("%s is in, and is not told where it begins to hear", c.label)
	} else {
		s.begin(&c.view, *x.Start, a.hear)
	}
	c.early("its login", x.Pos)
	c.member = m
	if u.conn == c {
		u.is(m, x.Token)
	}
}

// is makes m the user's session.
func (u *simUser) is(m *simMember, token string) {
	if u.member != m {
		u.sends = nil
	}
	u.member, u.token = m, token
}

// sent takes the answer to a message, or to a logout.
func (c *simConn) sent(a *simAsk, x chat.SendReply) {
	s := c.sim
	pos := x.Receipt.Pos
	if a.send == nil {
		if left, ok := s.truth.at(pos).(chat.Left); !ok || left.User.ID != c.user.id() {
			s.failf("acknowledged and missing: %s has logged out at #%d", c.label, pos.Seq)
		}
		c.early("its logout", pos)
		c.tracef("out at #%d", pos.Seq)
		c.member = nil
		return
	}
	if a.first {
		c.early("its message", pos)
	}
	if s.isReceipt(c.label, a.send, x.Receipt); !c.cut {
		s.receipt(c.label, a.send, x.Receipt)
	}
}

// tracef notes something that the client of a connection has learned; whether one that is gone does is a race that Serve
// does not decide.
func (c *simConn) tracef(format string, args ...any) {
	if !c.cut {
		c.sim.tracef(c.label+": "+format, args...)
	}
}

// isReceipt checks a receipt against the log.
func (s *sim) isReceipt(who string, m *simSend, rcpt chat.Receipt) {
	said, ok := s.truth.at(rcpt.Pos).(chat.Said)
	switch {
	case !ok || said.ID != m.id || said.Text != m.text || said.At.Pos != rcpt.Pos || s.truth.whose(rcpt.Pos) != m.by:
		s.failf("acknowledged and missing: %s has a receipt for %s of %s at #%d", who, m.id, m.by.label, rcpt.Pos.Seq)
	case rcpt.ID != m.id:
		s.failf("%s has a receipt for %q, not for %q", who, rcpt.ID, m.id)
	case m.ok && m.rcpt != rcpt:
		// Where it may be there twice, a room that knows the first has that for an answer, and another the second.
		if first := s.truth.said[min(m.rcpt.Pos.Seq, rcpt.Pos.Seq)-1]; !s.forgotten(first) {
			s.failf("%s has a receipt for %s at #%d, and had one at #%d", who, m.id, rcpt.Pos.Seq, m.rcpt.Pos.Seq)
		}
	}
}

// receipt takes a receipt.
func (s *sim) receipt(who string, m *simSend, rcpt chat.Receipt) {
	s.tracef("%s: %s is at #%d", who, m.id, rcpt.Pos.Seq)
	m.ok, m.rcpt = true, rcpt
	m.open--
}

// told is an error for the trace: which of those comes that a room has when it ends is a race that it does not decide.
func told(err error, n *simNode) string {
	if !n.open && !errors.Is(err, chat.ErrUnknown) {
		return "refused, as the room ends"
	}
	return err.Error()
}

// refusal takes an error for a message.
func (s *sim) refusal(who string, m *simSend, err error, n *simNode) {
	m.open--
	s.tracef("%s: %s: %s", who, m.id, told(err, n))
	if errors.Is(err, chat.ErrUnknown) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		m.open++ // for ever
		return
	}
	m.refused++
	if said := m.by.said[m.id]; said != nil && m.tries == m.refused {
		s.failf("refused yet present: %s is told %v of %s, which is at #%d", who, err, m.id, said.seq)
	} else if said != nil && errors.Is(err, chat.ErrSession) && !s.forgotten(said) {
		s.failf("refused yet present: %s is told %v at its retry of %s, which is at #%d%s", who, err, m.id, said.seq, s.ago(said.time))
	}
}

// forgotten reports whether a log may have forgotten an ID.
func (s *sim) forgotten(m *simSaid) bool { return m == nil || s.now()-m.time >= 30*time.Second }

// refused takes an error for a request.
func (c *simConn) refused(a *simAsk, err error) {
	s, u := c.sim, c.user
	if c.cut {
		return
	}
	if code := chat.Code(err); code == "internal" || code == "record" {
		s.failf("%s: %s: an answer of no good kind: %v", c.label, a.what, err)
	}
	if a.send != nil {
		s.refusal(c.label, a.send, err, c.at)
		return
	}
	s.tracef("%s: %s: %v", c.label, a.what, told(err, c.at))
	switch {
	case errors.Is(err, chat.ErrToken):
		if a.of != nil && a.of.left == 0 {
			s.failf("%s: a token is refused whose session is in: %s", c.label, a.of.label)
		}
		if u.conn == c && (u.member == nil || u.member.left != 0) {
			u.token = ""
		}
	case errors.Is(err, chat.ErrAhead), errors.Is(err, chat.ErrEpoch):
		s.failf("%s: #%d is in the log, and refused: %v", c.label, a.hear.After.Seq, err)
	case errors.Is(err, chat.ErrTrimmed):
		if a.hear.Fresh || a.hear.After.IsZero() {
			s.failf("%s asked for a fresh start where need be: %v", c.label, err)
		}
		if u.conn == c {
			u.kept = chat.Position{}
		}
	}
}

// told takes the Left of the connection's own session.
func (c *simConn) told(left chat.Left) {
	if c.user.conn == c && c.user.member == c.member {
		c.user.token = ""
	}
	c.member = nil
	if left.Reason != chat.Logout {
		c.over = !c.out
		if !c.gone {
			c.tracef("is told that it has left for %v", left.Reason)
		}
	}
}

// finish takes the end of a connection.
func (c *simConn) finish() {
	if c.ended {
		return
	}
	s, u := c.sim, c.user
	c.ended = true
	err, cause := c.end()
	s.tracef("%s: ended: %v", c.label, err)
	switch {
	case err == nil, errors.Is(err, chat.ErrLost), errors.Is(err, chat.ErrSlow), errors.Is(err, chat.ErrKicked),
		errors.Is(err, chat.ErrTakenOver), errors.Is(err, chat.ErrFenced), errors.Is(err, chat.ErrClosed), errors.Is(err, chat.ErrLoginTimeout):
	default:
		s.failf("%s ended: %v", c.label, err)
	}
	if err != nil && !errors.Is(cause, err) && cause != io.EOF {
		s.failf("%s: Close was told %v, Serve returned %v", c.label, cause, err)
	}
	if errors.Is(err, chat.ErrTakenOver) && c.member != nil && c.member.by == c.at.log && c.member.left == 0 && !u.back[c.at] {
		s.failf("%s was taken over by nobody", c.label)
	}
	if u.conn == c {
		u.conn = nil
	}
	for _, a := range c.asked[c.answered:] {
		c.tracef("no answer: %s", a.what)
	}
}
