package chat

import "net/http"

// AcceptWebSocket makes of a request the transport that [NewWebSocketHandler] would serve. wait returns when nothing of it
// runs any more.
func AcceptWebSocket(room *Room, o *WebSocketOptions, w http.ResponseWriter, r *http.Request) (t Transport, wait func(), err error) {
	ws, err := NewWebSocketHandler(room, o).(*wsHandler).accept(w, r)
	if err != nil {
		return nil, nil, err
	}
	return ws, ws.conn.Wait, nil
}
