package chat

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf8"
)

// What stands in a log's records. One record is one event.
//
//	version  1 byte: recordVersion
//	kind     1 byte
//	session, name, user ID          strings
//	join     uvarint: the sequence of the session's Joined; 0 in that record itself
//	then by kind:
//	 joined, resumed  linger in ms (uvarint), node incarnation (string), hash of the token (string)
//	 said             text (string)
//	 left             reason (1 byte), note (string)
//
// A string is its length in bytes as a uvarint, then the bytes. Joined and Resumed repeat all that a node must know of a
// session, since a snapshot holds only the last record under a key.
const recordVersion = 1

const (
	kindJoined byte = iota + 1
	kindSaid
	kindLeft
	kindResumed
)

// A body is the data of a record, decoded.
type body struct {
	kind    byte
	session string
	user    User
	join    uint64

	linger time.Duration // joined, resumed
	node   string
	token  string

	text string // said: the text; left: the note

	reason Reason // left
}

func (b *body) encode() []byte {
	dst := make([]byte, 0, 32+len(b.session)+len(b.user.Name)+len(b.user.ID)+len(b.text)+len(b.node)+len(b.token))
	dst = append(dst, recordVersion, b.kind)
	dst = appendString(dst, b.session)
	dst = appendString(dst, b.user.Name)
	dst = appendString(dst, b.user.ID)
	dst = binary.AppendUvarint(dst, b.join)
	switch b.kind {
	case kindJoined, kindResumed:
		dst = binary.AppendUvarint(dst, uint64(b.linger/time.Millisecond))
		dst = appendString(dst, b.node)
		dst = appendString(dst, b.token)
	case kindSaid:
		dst = appendString(dst, b.text)
	case kindLeft:
		dst = append(dst, byte(b.reason))
		dst = appendString(dst, b.text)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decode reads a record's data. The error is a RecordError.
func decode(rec Record) (body, error) {
	d := decoder{data: rec.Data}
	var b body
	if v := d.byte(); d.bad == "" && v != recordVersion {
		d.fail("unknown version")
	}
	b.kind = d.byte()
	b.session = d.string()
	b.user.Name = d.string()
	b.user.ID = d.string()
	b.join = d.uvarint()
	switch b.kind {
	case kindJoined, kindResumed:
		ms := d.uvarint()
		if ms > uint64((1<<63-1)/time.Millisecond) {
			d.fail("linger out of range")
		}
		b.linger = time.Duration(ms) * time.Millisecond
		b.node = d.string()
		b.token = d.string()
	case kindSaid:
		b.text = d.string()
	case kindLeft:
		b.reason = Reason(d.byte())
		b.text = d.string()
		if b.reason < Logout || b.reason > Shutdown {
			d.fail("unknown reason")
		}
	default:
		d.fail("unknown kind")
	}
	switch {
	case len(d.data) > 0:
		d.fail("bytes after the end")
	case b.kind == kindJoined && b.join != 0 || b.kind != kindJoined && (b.join == 0 || b.join >= rec.Pos.Seq):
		d.fail("join position out of range")
	case (b.kind == kindSaid) != (rec.Key == "") || (b.kind == kindLeft) != rec.Final:
		d.fail("key does not fit the kind")
	case b.session == "" || !strings.HasPrefix(rec.ID, b.session):
		d.fail("ID is not of the session")
	case b.kind == kindSaid && !strings.HasPrefix(rec.ID[len(b.session):], "/"):
		d.fail("ID has no message part")
	case !utf8.ValidString(b.user.Name) || !utf8.ValidString(b.user.ID) || !utf8.ValidString(b.text):
		d.fail("not valid UTF-8")
	}
	if d.bad != "" {
		return body{}, RecordError{rec.Pos, d.bad}
	}
	return b, nil
}

// A decoder takes values off the front of data. After the first fault it returns zeros and bad says why.
type decoder struct {
	data []byte
	bad  string
}

func (d *decoder) fail(why string) {
	if d.bad == "" {
		d.bad = why
	}
	d.data = nil
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.fail("cut short")
		return 0
	}
	c := d.data[0]
	d.data = d.data[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 || n > 1 && d.data[n-1] == 0 { // the second: a longer spelling than need be
		d.fail("bad number")
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.fail("cut short")
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

// messageID returns the caller's part of the ID of a Said record.
func messageID(rec Record, b body) string { return rec.ID[len(b.session)+1:] }
