package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"strconv"
	"sync"
	"time"

	"example.com/chat"
	"example.com/chat/socketio"
)

// A transport is the chat page's connection as the room uses it: a [chat.Transport] over one Socket.IO socket. It says
// in the page's events what the room says in Go, and the other way round.
//
//	the page sends             to it alone                         to every page
//	login(name)                loginSuccess()                      notify(name), updateUserList([{username}, …])
//	message({message})                                             recevied(name, text)
//	loginOut()                                                     loginOut(name), updateUserList([{username}, …])
//	refused, and not a member  loginOut()
//
// The spelling is the page's. A message names no author that counts: whatever else is in its object is ignored. What
// asks for an acknowledgement gets one: {ok: true, …} or {ok: false, error: code, …}.
//
// The comments name the clauses of [chat.Transport] that each piece keeps. A connection is served by
//
//	room.Serve(ctx, newTransport(socket, plain), &chat.ServeOptions{Spectators: true})
type transport struct {
	socket *socketio.Socket
	forms  *forms
	serial int // of the last request; Receive's own, for Receive never runs twice at a time (T1)

	mu    sync.Mutex                 // guards asked: Receive and Deliver do run at the same time (T1)
	asked map[string]*socketio.Event // what has not been answered, by Ref
}

func newTransport(s *socketio.Socket, f *forms) *transport {
	return &transport{socket: s, forms: f, asked: make(map[string]*socketio.Event)}
}

// hear is the Ref of the request that no page sends: every one of them hears the room from the first moment on. Its
// answer brings the list of users, which a newcomer would otherwise not see before somebody moves.
const hear = "0"

// Receive returns the page's next request. T4: the socket's own error is what the room wants, [io.EOF] for a page that
// said goodbye and another for one that was lost.
func (t *transport) Receive() (chat.Request, error) {
	if t.serial++; t.serial == 1 {
		return chat.SubscribeRequest{Ref: hear}, nil
	}
	e, err := t.socket.Receive()
	if err != nil {
		return nil, slow(err)
	}
	ref := strconv.Itoa(t.serial)
	t.mu.Lock()
	t.asked[ref] = e
	t.mu.Unlock()
	return request(ref, e), nil
}

// request reads an event. T6: one that makes no sense is a request too, for the room to refuse.
func request(ref string, e *socketio.Event) chat.Request {
	var arg json.RawMessage // the first; more are none of our business, nor were they of the original's
	if len(e.Args) > 0 {
		arg = e.Args[0]
	}
	switch e.Name {
	case "login":
		name, err := text(arg)
		if err != nil {
			return chat.BadRequest{Ref: ref, Err: fmt.Errorf("login: name %w", err)}
		}
		return chat.LoginRequest{Ref: ref, Name: name}
	case "message":
		var fields map[string]json.RawMessage // unlike a struct's, its keys are case-sensitive
		if err := json.Unmarshal(arg, &fields); err != nil {
			return chat.BadRequest{Ref: ref, Err: errors.New("message: not an object")}
		}
		words, err := text(fields["message"])
		if err != nil {
			return chat.BadRequest{Ref: ref, Err: fmt.Errorf("message: field message %w", err)}
		}
		return chat.SendRequest{Ref: ref, Text: words}
	case "loginOut":
		return chat.LogoutRequest{Ref: ref}
	}
	return chat.BadRequest{Ref: ref, Err: errors.New("unknown event")}
}

// text reads a JSON string: not null, not a number, not nothing.
func text(arg json.RawMessage) (string, error) {
	var s *string
	if json.Unmarshal(arg, &s) != nil || s == nil {
		return "", errors.New("is not a string")
	}
	return *s, nil
}

// Deliver hands over what is due to the page: answers first, then the run of events, then the list of users, once for
// the run. T5: the socket's writes return when they have taken the bytes over, and wait while the page takes none.
func (t *transport) Deliver(b *chat.Batch) error {
	for _, reply := range b.Replies() {
		if err := t.answer(reply); err != nil {
			return slow(err)
		}
	}
	// The connection may change from polling to WebSocket between two calls, but not the bytes that were made for it.
	enc := t.socket.Encoding()
	f := t.forms.formats[enc]
	for _, units := range [][]byte{b.Encoded(f), b.Roster(f)} {
		if units == nil {
			continue
		}
		if err := t.socket.WriteEncoded(enc, units); err != nil {
			return slow(err)
		}
	}
	return nil
}

// slow makes the room's word of the socket's.
func slow(err error) error {
	if errors.Is(err, socketio.ErrSlow) {
		return fmt.Errorf("%w: %w", chat.ErrSlow, err)
	}
	return err
}

// An ack is what an acknowledgement carries.
type ack struct {
	OK       bool           `json:"ok"`
	Pos      *chat.Position `json:"pos,omitempty"`            // where what was asked for stands in the room's order
	Username string         `json:"username,omitempty"`       // of a login: the name as the others see it
	Error    string         `json:"error,omitempty"`          // the refusal's word, as [chat.Code] gives it
	Max      int            `json:"max,omitempty"`            // of a limit: its number
	RetryMS  int64          `json:"retry_after_ms,omitempty"` // of a limit: when to try again
}

