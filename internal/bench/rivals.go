package main

import (
	"net"
	"net/http"
	"slices"
)

// A rival is a server that is measured.
type rival struct {
	name    string
	dialect *dialect
	start   func() hub // nil: it is a program of its own, see command
	slow    string     // what becomes of a client that does not read
}

// A hub is a room of one kind: what a client says, all clients hear.
type hub struct {
	serve func(net.Listener) error
	send  func(text string) // says something in the name of the program; nil: not measured
	room  func()            // makes one more room that nobody is in; nil: not measured
}

// rivals are the servers in the order of the tables. The first is the measure of the others.
var rivals = []*rival{
	{"floor", &raw, newFloor(false, 0), "everybody waits for who does not read"},
	{"floor-joined", &raw, newFloor(true, 0), "everybody waits for who does not read"},
	{padded, &raw, newFloor(true, chatV1Payload), "everybody waits for who does not read"},
	{"gws", &raw, newGWS, "messages queue up for who does not read, without a bound"},
	{"melody", &raw, newMelody, "messages are dropped for who does not read when 256 wait, and nobody is told"},
	{"gorilla-hub", &raw, newGorilla, "who does not read is ended when 256 messages wait"},
	{"centrifuge", &centrifugeJSON, newCentrifuge, "who does not read is ended when 1 MiB waits"},
	{"nhooyr-naive", &raw, newNhooyr, "who does not read is ended when 256 messages wait"},
	{"node-original", &nodeIO, nil, "messages queue up for who does not read, without a bound"},
	{"chat", &chatV1, newChat, "who does not read is ended when 1 MiB behind, and the program told where that was"},
	{"chat-socketio", &chatIO, newChatIO, "who does not read is ended when 1 MiB behind"},
}

// padded is the floor that joins, with payloads as long as those of chat.v1 for a text of textSize. It is of W1 alone.
const (
	padded        = "floor-padded"
	chatV1Payload = 227
)

func rivalNames() []string {
	var names []string
	for _, r := range rivals {
		names = append(names, r.name)
	}
	return names
}

func rivalNamed(name string) *rival {
	i := slices.IndexFunc(rivals, func(r *rival) bool { return r.name == name })
	return rivals[i]
}

// handler is a hub's serve for one that is an HTTP handler, as all but the floor are.
func handler(h http.Handler) func(net.Listener) error {
	return func(ln net.Listener) error { return http.Serve(ln, h) }
}
