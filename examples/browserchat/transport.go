package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"slices"
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
//	login(name)                loginSuccess(null, offset)          notify(name, offset), updateUserList([{username}, …])
//	message({message, id})                                         recevied(name, text, offset)
//	loginOut()                                                     loginOut(name, offset), updateUserList([{username}, …])
//	refused, and not a member  loginOut(null, offset)
//
// The spelling is the page's. A message names no author that counts: whatever else is in its object is ignored, apart
// from an id, by which the room knows it when it is sent again. What asks for an acknowledgement gets one: {ok: true, …}
// or {ok: false, error: code, …}.
//
// An offset is a position in the room's order. The script keeps the last that it got, and comes back with it; so each
// event has one, as a last string, and the events to one page alone that of the event before: see recovery.go.
//
// The comments name the clauses of [chat.Transport] that each piece keeps.
type transport struct {
	socket  *socketio.Socket
	forms   *forms
	visit   visit
	members func() []chat.User
	opening []chat.Request // what it asks for by itself, before the page does
	serial  int            // of the last request; Receive's own, for Receive never runs twice at a time (T1)
	at      chat.Position  // the last event delivered; Deliver's own (T1)

	mu    sync.Mutex                 // guards asked: Receive and Deliver do run at the same time (T1)
	asked map[string]*socketio.Event // what has not been answered, by Ref
}

func newTransport(s *socketio.Socket, f *forms, v visit, members func() []chat.User) *transport {
	t := &transport{socket: s, forms: f, visit: v, members: members, at: v.after, asked: make(map[string]*socketio.Event)}
	from := chat.SubscribeOptions{After: v.after}
	if v.recovered {
		t.opening = append(t.opening, chat.LoginRequest{Ref: resume, Token: v.token(), Hear: from})
	}
	t.opening = append(t.opening, chat.SubscribeRequest{Ref: hear, Hear: from})
	return t
}

// serve serves the page for as long as it is connected. o is for all pages.
func (t *transport) serve(room *chat.Room, o chat.ServeOptions) error {
	o.Token, o.UserID = t.visit.token(), t.visit.userID()
	return room.Serve(context.Background(), t, &o)
}

// The Refs of the requests that no page sends. Every one of them hears the room from the first moment on; one that was
// here before takes up its session, if it had one.
const (
	resume = "resume"
	hear   = "hear"
)

// Receive returns the page's next request. T4: the socket's own error is what the room wants, [io.EOF] for a page that
// said goodbye and another for one that was lost.
func (t *transport) Receive() (chat.Request, error) {
	if len(t.opening) > 0 {
		req := t.opening[0]
		t.opening = t.opening[1:]
		return req, nil
	}
	t.serial++
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
		var id string // of none, or of one that is no ID, the room says so
		if fields["id"] != nil {
			if id, err = text(fields["id"]); err != nil {
				return chat.BadRequest{Ref: ref, Err: fmt.Errorf("message: field id %w", err)}
			}
		}
		return chat.SendRequest{Ref: ref, ID: id, Text: words}
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
	enc, units := t.units(b)
	if err := t.socket.WriteEncoded(enc, units); err != nil {
		return slow(err)
	}
	t.delivered(b)
	return nil
}

// TryDeliver does the same for who must not wait, and leaves answers to Deliver. T8: it is one write, or none.
func (t *transport) TryDeliver(b *chat.Batch) bool {
	if len(b.Replies()) > 0 {
		return false
	}
	enc, units := t.units(b)
	if !t.socket.TryWriteEncoded(enc, units) {
		return false
	}
	t.delivered(b)
	return true
}

// units is the run of events and the list, as the connection now has them. It may change from polling to WebSocket
// before they are written, but not the bytes that were made for it.
func (t *transport) units(b *chat.Batch) (socketio.Encoding, []byte) {
	enc := t.socket.Encoding()
	f := t.forms.formats[enc]
	events, list := b.Encoded(f), b.Roster(f)
	if len(list) == 0 {
		return enc, events
	}
	return enc, t.forms.joined[enc].of(events, list)
}

// delivered notes where the page is now.
func (t *transport) delivered(b *chat.Batch) {
	if n := len(b.Events()); n > 0 {
		t.at = b.Events()[n-1].Meta().Pos
	}
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
		return t.list()
	case chat.LoginReply:
		if r.Ref == resume {
			return t.list()
		}
		if err := t.socket.Emit("loginSuccess", nil, t.at); err != nil {
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

// list brings the list of users, which a newcomer would otherwise not see before somebody moves, and one who comes back
// not at all.
func (t *transport) list() error {
	return t.socket.Emit("updateUserList", t.forms.list(t.members()))
}

// refuse tells the page that a request was refused. The original has no event for that, but one that its pages
// understand: a loginOut of nobody says "you are not logged in".
func (t *transport) refuse(ref string, err error) error {
	switch {
	case ref == resume && errors.Is(err, chat.ErrToken): // it was not logged in; hear asks for the rest
		return nil
	case ref == hear && errors.Is(err, chat.ErrHearing): // it was
		return nil
	case ref == resume, ref == hear:
		return err // a page that can't hear the room is of no use; Serve ends it, and it comes back
	}
	a := ack{Error: chat.Code(err)}
	var limit chat.LimitError
	if errors.As(err, &limit) {
		a.Max, a.RetryMS = limit.Max, (limit.RetryAfter + time.Millisecond - 1).Milliseconds() // rounded up
	}
	e := t.take(ref)
	if errors.Is(err, chat.ErrNotLoggedIn) || e != nil && e.Name == "login" {
		if err := t.socket.Emit("loginOut", nil, t.at); err != nil {
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
	joined  [2]joined           // likewise
}

// A joined is a run of events and the list behind it in one piece, made once for all pages that get both at about the
// same time.
type joined struct {
	mu           sync.Mutex
	events, both []byte // the last
}

// of returns both in one piece. The list is the one as of the last of events, and those are shared and stay as they are:
// so where they lie tells them from others.
func (j *joined) of(events, list []byte) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(events) != len(j.events) || &events[0] != &j.events[0] {
		j.events, j.both = events, slices.Concat(events, list)
	}
	return j.both
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
				return event(dst, "notify", f.escape(e.User.Name), e.At.Pos)
			case chat.Said:
				return event(dst, "recevied", f.escape(e.User.Name), f.escape(e.Text), e.At.Pos)
			case chat.Left:
				return event(dst, "loginOut", f.escape(e.User.Name), e.At.Pos)
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
