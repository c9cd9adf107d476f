package socketio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"time"
	"unicode/utf8"
)

// Packet types of Engine.IO protocol 4, "Packet encoding". On the wire they are
// one digit.
const (
	eioOpen    = '0'
	eioClose   = '1'
	eioPing    = '2'
	eioPong    = '3'
	eioMessage = '4'
	eioUpgrade = '5'
	eioNoop    = '6'
	eioBinary  = 'b' // polling only: a binary message in base64
)

// separator stands between the packets of a polling payload. JSON escapes it
// and base64 has no such byte, so it is in no packet.
const separator = '\x1e'

const probe = "probe" // what the first ping and pong of an upgrade carry

// An enginePacket is one Engine.IO packet. A binary one is a message.
type enginePacket struct {
	typ    byte
	data   []byte
	binary bool
}

// parseEnginePacket parses one packet as a text frame or a polling payload
// carries it; base64 is allowed in the latter only.
func parseEnginePacket(b []byte, polling bool) (enginePacket, error) {
	if len(b) == 0 {
		return enginePacket{}, fmt.Errorf("%w: empty packet", ErrParse)
	}
	switch t := b[0]; {
	case t >= eioOpen && t <= eioNoop:
		return enginePacket{typ: t, data: b[1:]}, nil
	case t == eioBinary && polling:
		data := make([]byte, base64.StdEncoding.DecodedLen(len(b)-1))
		n, err := base64.StdEncoding.Decode(data, b[1:])
		if err != nil {
			return enginePacket{}, fmt.Errorf("%w: base64: %v", ErrParse, err)
		}
		return enginePacket{typ: eioMessage, data: data[:n], binary: true}, nil
	default:
		return enginePacket{}, fmt.Errorf("%w: packet type %q", ErrParse, t)
	}
}

// checkPayload reports whether every packet of a polling payload is one, so
// that none of a bad payload's is acted on.
func checkPayload(b []byte) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: payload is not utf-8", ErrParse)
	}
	for _, err := range payloadPackets(b) {
		if err != nil {
			return err
		}
	}
	return nil
}

// payloadPackets yields the packets of a polling payload, up to a bad one.
func payloadPackets(b []byte) iter.Seq2[enginePacket, error] {
	return func(yield func(enginePacket, error) bool) {
		for more := true; more; {
			var one []byte
			one, b, more = bytes.Cut(b, []byte{separator})
			p, err := parseEnginePacket(one, true)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// openPacket is the handshake's answer.
func (s *session) openPacket(upgrades ...string) []byte {
	if upgrades == nil {
		upgrades = []string{}
	}
	maxPayload := s.srv.opts.MaxPayload
	if maxPayload < 0 {
		maxPayload = 1<<53 - 1 // the largest whole number that scripts count on
	}
	b, err := json.Marshal(struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"`
		PingTimeout  int64    `json:"pingTimeout"`
		MaxPayload   int64    `json:"maxPayload"`
	}{s.id, upgrades, ms(s.srv.opts.PingInterval), ms(s.srv.opts.PingTimeout), maxPayload})
	if err != nil {
		panic(err) // strings and numbers
	}
	return append([]byte{eioOpen}, b...)
}

// ms is d in the protocol's unit, at least 1.
func ms(d time.Duration) int64 { return max(1, d.Milliseconds()) }