// answer tells the page what came of a request of its own.
func (t *transport) answer(reply chat.Reply) error {
	switch r := reply.(type) {
	case chat.SubscribeReply:
		return t.socket.Emit("updateUserList", t.forms.list(r.Start.Roster))
	case chat.LoginReply: // r.Start tells nothing new: the page hears the room since it connected
		if err := t.socket.Emit("loginSuccess"); err != nil {
			return err
		}
		return t.acknowledge(t.take(r.Ref), ack{OK: true, Pos: &r.Pos, Username: t.forms.escape(r.User.Name)})
	case chat.SendReply: // of a logout as well
		return t.acknowledge(t.take(r.Ref), ack{OK: true, Pos: &r.Receipt.Pos})
	case chat.ErrorReply:
		return t.refuse(r.Ref, r.Err)
	}
	return nil
}

// refuse tells the page that a request was refused. The original has no event for that, but one that its pages
// understand: a loginOut of nobody says "you are not logged in".
func (t *transport) refuse(ref string, err error) error {
	if ref == hear {
		return err // a page that can't hear the room is of no use; Serve ends it
	}
	a := ack{Error: chat.Code(err)}
	var limit chat.LimitError
	if errors.As(err, &limit) {
		a.Max, a.RetryMS = limit.Max, (limit.RetryAfter + time.Millisecond - 1).Milliseconds() // rounded up
	}
	e := t.take(ref)
	if errors.Is(err, chat.ErrNotLoggedIn) || e != nil && e.Name == "login" {
		if err := t.socket.Emit("loginOut"); err != nil {
			return err
		}
	}
	return t.acknowledge(e, a)
}

// take returns the event of that Ref, which is being answered; nil if it has been.
func (t *transport) take(ref string) *socketio.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.asked[ref]
	delete(t.asked, ref)
	return e
}

// acknowledge answers an event, if it asked for an answer.
func (t *transport) acknowledge(e *socketio.Event, a ack) error {
	if e == nil || !e.WantsAck() {
		return nil
	}
	return e.Ack(a)
}

// Close ends the connection. T2: both calls return at once, and unblock the other two. T3: of many the first counts.
// What the page learns of the cause is whether to come back: a script that was told to disconnect stays away until its
// user wants to, one whose connection is gone tries again by itself.
func (t *transport) Close(cause error) error {
	if errors.Is(cause, chat.ErrKicked) || errors.Is(cause, chat.ErrSubscribers) {
		t.socket.Disconnect(true)
	} else {
		t.socket.Drop()
	}
	return nil
}

// forms is how the events are written for the pages of a program: one [chat.Format] for each encoding of Socket.IO.
type forms struct {
	escape  func(string) string // what names and texts go through
	formats [2]*chat.Format     // by socketio.Encoding
}

// A room encodes each event once for each Format, so these are variables, and not made for each connection.
var (
	plain   = newForms(func(s string) string { return s }) // for pages that write with textContent
	escaped = newForms(html.EscapeString)                  // for pages that write with innerHTML
)

func newForms(escape func(string) string) *forms {
	f := &forms{escape: escape}
	for _, enc := range []socketio.Encoding{socketio.Polling, socketio.WebSocket} {
		f.formats[enc] = f.newFormat(enc)
	}
	return f
}

func (f *forms) newFormat(enc socketio.Encoding) *chat.Format {
	event := func(dst []byte, name string, args ...any) []byte {
		dst, err := socketio.AppendEvent(dst, enc, "/", name, args...)
		if err != nil {
			panic(err) // names, strings and lists of them are always JSON
		}
		return dst
	}
	return &chat.Format{
		Append: func(dst []byte, e chat.Event) []byte {
			switch e := e.(type) {
			case chat.Joined:
				return event(dst, "notify", f.escape(e.User.Name))
			case chat.Said:
				return event(dst, "recevied", f.escape(e.User.Name), f.escape(e.Text))
			case chat.Left:
				return event(dst, "loginOut", f.escape(e.User.Name))
			}
			return dst // Resumed: who was away was not missed on the page
		},
		Roster: func(dst []byte, _ chat.Position, users []chat.User) []byte {
			return event(dst, "updateUserList", f.list(users))
		},
	}
}

// A listed is an entry of the page's list of users.
type listed struct {
	Username string `json:"username"`
}

func (f *forms) list(users []chat.User) []listed {
	list := make([]listed, len(users)) // not nil: the page wants [], not null
	for i, u := range users {
		list[i].Username = f.escape(u.Name)
	}
	return list
}

// harmless is the [chat.NamePolicy] for pages that write names with innerHTML: [chat.Nickname], without the characters
// that mean something there. It looks at the name as shown, for "＜" is shown as "<".
func harmless(name string) (shown, key string, err error) {
	shown, key, err = chat.Nickname(name)
	if err == nil && html.EscapeString(shown) != shown {
		return "", "", chat.NameError{Reason: `may not hold any of <>&"'`}
	}
	return shown, key, err
}
