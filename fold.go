package chat

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
)

// A fold is what a room knows after reading its log up to a position: who is in, and which messages each has sent
// lately. It is guarded by the room's mutex.
type fold struct {
	members  map[string]*member // by the key of their name
	sessions map[string]*member // the same, by the session's id
	tokens   map[string]*member // the same, by the hash of their token
	seats    []seat             // the roster, in the order of joining
	shared   bool               // somebody else holds seats: copy before removing from it
	seed     maphash.Seed       // of sent.hash
}

// A seat is a place in the roster.
type seat struct {
	user User
	join uint64 // the sequence of its Joined
}

// A member is a session that has joined and not left, on whichever node.
type member struct {
	body        // of its last record under the name's key
	key  string // of the name
	join uint64 // the sequence of its Joined
	last uint64 // the sequence of that last record: what guards check
	ids  []sent // its last messages, a ring of at most keptIDs
	next int    // where in the ring the next one goes, once it is full
}

// keptIDs is how many message IDs of a session are remembered, so that sending one again is recognised (promise 8).
const keptIDs = 256

// A sent is a message ID that a member used: 16 bytes instead of the up to 64 of the ID. The hash is seeded, so that
// nobody can prepare two IDs with the same.
type sent struct{ hash, seq uint64 }

func newFold() fold {
	return fold{
		members: make(map[string]*member), sessions: make(map[string]*member), tokens: make(map[string]*member),
		seed: maphash.MakeSeed(),
	}
}

// load sets a member from a record of a snapshot.
func (f *fold) load(rec Record) error {
	b, err := decode(rec)
	if err != nil {
		return err
	}
	if b.kind != kindJoined && b.kind != kindResumed {
		return RecordError{rec.Pos, "not a member's record"}
	}
	m := &member{body: b, key: rec.Key, join: joinSeq(rec, b), last: rec.Pos.Seq}
	i, found := findSeat(f.seats, m.join)
	if found || f.sessions[m.session] != nil {
		return RecordError{rec.Pos, "a session under two names"}
	}
	f.members[m.key], f.sessions[m.session], f.tokens[m.token] = m, m, m
	f.seats = slices.Insert(f.seats, i, seat{b.user, m.join})
	return nil
}

// apply takes the next record of the log. A record that does not fit what came before shows a log that does not keep
// its guards; the error is a RecordError.
func (f *fold) apply(rec Record, b body) error {
	if b.kind == kindSaid {
		m := f.sessions[b.session]
		if m == nil {
			return RecordError{rec.Pos, "said by nobody who is in"}
		}
		if b.user != m.user || b.join != m.join {
			return RecordError{rec.Pos, "not as its session joined"}
		}
		m.remember(f.hash(messageID(rec, b)), rec.Pos.Seq)
		return nil
	}
	m := f.members[rec.Key]
	switch {
	case b.kind == kindJoined && (m != nil || f.sessions[b.session] != nil):
		return RecordError{rec.Pos, "joined under a name that is held"}
	case b.kind != kindJoined && (m == nil || m.session != b.session):
		return RecordError{rec.Pos, "not by the holder of the name"}
	case b.kind != kindJoined && (b.user != m.user || b.join != m.join):
		return RecordError{rec.Pos, "not as its session joined"}
	}
	switch b.kind {
	case kindJoined:
		m = &member{body: b, key: rec.Key, join: rec.Pos.Seq, last: rec.Pos.Seq}
		f.members[m.key], f.sessions[m.session], f.tokens[m.token] = m, m, m
		f.seats = append(f.seats, seat{b.user, rec.Pos.Seq})
	case kindResumed:
		f.forget(m)
		m.body, m.last = b, rec.Pos.Seq
		f.tokens[m.token] = m
	case kindLeft:
		delete(f.members, rec.Key)
		delete(f.sessions, m.session)
		f.forget(m)
		i, _ := findSeat(f.seats, m.join)
		if f.shared {
			f.seats, f.shared = slices.Clone(f.seats), false
		}
		f.seats = slices.Delete(f.seats, i, i+1)
	}
	return nil
}

// forget drops a member's token. Two who logged in at the same instant may have chosen the same; it is the later one's.
func (f *fold) forget(m *member) {
	if f.tokens[m.token] == m {
		delete(f.tokens, m.token)
	}
}

// recall takes the message ID of a record from before the snapshot that was loaded, if its session is still in.
func (f *fold) recall(rec Record, b body) {
	if m := f.sessions[b.session]; m != nil && b.kind == kindSaid {
		m.remember(f.hash(messageID(rec, b)), rec.Pos.Seq)
	}
}

// sent returns the sequence of a message that a session sent lately.
func (f *fold) sent(session, id string) (seq uint64, ok bool) {
	m := f.sessions[session]
	if m == nil || len(m.ids) == 0 {
		return 0, false
	}
	h := f.hash(id)
	for _, s := range m.ids {
		if s.hash == h {
			return s.seq, true
		}
	}
	return 0, false
}

// share returns the roster, which nobody will change.
func (f *fold) share() []seat {
	f.shared = true
	return f.seats[:len(f.seats):len(f.seats)]
}

// hash is how the ring remembers an ID.
func (f *fold) hash(id string) uint64 { return maphash.String(f.seed, id) }

func (m *member) remember(hash, seq uint64) {
	if len(m.ids) < keptIDs {
		m.ids = append(m.ids, sent{hash, seq})
		return
	}
	m.ids[m.next] = sent{hash, seq}
	m.next = (m.next + 1) % keptIDs
}

// event makes the public event of a record.
func event(rec Record, b body, prev Position) Event {
	at := Meta{Pos: rec.Pos, Prev: prev, Time: rec.Time}
	switch b.kind {
	case kindJoined:
		return Joined{at, b.user}
	case kindSaid:
		return Said{at, b.user, messageID(rec, b), b.text}
	case kindLeft:
		return Left{at, b.user, b.reason, b.text}
	case kindResumed:
		return Resumed{at, b.user}
	}
	panic(fmt.Sprintf("chat: a decoded record of kind %d", b.kind))
}

// joinSeq is the sequence of the Joined of a record's session.
func joinSeq(rec Record, b body) uint64 {
	if b.kind == kindJoined {
		return rec.Pos.Seq
	}
	return b.join
}

// findSeat returns where in a roster the seat of a join is, or would be.
func findSeat(seats []seat, join uint64) (at int, found bool) {
	return slices.BinarySearchFunc(seats, join, func(s seat, join uint64) int { return cmp.Compare(s.join, join) })
}

// rewind returns the roster as it was before events, given the one after them. joins holds the sequence of each event's
// session's Joined.
func rewind(seats []seat, events []Event, slots []slot) []seat {
	owned := false
	for i := len(events) - 1; i >= 0; i-- {
		var left User
		switch e := events[i].(type) {
		case Joined:
		case Left:
			left = e.User
		default:
			continue
		}
		if !owned {
			seats, owned = slices.Clone(seats), true
		}
		at, found := findSeat(seats, slots[i].join)
		if found {
			seats = slices.Delete(seats, at, at+1)
		} else {
			seats = slices.Insert(seats, at, seat{left, slots[i].join})
		}
	}
	return seats
}

// users returns the public form of a roster.
func users(seats []seat) []User {
	list := make([]User, len(seats))
	for i, s := range seats {
		list[i] = s.user
	}
	return list
}
