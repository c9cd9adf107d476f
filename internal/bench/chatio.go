package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"example.com/chat"
	"example.com/chat/socketio"
)

// newChatIO is this module's room over Socket.IO, in the events of the page that examples/browserchat serves: what
// original.mjs does on Node. It leaves away what neither measures: acknowledgements, and coming back.
func newChatIO() hub {
	room := newRoom()
	sio := socketio.NewServer(nil)
	sio.Handle("/", func(s *socketio.Socket) {
		t := &chatIOTransport{socket: s, members: room.Members}
		_ = room.Serve(context.Background(), t, &unlimited) // a client that is gone is gone
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", sio)
	return hub{serve: handler(mux), send: speaker(room)}
}

// A chatIOTransport is the [chat.Transport] of one client.
type chatIOTransport struct {
	socket  *socketio.Socket
	members func() []chat.User
	hears   bool
}

func (t *chatIOTransport) Receive() (chat.Request, error) {
	if !t.hears {
		t.hears = true
		return chat.SubscribeRequest{}, nil
	}
	e, err := t.socket.Receive()
	if err != nil {
		return nil, err
	}
	var said struct{ Message string }
	var name string
	switch {
	case e.Name == "login" && len(e.Args) == 1 && json.Unmarshal(e.Args[0], &name) == nil:
		return chat.LoginRequest{Name: name}, nil
	case e.Name == "message" && len(e.Args) == 1 && json.Unmarshal(e.Args[0], &said) == nil:
		return chat.SendRequest{Text: said.Message}, nil
	}
	return chat.BadRequest{Err: errors.New("unknown event")}, nil
}

func (t *chatIOTransport) Deliver(b *chat.Batch) error {
	for _, reply := range b.Replies() {
		var err error
		switch r := reply.(type) {
		case chat.SubscribeReply: // a newcomer learns who is there
			err = t.socket.Emit("updateUserList", listed(t.members()))
		case chat.LoginReply:
			err = t.socket.Emit("loginSuccess")
		case chat.ErrorReply:
			err = t.socket.Emit("refused", chat.Code(r.Err))
		}
		if err != nil {
			return err
		}
	}
	return t.socket.WriteEncoded(t.units(b))
}

// TryDeliver leaves answers to Deliver.
func (t *chatIOTransport) TryDeliver(b *chat.Batch) bool {
	return len(b.Replies()) == 0 && t.socket.TryWriteEncoded(t.units(b))
}

// units is the events, and the list of users if that has changed.
func (t *chatIOTransport) units(b *chat.Batch) (socketio.Encoding, []byte) {
	enc := t.socket.Encoding()
	f := chatIOFormats[enc]
	events, list := b.Encoded(f), b.Roster(f)
	if len(list) == 0 {
		return enc, events
	}
	return enc, chatIOLists[enc].behind(events, list)
}

// A lastList is the last run of events with its list behind it, in one piece for all who get both.
type lastList struct {
	mu           sync.Mutex
	events, both []byte
}

func (l *lastList) behind(events, list []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) != len(events) || &l.events[0] != &events[0] {
		l.events, l.both = events, slices.Concat(events, list)
	}
	return l.both
}

func (t *chatIOTransport) Close(error) error {
	t.socket.Drop()
	return nil
}

var chatIOLists [2]lastList // by encoding

// chatIOFormats are how events are written, by encoding.
var chatIOFormats = [2]*chat.Format{
	socketio.Polling:   chatIOFormat(socketio.Polling),
	socketio.WebSocket: chatIOFormat(socketio.WebSocket),
}

func chatIOFormat(enc socketio.Encoding) *chat.Format {
	event := func(dst []byte, name string, args ...any) []byte {
		dst, err := socketio.AppendEvent(dst, enc, "/", name, args...)
		if err != nil {
			panic(err) // strings and lists of them are always JSON
		}
		return dst
	}
	return &chat.Format{
		Append: func(dst []byte, e chat.Event) []byte {
			switch e := e.(type) {
			case chat.Joined:
				return event(dst, "notify", e.User.Name)
			case chat.Said:
				return event(dst, "recevied", e.User.Name, e.Text)
			case chat.Left:
				return event(dst, "loginOut", e.User.Name)
			}
			return dst
		},
		Roster: func(dst []byte, _ chat.Position, users []chat.User) []byte {
			return event(dst, "updateUserList", listed(users))
		},
	}
}

type listedUser struct {
	Username string `json:"username"`
}

func listed(users []chat.User) []listedUser {
	list := make([]listedUser, len(users))
	for i, u := range users {
		list[i].Username = u.Name
	}
	return list
}
