package main

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// A gorillaHub has the shape of gorilla's chat example, which most hubs in Go are copies of: one goroutine owns the map
// of clients, each client has a channel of 256 messages, a goroutine that reads and one that writes. The writer puts all
// that waits into one frame, with newlines between. A client whose channel is full is ended, healthy or not.
type gorillaHub struct {
	clients   map[*gorillaClient]struct{} // run's own
	enter     chan *gorillaClient
	leave     chan *gorillaClient
	broadcast chan []byte
}

type gorillaClient struct {
	conn *websocket.Conn
	send chan []byte
}

// The example's times: of one write, of a client's silence, and between two pings.
const (
	gorillaWriteWait  = 10 * time.Second
	gorillaPongWait   = 60 * time.Second
	gorillaPingPeriod = gorillaPongWait * 9 / 10
)

func newGorilla() hub {
	h := &gorillaHub{
		clients:   make(map[*gorillaClient]struct{}),
		enter:     make(chan *gorillaClient),
		leave:     make(chan *gorillaClient),
		broadcast: make(chan []byte),
	}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024} // as the example has them
	return hub{
		serve: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			c := &gorillaClient{conn, make(chan []byte, 256)}
			h.enter <- c
			go c.write()
			go c.read(h)
		})),
		send: func(text string) { h.broadcast <- []byte(text) },
	}
}

func (h *gorillaHub) run() {
	for {
		select {
		case c := <-h.enter:
			h.clients[c] = struct{}{}
		case c := <-h.leave:
			h.drop(c)
		case text := <-h.broadcast:
			for c := range h.clients {
				select {
				case c.send <- text:
				default:
					h.drop(c)
				}
			}
		}
	}
}

func (h *gorillaHub) drop(c *gorillaClient) {
	if _, ok := h.clients[c]; ok {
		delete(h.clients, c)
		close(c.send)
	}
}

func (c *gorillaClient) read(h *gorillaHub) {
	defer func() {
		h.leave <- c
		c.conn.Close()
	}()
	alive := func() error { return c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait)) }
	_ = alive()
	c.conn.SetPongHandler(func(string) error { return alive() })
	for {
		_, text, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		h.broadcast <- text
	}
}

func (c *gorillaClient) write() {
	ping := time.NewTicker(gorillaPingPeriod)
	defer ping.Stop()
	defer c.conn.Close()
	for {
		select {
		case text, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			w, err := c.conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return
			}
			_, _ = w.Write(text)
			for range len(c.send) {
				_, _ = w.Write([]byte{'\n'})
				_, _ = w.Write(<-c.send)
			}
			if w.Close() != nil { // and it has the errors of those writes
				return
			}
		case <-ping.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if c.conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}
