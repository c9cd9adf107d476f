package socketio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Packet types of Socket.IO protocol 5, "Packet types". On the wire they are
// one digit.
const (
	sioConnect      = '0'
	sioDisconnect   = '1'
	sioEvent        = '2'
	sioAck          = '3'
	sioConnectError = '4'
	sioBinary       = '5' // the binary EVENT; the binary ACK is one more
	sioBinaryAck    = '6'
)

// A packet is one Socket.IO packet as a client may send it. Its binary kinds
// are EVENT and ACK here as well.
type packet struct {
	typ         byte
	namespace   string // "/" if it had none
	id          int64  // of the acknowledgement, or noID
	name        string // of an EVENT
	args        []json.RawMessage
	auth        json.RawMessage // of a CONNECT: an object, or nil
	attachments [][]byte
	missing     int // attachments still to come
	size        int // bytes on the wire
}

// maxID is the largest acknowledgement id that scripts can count to.
const maxID = 1<<53 - 1

// maxArgs is how many arguments an event or an acknowledgement may have: each costs memory beside its bytes.
const maxArgs = 256

// maxAuth is how large a CONNECT's auth may be, in bytes: a Socket keeps it.
const maxAuth = 64 << 10

// parsePacket parses a packet's text, TYPE[N-][/ns,][id][json], and keeps parts
// of it. What a client must not send is an error that wraps ErrParse.
func parsePacket(b []byte, maxAttachments int) (*packet, error) {
	if len(b) == 0 {
		return nil, parseError("empty packet")
	}
	p := &packet{typ: b[0], namespace: "/", id: noID, size: len(b)}
	b = b[1:]
	if p.typ == sioBinary || p.typ == sioBinaryAck {
		digits, rest, ok := bytes.Cut(b, []byte("-"))
		n, good := number(digits)
		if !ok || !good {
			return nil, parseError("binary packet without a number of attachments")
		}
		if maxAttachments >= 0 && n > int64(maxAttachments) {
			return nil, parseError("%d attachments, at most %d are allowed", n, maxAttachments)
		}
		p.typ -= sioBinary - sioEvent
		p.missing = int(n)
		b = rest
	}
	if len(b) > 0 && b[0] == '/' {
		ns, rest, _ := bytes.Cut(b, []byte(","))
		ns, _, _ = bytes.Cut(ns, []byte("?")) // a query, as in older clients
		p.namespace, b = string(ns), rest
	}
	digits := 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		id, ok := number(b[:digits])
		if !ok {
			return nil, parseError("acknowledgement id too large")
		}
		p.id, b = id, b[digits:]
	}
	if err := p.parseData(b); err != nil {
		return nil, err
	}
	return p, nil
}

// countArgs counts the elements of an array in JSON, without memory. Of what is not one the result means nothing.
func countArgs(b []byte) int {
	n := 0
	eachArg(b, func(json.RawMessage) { n++ })
	return n
}

// splitArgs returns the n elements of an array in valid JSON. They are parts of b.
func splitArgs(b []byte, n int) []json.RawMessage {
	args := make([]json.RawMessage, 0, n)
	eachArg(b, func(arg json.RawMessage) {
		if len(arg) > 0 { // an empty array has none
			args = append(args, arg)
		}
	})
	return args
}

// eachArg calls f with what stands between the commas of an array in JSON.
func eachArg(b []byte, f func(json.RawMessage)) {
	depth, quoted, from := 0, false, 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth == 1 {
				from = i + 1
			}
		case c == ']' || c == '}':
			if depth--; depth == 0 {
				f(trimmed(b, from, i))
				return
			}
		case c == ',' && depth == 1:
			f(trimmed(b, from, i))
			from = i + 1
		}
	}
}

// trimmed is b[from:to] without white space around it, and without room to grow into what follows.
func trimmed(b []byte, from, to int) json.RawMessage {
	for from < to && b[from] <= ' ' {
		from++
	}
	for to > from && b[to-1] <= ' ' {
		to--
	}
	return json.RawMessage(b[from:to:to])
}

func (p *packet) parseData(b []byte) error {
	switch p.typ {
	case sioConnect:
		if len(b) > 0 {
			if b[0] != '{' || !json.Valid(b) {
				return parseError("CONNECT with something other than an object")
			}
			if len(b) > maxAuth {
				return parseError("auth of %d bytes, at most %d are allowed", len(b), maxAuth)
			}
			p.auth = b
		}
		return nil
	case sioDisconnect:
		if len(b) > 0 {
			return parseError("DISCONNECT with data")
		}
		return nil
	case sioEvent, sioAck:
	default:
		return parseError("packet type %q", p.typ)
	}
	if len(b) == 0 || b[0] != '[' {
		return parseError("arguments are not an array")
	}
	n := countArgs(b)
	if n > maxArgs {
		return parseError("more than %d arguments", maxArgs)
	}
	if !json.Valid(b) {
		return parseError("arguments are not JSON")
	}
	p.args = splitArgs(b, n)
	if p.missing > 0 {
		var all any
		if err := json.Unmarshal(b, &all); err != nil {
			return parseError("arguments: %v", err)
		}
		if err := checkPlaceholders(all, p.missing); err != nil {
			return err
		}
	}
	if p.typ == sioAck {
		if p.id == noID {
			return parseError("ACK without an id")
		}
		return nil
	}
	if len(p.args) == 0 || len(p.args[0]) == 0 || p.args[0][0] != '"' {
		return parseError("event name is not a string")
	}
	if name := p.args[0]; bytes.IndexByte(name, '\\') < 0 {
		p.name = string(name[1 : len(name)-1])
	} else if err := json.Unmarshal(name, &p.name); err != nil {
		return parseError("event name: %v", err)
	}
	if reserved(p.name) {
		return parseError("reserved event name %q", p.name)
	}
	p.args = p.args[1:]
	return nil
}

// attach adds an attachment and reports whether the packet is whole now.
func (p *packet) attach(data []byte) bool {
	p.attachments = append(p.attachments, data)
	p.size += len(data)
	p.missing--
	return p.missing == 0
}

// checkPlaceholders reports an error for a placeholder of an attachment that
// the packet doesn't have.
func checkPlaceholders(v any, attachments int) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := checkPlaceholders(e, attachments); err != nil {
				return err
			}
		}
	case map[string]any:
		if v["_placeholder"] == true {
			n, ok := v["num"].(float64)
			if !ok || n != float64(int(n)) || n < 0 || int(n) >= attachments {
				return parseError("placeholder of no attachment")
			}
			return nil
		}
		for _, e := range v {
			if err := checkPlaceholders(e, attachments); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeholder returns the number of the attachment that arg stands for, or -1.
func placeholder(arg json.RawMessage) int {
	if len(arg) == 0 || arg[0] != '{' || !bytes.Contains(arg, []byte("_placeholder")) {
		return -1
	}
	var ph struct {
		Placeholder bool `json:"_placeholder"`
		Num         *int `json:"num"`
	}
	if json.Unmarshal(arg, &ph) != nil || !ph.Placeholder || ph.Num == nil {
		return -1
	}
	return *ph.Num
}

func reserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// number parses decimal digits up to maxID.
func number(digits []byte) (int64, bool) {
	if len(digits) == 0 || len(digits) > 16 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, err == nil && n <= maxID
}

func parseError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrParse}, args...)...)
}
