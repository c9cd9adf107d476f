package chat_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/chat"
)

// The truth is what stands in the log, read by the simulation as it is appended and kept whole, whatever the log forgets.
// It has a decoder and a fold of its own: the room's are under test.
type simTruth struct {
	sim     *sim
	events  []chat.Event // at index Seq-1
	said    []*simSaid   // at the same index; nil for other events
	of      []*simMember // and whose each is
	rosters [][]chat.User
	holders map[string]*simMember // who is in, by the key of the name
	members map[string]*simMember // all that ever were, by session
	all     []*simMember
}

// A simMember is a session that joined.
type simMember struct {
	id, label  string
	user       chat.User
	linger     time.Duration
	join, last uint64
	by         *simLog // whose last record it is: who may speak for it
	node       string  // the incarnation in it
	token      string  // as far as anybody was told
	said       map[string]*simSaid
	left       uint64
	lost       time.Duration // when its connection was; -1: it was not
}

// A simSaid is a message in the log.
type simSaid struct {
	by   *simMember
	id   string
	text string
	seq  uint64
	time time.Duration
}

func newTruth(s *sim, log *chat.MemoryLog) *simTruth {
	tr := &simTruth{sim: s, holders: make(map[string]*simMember), members: make(map[string]*simMember), rosters: [][]chat.User{{}}}
	_, err := log.Follow(chat.Position{}, func(recs []chat.Record, err error) {
		for _, rec := range recs {
			tr.add(rec)
		}
	})
	if err != nil {
		s.failf("following the log: %v", err)
	}
	return tr
}

// The kinds of records, as record.go has them.
const (
	simJoined byte = iota + 1
	simSaying
	simLeft
	simResumed
)

// add takes a record, and checks that the log may have it.
func (tr *simTruth) add(rec chat.Record) {
	s := tr.sim
	seq := rec.Pos.Seq
	if seq != uint64(len(tr.events)+1) {
		s.failf("the log goes on at %d after %d", seq, len(tr.events))
	}
	d := simDecoder{rec.Data}
	version, kind := d.byte(), d.byte()
	session := d.string()
	user := chat.User{Name: d.string(), ID: d.string()}
	join := d.uvarint()
	if version != 1 {
		s.failf("record %d has version %d", seq, version)
	}
	m := tr.members[session]
	if kind == simJoined {
		if h := tr.holders[keyOf(user.Name)]; h != nil {
			s.failf("two holders of a name: at #%d %v joins while %s holds it", seq, user, h.label)
		}
		if m != nil {
			s.failf("session %s joins twice, at #%d", m.label, seq)
		}
		m = &simMember{id: session, label: s.log.label(session), user: user, said: make(map[string]*simSaid), join: seq}
		tr.members[session] = m
		tr.all = append(tr.all, m)
	}
	if m == nil {
		s.failf("record %d is of a session that never joined", seq)
		m = &simMember{id: session, user: user}
	}
	if m.user != user || kind != simJoined && m.join != join {
		s.failf("record %d names %v and join %d, the session is of %v and joined at %d", seq, user, join, m.user, m.join)
	}
	if m.left != 0 {
		switch kind {
		case simSaying:
			s.failf("a message after its speaker's Left: #%d of %s, who left at #%d", seq, m.label, m.left)
		case simLeft:
			s.failf("Left twice: %s at #%d and #%d", m.label, m.left, seq)
		default:
			s.failf("%s is back at #%d, and left at #%d", m.label, seq, m.left)
		}
	}
	at := chat.Meta{Pos: rec.Pos, Prev: chat.Position{Epoch: rec.Pos.Epoch, Seq: seq - 1}, Time: rec.Time}
	roster := tr.rosters[len(tr.rosters)-1]
	var e chat.Event
	var msg *simSaid
	switch kind {
	case simJoined, simResumed:
		m.linger = time.Duration(d.uvarint()) * time.Millisecond
		m.node, _, _ = strings.Cut(d.string(), "/")
		m.last, m.by, m.lost = seq, s.log.by, -1
		if kind == simJoined {
			e = chat.Joined{At: at, User: user}
			tr.holders[keyOf(user.Name)] = m
			roster = append(slices.Clone(roster), user)
		} else {
			e = chat.Resumed{At: at, User: user}
		}
	case simSaying:
		msg = &simSaid{by: m, id: rec.ID[len(session)+1:], text: d.string(), seq: seq, time: s.now()}
		e = chat.Said{At: at, User: user, ID: msg.id, Text: msg.text}
		if first := m.said[msg.id]; first != nil && !s.mayDouble(first) {
			s.failf("doubled: message %s of %s is at #%d and at #%d%s", msg.id, m.label, first.seq, seq, s.ago(first.time))
		}
		m.said[msg.id] = msg
		if m.by != s.log.by {
			s.failf("fencing: #%d was said through %s, and %s has been held by %s since #%d", seq, s.log.by.label, m.label, m.by.label, m.last)
		}
	case simLeft:
		reason := chat.Reason(d.byte())
		e = chat.Left{At: at, User: user, Reason: reason, Note: d.string()}
		switch {
		case reason != chat.Lost || s.judged[m.node]:
		case s.there(m):
			s.failf("%s leaves for lost at #%d, and is there", m.label, seq)
		case m.lost >= 0 && s.now() < m.lost+m.linger:
			s.failf("%s leaves for lost at #%d, and its linger of %v is not over%s", m.label, seq, m.linger, s.ago(m.lost))
		}
		m.left = seq
		if key := keyOf(user.Name); tr.holders[key] == m {
			delete(tr.holders, key)
		}
		roster = slices.DeleteFunc(slices.Clone(roster), func(u chat.User) bool { return u == user })
	default:
		s.failf("record %d is of kind %d", seq, kind)
	}
	tr.events, tr.said, tr.of = append(tr.events, e), append(tr.said, msg), append(tr.of, m)
	tr.rosters = append(tr.rosters, roster)
	s.tracef("log: #%d %s", seq, tr.gist(seq))
}

