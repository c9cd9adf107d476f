package fanout

import (
	"encoding/binary"
	"unicode/utf8"
)

// Opcodes of RFC 6455 section 11.8, as AppendControl takes them.
const (
	OpText   = 0x1
	OpBinary = 0x2
	OpClose  = 0x8
	OpPing   = 0x9
	OpPong   = 0xA
)

const (
	fin         = 0x80
	maxControl  = 125            // bytes of payload in a control frame, RFC 6455 section 5.5
	maxReason   = maxControl - 2 // what a close frame's code leaves
	maxShortLen = 125            // the longest payload whose length stands in the second byte
)

// AppendFrame appends one whole unmasked data frame, as a server sends it
// (RFC 6455 section 5.2), to dst. The bytes are the same for every connection,
// so one frame may be written to all of them; frames may be concatenated.
func AppendFrame(dst []byte, binaryData bool, payload []byte) []byte {
	op := byte(OpText)
	if binaryData {
		op = OpBinary
	}
	dst = append(dst, fin|op)
	switch n := len(payload); {
	case n <= maxShortLen:
		dst = append(dst, byte(n))
	case n <= 0xFFFF:
		dst = append(dst, 126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, payload...)
}

// AppendControl appends one unmasked control frame to dst. It panics if payload
// is longer than the 125 bytes that RFC 6455 section 5.5 allows.
func AppendControl(dst []byte, opcode byte, payload []byte) []byte {
	if len(payload) > maxControl {
		panic("fanout: a control frame's payload is at most 125 bytes")
	}
	dst = append(dst, fin|opcode, byte(len(payload)))
	return append(dst, payload...)
}

// cutPongs cuts whole pongs, as a client sends them, off the front of b.
func cutPongs(b []byte) []byte {
	const masked, head = 0x80, 6
	for len(b) >= head && b[0] == fin|OpPong && b[1] >= masked && b[1] <= masked|maxControl && len(b) >= head+int(b[1]-masked) {
		b = b[head+int(b[1]-masked):]
	}
	return b
}

// appendClose appends a close frame. Code 1005 stands for none. The reason is
// cut to the 123 bytes that fit, between two runes.
func appendClose(dst []byte, code int, reason string) []byte {
	if code == CloseNoStatus {
		return AppendControl(dst, OpClose, nil)
	}
	if len(reason) > maxReason {
		n := maxReason
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	p := binary.BigEndian.AppendUint16(make([]byte, 0, maxControl), uint16(code))
	return AppendControl(dst, OpClose, append(p, reason...))
}
