package main

import (
	"net/http"

	"github.com/olahol/melody"
)

// newMelody is the chat of melody's README: a session has a channel of 256 messages and a goroutine that writes. When the
// channel is full the message is dropped for that client, which is not told; only an error handler would hear of it.
func newMelody() hub {
	m := melody.New()
	m.Config.MaxMessageSize = 64 << 10 // 512 bytes unless set
	m.HandleMessage(func(_ *melody.Session, text []byte) { _ = m.Broadcast(text) })
	return hub{
		serve: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) })),
		send:  func(text string) { _ = m.Broadcast([]byte(text)) },
	}
}
