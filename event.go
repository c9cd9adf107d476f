package chat

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Event is something that happened in a room and stands in its log. The set is closed:
//
//   - [Joined]: somebody came in.
//   - [Said]: a member said something.
//   - [Left]: a member is gone; the name is free again.
//   - [Resumed]: a member who was away is back. The roster does not change.
//
// Events are plain values, comparable with ==.
type Event interface {
	Meta() Meta // where the event stands
	event()     // sealed
}

// Joined says that User came in. The name is theirs until their [Left].
type Joined struct {
	At   Meta
	User User
}

// Said says that User said Text. The room set User: no client names an author.
type Said struct {
	At   Meta
	User User
	ID   string // the sender's, unique in the sender's session; see [SendOptions]
	Text string // valid UTF-8, as sent: it may hold markup; who shows it must escape it
}

// Left says that User is gone, and why. There is exactly one for each [Joined].
type Left struct {
	At     Meta
	User   User
	Reason Reason
	Note   string // the words given to [Room.Kick]; empty for other reasons
}

// Resumed says that User, who was away, is connected again.
type Resumed struct {
	At   Meta
	User User
}

func (e Joined) Meta() Meta  { return e.At }
func (e Said) Meta() Meta    { return e.At }
func (e Left) Meta() Meta    { return e.At }
func (e Resumed) Meta() Meta { return e.At }

func (Joined) event()  {}
func (Said) event()    {}
func (Left) event()    {}
func (Resumed) event() {}

// Meta is what every event has.
type Meta struct {
	// Pos is this event's place in the room's order, Prev that of the event before it. The first event of a log's
	// life has the Prev {Epoch, 0}. A reader who compares each Prev with the last Pos sees that nothing is missing.
	Pos, Prev Position

	// Time is when the log took the event: UTC, without a monotonic part. It is for people; order is Pos.
	Time time.Time
}

// A Position is a place in a room's log. Positions of one epoch grow with Seq; they need not be consecutive, since a
// log may number many rooms together. Another epoch is another life of the log: the two cannot be compared.
//
// The zero Position means "not given". {E, 0} is the start of life E, before its first event.
type Position struct{ Epoch, Seq uint64 }

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the text form: the epoch in hexadecimal, a dash, the sequence in decimal.
func (p Position) String() string {
	return strconv.FormatUint(p.Epoch, 16) + "-" + strconv.FormatUint(p.Seq, 10)
}

// MarshalText returns the text form, as [Position.String]. A client keeps it and gives it back; it need not read it.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form, in its one spelling. The error is an [ErrRequest].
func (p *Position) UnmarshalText(text []byte) error {
	epoch, seq, ok := strings.Cut(string(text), "-")
	e, err1 := strconv.ParseUint(epoch, 16, 64)
	s, err2 := strconv.ParseUint(seq, 10, 64)
	q := Position{e, s}
	if !ok || err1 != nil || err2 != nil || q.String() != string(text) {
		return fmt.Errorf("%w: not a position: %.64q", ErrRequest, text)
	}
	*p = q
	return nil
}

// A Reason says why somebody left. Zero is not a reason.
type Reason uint8

const (
	Logout   Reason = iota + 1 // they said so, and may still be connected
	Goodbye                    // they closed the connection
	Lost                       // the connection broke or fell silent, and the linger is over
	Kicked                     // a program ended the session, see [Room.Kick]
	Slow                       // they fell too far behind to be served, see [SlowError]
	Shutdown                   // the room ended
)

var reasons = [...]string{
	Logout: "logout", Goodbye: "goodbye", Lost: "lost", Kicked: "kicked", Slow: "slow", Shutdown: "shutdown",
}

// String returns the reason in one lower-case word.
func (r Reason) String() string {
	if int(r) < len(reasons) && r != 0 {
		return reasons[r]
	}
	return "reason(" + strconv.Itoa(int(r)) + ")"
}

// MarshalText returns the word of [Reason.String].
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
