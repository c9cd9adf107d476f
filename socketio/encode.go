package socketio

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"example.com/chat/internal/fanout"
)

// ErrReserved is returned for an event of a name that the protocol keeps for
// itself: connect, connect_error, disconnect, disconnecting, newListener and
// removeListener.
var ErrReserved = errors.New("socketio: reserved event name")

// An Encoding is the form that packets take on a transport's wire.
type Encoding uint8

const (
	// Polling is a packet and the record separator after it (Engine.IO
	// protocol 4, "HTTP long-polling").
	Polling Encoding = iota
	// WebSocket is a packet in a whole unmasked frame (RFC 6455 section 5.2).
	WebSocket
)

func (e Encoding) String() string {
	if e == WebSocket {
		return "websocket"
	}
	return "polling"
}

// AppendEvent appends one event to dst as one complete wire unit, which
// [Socket.WriteEncoded] takes. Units of one encoding may be concatenated. The
// bytes don't depend on the socket, so an event for many is encoded once.
//
// Arguments are encoded as package json does, but for one of type []byte, which
// goes as a binary attachment, and for one of type [Values], which must be the
// only one and stands for all of its own: so binary goes at any depth. namespace
// "" is "/". It returns ErrReserved, ErrValue, or json's error, and then dst as
// it was.
func AppendEvent(dst []byte, enc Encoding, namespace, name string, args ...any) ([]byte, error) {
	return appendEvent(dst, enc, namespace, noID, name, args)
}

const noID = -1

func appendEvent(dst []byte, enc Encoding, namespace string, id int64, name string, args []any) ([]byte, error) {
	if reserved(name) {
		return dst, fmt.Errorf("%w: %q", ErrReserved, name)
	}
	return appendArgs(dst, enc, sioEvent, namespace, id, &name, args)
}

var scratch = sync.Pool{New: func() any { return new([]byte) }}

const maxScratch = 64 << 10 // a larger one is not kept

// appendArgs appends an EVENT or ACK, or its binary kind, as one unit.
func appendArgs(dst []byte, enc Encoding, typ byte, namespace string, id int64, name *string, args []any) ([]byte, error) {
	attachments, err := attachmentsOf(args)
	if err != nil {
		return dst, err
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	b := append((*buf)[:0], eioMessage)
	if len(attachments) > 0 {
		b = append(b, typ+sioBinary-sioEvent)
		b = strconv.AppendInt(b, int64(len(attachments)), 10)
		b = append(b, '-')
	} else {
		b = append(b, typ)
	}
	b = appendNamespace(b, namespace)
	if id != noID {
		b = strconv.AppendInt(b, id, 10)
	}
	b = append(b, '[')
	if name != nil {
		if b, err = appendValue(b, *name); err != nil {
			return dst, err
		}
	}
	num := 0
	for _, a := range args {
		switch a := a.(type) {
		case Values:
			for _, raw := range a.Args {
				if b, err = appendValue(appendComma(b), raw); err != nil {
					return dst, err
				}
			}
		case []byte:
			b = append(appendComma(b), `{"_placeholder":true,"num":`...)
			b = strconv.AppendInt(b, int64(num), 10)
			b = append(b, '}')
			num++
		default:
			if b, err = appendValue(appendComma(b), a); err != nil {
				return dst, err
			}
		}
	}
	b = append(b, ']')
	if cap(b) <= maxScratch {
		*buf = b
	}
	dst = appendUnit(dst, enc, b)
	for _, a := range attachments {
		dst = appendBinaryUnit(dst, enc, a)
	}
	return dst, nil
}

// attachmentsOf collects the binary arguments.
func attachmentsOf(args []any) ([][]byte, error) {
	var attachments [][]byte
	for _, a := range args {
		switch a := a.(type) {
		case Values:
			if len(args) > 1 {
				return nil, fmt.Errorf("%w: Values beside other arguments", ErrValue)
			}
			return a.Attachments, nil
		case []byte:
			attachments = append(attachments, a)
		}
	}
	return attachments, nil
}

// appendComma separates a value from one before it.
func appendComma(b []byte) []byte {
	if b[len(b)-1] == '[' {
		return b
	}
	return append(b, ',')
}

// appendValue appends v as package json encodes it; what events are mostly made
// of without reflection.
func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case uint64:
		return strconv.AppendUint(b, v, 10), nil
	case string:
		if plain(v) {
			b = append(b, '"')
			b = append(b, v...)
			return append(b, '"'), nil
		}
	}
	j, err := json.Marshal(v)
	if err != nil {
		return b, err
	}
	return append(b, j...), nil
}

// plain reports whether s is its own encoding in JSON.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func appendNamespace(b []byte, namespace string) []byte {
	if namespace == "" || namespace == "/" {
		return b
	}
	b = append(b, namespace...)
	return append(b, ',')
}

// appendUnit appends a text packet, its Engine.IO digit included.
func appendUnit(dst []byte, enc Encoding, packet []byte) []byte {
	if enc == WebSocket {
		return fanout.AppendFrame(dst, false, packet)
	}
	dst = append(dst, packet...)
	return append(dst, separator)
}

// appendBinaryUnit appends a binary message.
func appendBinaryUnit(dst []byte, enc Encoding, data []byte) []byte {
	if enc == WebSocket {
		return fanout.AppendFrame(dst, true, data)
	}
	dst = append(dst, eioBinary)
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, separator)
}

var errUnits = errors.New("socketio: not a run of whole units")

// convert turns units of one encoding into the other's. It is called when the
// transport has changed after they were encoded.
func convert(to Encoding, units []byte) ([]byte, error) {
	if to == WebSocket {
		return toFrames(units)
	}
	return toPackets(units)
}

func toFrames(units []byte) ([]byte, error) {
	if len(units) == 0 {
		return nil, nil
	}
	if units[len(units)-1] != separator {
		return nil, errUnits
	}
	var dst []byte
	for p, err := range payloadPackets(units[:len(units)-1]) {
		if err != nil {
			return nil, errUnits
		}
		if p.binary {
			dst = appendBinaryUnit(dst, WebSocket, p.data)
		} else {
			dst = appendUnit(dst, WebSocket, append([]byte{p.typ}, p.data...))
		}
	}
	return dst, nil
}

func toPackets(frames []byte) ([]byte, error) {
	var dst []byte
	for len(frames) > 0 {
		if len(frames) < 2 {
			return nil, errUnits
		}
		op, n, head := frames[0]&0xF, uint64(frames[1]), 2
		switch {
		case n == 126 && len(frames) >= 4:
			n, head = uint64(binary.BigEndian.Uint16(frames[2:])), 4
		case n == 127 && len(frames) >= 10:
			n, head = binary.BigEndian.Uint64(frames[2:]), 10
		case n > 125:
			return nil, errUnits
		}
		if n > uint64(len(frames)-head) {
			return nil, errUnits
		}
		payload := frames[head : head+int(n)]
		frames = frames[head+int(n):]
		switch op {
		case fanout.OpText:
			dst = appendUnit(dst, Polling, payload)
		case fanout.OpBinary:
			dst = appendBinaryUnit(dst, Polling, payload)
		default:
			return nil, errUnits
		}
	}
	return dst, nil
}
