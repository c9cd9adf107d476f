package main

import (
	"net/http"
	"sync"

	"github.com/lxzan/gws"
)

// A gwsHub is the chat room of gws's own examples: its Broadcaster frames a message once, and each connection has a
// queue of writes, worked off by a goroutine that lives while there is something in it. The queue has no bound, so a
// client that does not read costs memory and is not ended.
type gwsHub struct {
	gws.BuiltinEventHandler

	mu    sync.Mutex // guards conns, and makes one order of the messages
	conns map[*gws.Conn]struct{}
}

func newGWS() hub {
	h := &gwsHub{conns: make(map[*gws.Conn]struct{})}
	upgrader := gws.NewUpgrader(h, nil)
	return hub{
		serve: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := upgrader.Upgrade(w, r)
			if err != nil {
				return
			}
			go conn.ReadLoop() // not here: so the request's buffers can go, as its documentation says
		})),
		send: func(text string) { h.broadcast([]byte(text)) },
	}
}

func (h *gwsHub) OnOpen(conn *gws.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[conn] = struct{}{}
}

func (h *gwsHub) OnClose(conn *gws.Conn, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, conn)
}

func (h *gwsHub) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	h.broadcast(m.Bytes())
}

func (h *gwsHub) broadcast(text []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, text)
	defer b.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.conns {
		_ = b.Broadcast(conn) // of one that is gone OnClose tells
	}
}
