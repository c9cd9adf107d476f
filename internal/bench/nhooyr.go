package main

//lint:file-ignore SA1019 nhooyr.io/websocket is what is measured here

import (
	"context"
	"net/http"
	"sync"
	"time"

	"nhooyr.io/websocket"
)

// A nhooyrHub has the shape of the chat example of nhooyr.io/websocket, which is where one lands without thinking: a
// channel and a goroutine a client, one write a message. Two things differ, so that it can be compared: its channels
// hold 256 messages and not 16, and it has no limit of ten messages a second. A client whose channel is full is ended.
type nhooyrHub struct {
	mu      sync.Mutex // guards clients, and makes one order of the messages
	clients map[*nhooyrClient]struct{}
}

type nhooyrClient struct {
	messages chan []byte
	end      func()
}

func newNhooyr() hub {
	h := &nhooyrHub{clients: make(map[*nhooyrClient]struct{})}
	return hub{
		serve: handler(http.HandlerFunc(h.client)),
		send:  func(text string) { h.publish([]byte(text)) },
	}
}

func (h *nhooyrHub) client(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	c := &nhooyrClient{
		messages: make(chan []byte, 256),
		end:      func() { conn.Close(websocket.StatusPolicyViolation, "connection too slow to keep up with messages") },
	}
	h.mu.Lock()
	h.clients[c] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.clients, c)
		h.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		defer cancel()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			h.publish(text)
		}
	}()
	for {
		select {
		case text := <-c.messages:
			if err := nhooyrWrite(ctx, conn, text); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func nhooyrWrite(ctx context.Context, conn *websocket.Conn, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, text)
}

func (h *nhooyrHub) publish(text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		select {
		case c.messages <- text:
		default:
			go c.end()
		}
	}
}
