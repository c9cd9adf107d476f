package socketio

import "encoding/json"

// What the decoders of strangers' bytes make of them, for fuzzing.

type Packet struct {
	Type        byte
	Namespace   string
	ID          int64
	Name        string
	Args        []json.RawMessage
	Missing     int
	Attachments [][]byte
}

func ParsePacket(b []byte, maxAttachments int) (Packet, error) {
	p, err := parsePacket(b, maxAttachments)
	if err != nil {
		return Packet{}, err
	}
	return Packet{p.typ, p.namespace, p.id, p.name, p.args, p.missing, p.attachments}, nil
}

type EnginePacket struct {
	Type   byte
	Data   string
	Binary bool
}

func ParsePayload(b []byte) ([]EnginePacket, error) {
	if err := checkPayload(b); err != nil {
		return nil, err
	}
	var ps []EnginePacket
	for p, err := range payloadPackets(b) {
		if err != nil {
			return nil, err
		}
		ps = append(ps, EnginePacket{p.typ, string(p.data), p.binary})
	}
	return ps, nil
}

// Sessions is how many the server knows.
func Sessions(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func Convert(to Encoding, units []byte) ([]byte, error) { return convert(to, units) }
