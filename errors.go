package chat

import (
	"errors"
	"fmt"
	"time"
)

// What a room refuses with. Each method names those it returns; match them with [errors.Is]. [Code] gives each a word.
var (
	ErrClosed      = errors.New("chat: closed")                           // the room or the log has ended
	ErrName        = errors.New("chat: name not allowed")                 // by the NamePolicy; usually a [NameError]
	ErrNameTaken   = errors.New("chat: name is taken")                    // another member holds the name
	ErrText        = errors.New("chat: text is empty or not valid UTF-8") // of a message
	ErrID          = errors.New("chat: not an ID")                        // of a message: see [SendOptions]
	ErrSession     = errors.New("chat: session has ended")                // or is of another room, or nil
	ErrNotLoggedIn = errors.New("chat: not logged in")                    // a request that needs a session
	ErrLoggedIn    = errors.New("chat: logged in already")                // a second login on one connection
	ErrToken       = errors.New("chat: no session of that token")         // there is none, or it has left
	ErrConnected   = errors.New("chat: session is connected")             // resuming it needs TakeOver
	ErrTakenOver   = errors.New("chat: session was taken over")           // it was resumed from elsewhere
	ErrFenced      = errors.New("chat: node was taken for dead")          // come back, and resume
	ErrNotMember   = errors.New("chat: no member of that name")           // of Kick
	ErrHearing     = errors.New("chat: subscribed already")               // a second subscription on one connection
	ErrRequest     = errors.New("chat: malformed request")                // of a client
	ErrKicked      = errors.New("chat: kicked")                           // what a [KickedError] is
	ErrLost        = errors.New("chat: connection lost")                  // the peer vanished, or fell silent

	// Of a position, or a log.
	ErrTrimmed  = errors.New("chat: position is no longer kept")
	ErrEpoch    = errors.New("chat: position is of another life of the log")
	ErrAhead    = errors.New("chat: position is not in the log")
	ErrConflict = errors.New("chat: guard does not hold")
	ErrFull     = errors.New("chat: log is full")
	ErrTooLarge = errors.New("chat: entry is too large for the log")
	ErrUnknown  = errors.New("chat: outcome is unknown")
	ErrRecord   = errors.New("chat: record cannot be read") // what a [RecordError] is

	// The limits, one sentinel each. The error returned is a [LimitError] that holds the sentinel and the number, except
	// for ErrSlow, which is a [SlowError]. The table in the package documentation lists them with their defaults.
	ErrNameTooLong  = errors.New("chat: name is too long")
	ErrTextTooLong  = errors.New("chat: text is too long")
	ErrRoomFull     = errors.New("chat: room is full")
	ErrSubscribers  = errors.New("chat: too many subscribers")
	ErrRate         = errors.New("chat: too many requests")
	ErrSource       = errors.New("chat: too many connections from one source")
	ErrAnonymous    = errors.New("chat: too many connections that are not logged in")
	ErrLoginTimeout = errors.New("chat: not logged in in time")
	ErrSlow         = errors.New("chat: too slow")
)

// A LimitError says which limit was reached. It is comparable, and [errors.Is] its Limit.
type LimitError struct {
	Limit      error         // one of the sentinels above
	Max        int           // the limit's number: bytes, members, connections, requests a second
	RetryAfter time.Duration // when it may work again; 0: not by waiting
}

func (e LimitError) Error() string { return fmt.Sprintf("%v (limit %d)", e.Limit, e.Max) }
func (e LimitError) Unwrap() error { return e.Limit }

// A SlowError ends a subscriber that fell too far behind, or whose connection took no bytes in time. Nothing was
// skipped: it had been given everything up to Pos, and may resume from what it received last. It is an [ErrSlow].
type SlowError struct {
	Pos    Position // the last event that was handed over; the start, if none was
	Behind int64    // how many bytes it was behind
}

func (e SlowError) Error() string {
	return fmt.Sprintf("%v: %d bytes behind at %v", ErrSlow, e.Behind, e.Pos)
}
func (e SlowError) Unwrap() error { return ErrSlow }

// A KickedError ends the connection of a member who was kicked. It is an [ErrKicked].
type KickedError struct {
	Note string // the words given to [Room.Kick]
}

func (e KickedError) Error() string {
	if e.Note == "" {
		return ErrKicked.Error()
	}
	return ErrKicked.Error() + ": " + e.Note
}
func (e KickedError) Unwrap() error { return ErrKicked }

// A ShutdownError ends a connection because the room shuts down. It is an [ErrClosed].
type ShutdownError struct {
	RetryAfter time.Duration // how long the client should wait before it comes back
}

func (e ShutdownError) Error() string { return "chat: room is shutting down" }
func (e ShutdownError) Unwrap() error { return ErrClosed }

// A RecordError ends a room whose log holds a record that it cannot read: of an unknown version or kind, or damaged.
// The record is never skipped, since a room that misses one would show another history. It is an [ErrRecord].
type RecordError struct {
	Pos    Position
	Detail string
}

func (e RecordError) Error() string { return fmt.Sprintf("%v: at %v: %s", ErrRecord, e.Pos, e.Detail) }
func (e RecordError) Unwrap() error { return ErrRecord }

// codes is the order in which Code looks: what wraps stands before what it wraps.
var codes = []struct {
	err  error
	code string
}{
	{ErrName, "name"}, {ErrNameTaken, "name_taken"}, {ErrText, "text"}, {ErrID, "id"}, {ErrSession, "session"},
	{ErrToken, "token"}, {ErrConnected, "connected"}, {ErrTakenOver, "taken_over"}, {ErrFenced, "fenced"},
	{ErrNotLoggedIn, "not_logged_in"}, {ErrLoggedIn, "logged_in"}, {ErrNotMember, "not_member"},
	{ErrHearing, "subscribed"}, {ErrRequest, "request"}, {ErrKicked, "kicked"}, {ErrLost, "lost"},
	{ErrNameTooLong, "name_too_long"}, {ErrTextTooLong, "text_too_long"}, {ErrRoomFull, "room_full"},
	{ErrSubscribers, "subscribers"}, {ErrRate, "rate"}, {ErrSource, "source"}, {ErrAnonymous, "anonymous"},
	{ErrLoginTimeout, "login_timeout"}, {ErrSlow, "slow"},
	{ErrTrimmed, "trimmed"}, {ErrEpoch, "epoch"}, {ErrAhead, "ahead"}, {ErrFull, "log_full"},
	{ErrTooLarge, "too_large"}, {ErrUnknown, "unknown"}, {ErrRecord, "record"}, {ErrClosed, "closed"},
}

// Code returns the stable, lower-case word for an error of this package, as it stands on the wire and in
// [Stats].Refused: "name_taken", "rate", "slow" and so on. An error of no known kind is "internal", nil is "".
func Code(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}
