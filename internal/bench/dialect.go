package main

import (
	"fmt"
	"strings"
)

// A dialect is how a client of one kind of server talks. The payloads are those of text frames.
//
// What counts is what holds a number, as [numbered] makes it: a message, or that somebody has joined. A frame may hold
// several; skips says which hold others' numbers that don't count.
type dialect struct {
	path   string
	header string                    // of the handshake, each line with its end
	hello  func(c *client) error     // makes a new connection hear what follows
	login  func(name string) string  // nil: there is no login, so who joins says a message
	say    func(text string) string  // says a message to all
	skips  func(payload []byte) bool // nil: nothing
	lists  string                    // how a list of all users begins; empty: there are none
	ping   string                    // the server's heartbeat, a line of a payload, apart from that of WebSocket; empty: none
	pong   string                    // its answer
}

// numbered is a text of at least size bytes that holds number n, and no other.
func numbered(n, size int) string {
	return fmt.Sprintf("#%08d %s", n, strings.Repeat("x", max(size-10, 0)))
}

// raw is for servers that give what a client says to all, as it is.
var raw = dialect{
	path: "/",
	say:  func(text string) string { return text },
}

// chatV1 is this module's, see PROTOCOL.md.
var chatV1 = dialect{
	path:   "/",
	header: "Sec-WebSocket-Protocol: chat.v1\r\n",
	hello:  func(c *client) error { return c.ask(`{"op":"subscribe"}`, `{"reply":"subscribe"`) },
	login:  func(name string) string { return fmt.Sprintf(`{"op":"login","name":%q}`, name) },
	say:    func(text string) string { return fmt.Sprintf(`{"op":"send","text":%q}`, text) },
	skips:  func(payload []byte) bool { return !begins(payload, `{"event":`) },
}

// nodeIO is Socket.IO 5 over the WebSocket of Engine.IO 4, with the events of the tutorial page.
var nodeIO = dialect{
	path: "/socket.io/?EIO=4&transport=websocket",
	hello: func(c *client) error {
		if err := c.await("0{"); err != nil {
			return err
		}
		return c.ask("40", "40{")
	},
	login: func(name string) string { return fmt.Sprintf(`42["login",%q]`, name) },
	say:   func(text string) string { return fmt.Sprintf(`42["message",{"username":"ann","message":%q}]`, text) },
	skips: func(payload []byte) bool {
		return !begins(payload, `42["recevied",`) && !begins(payload, `42["notify",`)
	},
	lists: `42["updateUserList",`,
	ping:  "2",
	pong:  "3",
}

// chatIO is the same, for a server that greets with the list of users and from then on is heard.
var chatIO = func() dialect {
	d := nodeIO
	d.hello = func(c *client) error {
		if err := nodeIO.hello(c); err != nil {
			return err
		}
		return c.await(nodeIO.lists)
	}
	return d
}()

// centrifugeJSON is centrifuge's JSON protocol.
var centrifugeJSON = dialect{
	path: "/",
	hello: func(c *client) error {
		if err := c.ask(`{"id":1,"connect":{}}`, `{"id":1,"connect":`); err != nil {
			return err
		}
		return c.ask(`{"id":2,"subscribe":{"channel":"`+centrifugeChannel+`"}}`, `{"id":2,"subscribe":`)
	},
	say: func(text string) string {
		return fmt.Sprintf(`{"id":3,"publish":{"channel":%q,"data":%q}}`, centrifugeChannel, text)
	},
	ping: "{}",
	pong: "{}",
}

func begins(payload []byte, with string) bool {
	return len(payload) >= len(with) && string(payload[:len(with)]) == with
}
