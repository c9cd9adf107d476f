package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"sync"

	"example.com/chat"
)

// newChat is this module's room over WebSocket. Its limits that are for strangers are off, as the rivals have none. Each
// path is a room of its own.
func newChat() hub {
	rooms := newRooms(func(room *chat.Room) http.Handler {
		return chat.NewWebSocketHandler(room, &chat.WebSocketOptions{Serve: unlimited})
	})
	empty := 0
	return hub{
		serve: handler(rooms),
		send:  speaker(rooms.at("/").Room),
		room: func() {
			empty++
			rooms.at(fmt.Sprint("/empty/", empty))
		},
	}
}

var unlimited = chat.ServeOptions{Spectators: true, Rate: -1}

func newRoom() *chat.Room {
	room, err := chat.NewRoom(&chat.RoomOptions{MaxPerSource: -1, MaxAnonymous: -1})
	if err != nil {
		log.Fatal(err)
	}
	return room
}

// speaker logs somebody in when something is said first, and returns how to say it.
func speaker(room *chat.Room) func(text string) {
	login := sync.OnceValue(func() *chat.Session {
		s, err := room.Login(context.Background(), "program", nil)
		if err != nil {
			log.Fatal(err)
		}
		return s
	})
	return func(text string) {
		if _, err := room.Send(context.Background(), login(), text, nil); err != nil {
			log.Fatal(err)
		}
	}
}

// rooms serves a room for each path.
type rooms struct {
	handler func(*chat.Room) http.Handler

	mu sync.Mutex // guards m
	m  map[string]served
}

type served struct {
	*chat.Room
	http.Handler
}

func newRooms(handler func(*chat.Room) http.Handler) *rooms {
	return &rooms{handler: handler, m: make(map[string]served)}
}

func (rs *rooms) at(path string) served {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	s, ok := rs.m[path]
	if !ok {
		room := newRoom()
		s = served{room, rs.handler(room)}
		rs.m[path] = s
	}
	return s
}

func (rs *rooms) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rs.at(r.URL.Path).Handler.ServeHTTP(w, r)
}