// mayDouble reports whether the message that is appended just now may be there a second time, though nobody did wrong: the
// log has forgotten the ID, as clause A1 lets it after 30 s, and its record was trimmed before the room opened.
func (s *sim) mayDouble(first *simSaid) bool {
	return s.forgotten(first) && s.log.by.first >= first.seq
}

// gist is a record in a few words.
func (tr *simTruth) gist(seq uint64) string {
	m := tr.of[seq-1]
	switch e := tr.events[seq-1].(type) {
	case chat.Joined:
		return fmt.Sprintf("%s joins as %s", m.label, e.User.Name)
	case chat.Resumed:
		return fmt.Sprintf("%s (%s) resumes", m.label, e.User.Name)
	case chat.Said:
		return fmt.Sprintf("%s (%s) says %s", m.label, e.User.Name, e.ID)
	case chat.Left:
		return fmt.Sprintf("%s (%s) leaves: %v", m.label, e.User.Name, e.Reason)
	}
	return "?"
}

// at returns the event at a position; nil where there is none.
func (tr *simTruth) at(p chat.Position) chat.Event {
	if p.Seq == 0 || p.Seq > uint64(len(tr.events)) {
		return nil
	}
	return tr.events[p.Seq-1]
}

// whose returns the session of the record at a position; nil where there is none.
func (tr *simTruth) whose(p chat.Position) *simMember {
	if tr.at(p) == nil {
		return nil
	}
	return tr.of[p.Seq-1]
}

func (tr *simTruth) end() uint64 { return uint64(len(tr.events)) }

// A view is what somebody has been given of the room, from a start on: it must be the truth, with nothing left out.
type simView struct {
	label string
	last  chat.Position
	open  bool // it has begun
}

// begin checks a start against what was asked for.
func (s *sim) begin(v *simView, st chat.Start, asked chat.SubscribeOptions) {
	v.last, v.open = st.At, true
	if st.At.Seq > s.truth.end() {
		s.failf("%s begins at %d, the log ends at %d", v.label, st.At.Seq, s.truth.end())
		return
	}
	if st.Resumed {
		if st.At != asked.After || st.Roster != nil {
			s.failf("%s asked for %v, and is told that it resumes at %v with the roster %v", v.label, asked.After, st.At, st.Roster)
		}
		return
	}
	if !asked.After.IsZero() && !asked.Fresh {
		s.failf("%s asked for exactly what follows %v, and begins afresh at %v", v.label, asked.After, st.At)
	}
	if want := s.truth.rosters[st.At.Seq]; !slices.Equal(want, st.Roster) {
		s.failf("the roster: %s begins at #%d with %v, the fold is %v", v.label, st.At.Seq, st.Roster, want)
	}
}

// hears checks the next event of a view.
func (s *sim) hears(v *simView, e chat.Event) {
	m := e.Meta()
	switch {
	case !v.open:
		s.failf("%s hears #%d before it was told where it begins", v.label, m.Pos.Seq)
	case m.Prev != v.last:
		s.failf("order: %s hears #%d, which names #%d before it, after #%d", v.label, m.Pos.Seq, m.Prev.Seq, v.last.Seq)
	case s.truth.at(m.Pos) != e:
		s.failf("order: %s hears %+v, the log has %+v", v.label, e, s.truth.at(m.Pos))
	}
	v.last, v.open = m.Pos, true
}

// A simDecoder reads the data of a record, which the room's own decoder has not touched.
type simDecoder struct{ data []byte }

var errShort = errors.New("short")

func (d *simDecoder) byte() byte {
	if len(d.data) == 0 {
		panic(errShort)
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *simDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		panic(errShort)
	}
	d.data = d.data[n:]
	return v
}

func (d *simDecoder) string() string {
	n := d.uvarint()
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}
