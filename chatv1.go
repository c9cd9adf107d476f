package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// This file is the text of chat.v1, which PROTOCOL.md describes: requests, replies and events as JSON, and what a
// connection is closed with. It knows nothing of WebSocket frames.

// maxRef is the longest ref of a request, in bytes.
const maxRef = 64

// requestFields are what is read of a request. Each field has its type whatever the operation is.
type requestFields struct {
	op, ref, name, token, id, text string
	hear                           SubscribeOptions
	given                          []string // the keys that were there
}

// decodeRequest reads one request from valid UTF-8. What is not one is a [BadRequest], with the ref if that can be read.
func decodeRequest(data []byte) Request {
	var f requestFields
	if err := f.read(data); err != nil {
		return BadRequest{f.ref, err}
	}
	switch f.op {
	case "login":
		if !slices.Contains(f.given, "name") && f.token == "" {
			return BadRequest{f.ref, malformed("login has neither name nor token")}
		}
		return LoginRequest{Ref: f.ref, Name: f.name, Token: f.token, Hear: f.hear}
	case "send":
		if !slices.Contains(f.given, "text") {
			return BadRequest{f.ref, malformed("send has no text")}
		}
		return SendRequest{f.ref, f.id, f.text}
	case "logout":
		return LogoutRequest{f.ref}
	case "subscribe":
		return SubscribeRequest{f.ref, f.hear}
	}
	if !slices.Contains(f.given, "op") {
		return BadRequest{f.ref, malformed("no op")}
	}
	return BadRequest{f.ref, malformed("unknown op %.32q", f.op)}
}

// malformed is an [ErrRequest] that says why, in words for the client.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// read reads the object to its end, so that f.ref is known wherever it stands, and returns the first thing wrong.
func (f *requestFields) read(data []byte) error {
	if !json.Valid(data) { // of the whole: nothing may follow the object
		return malformed("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return malformed("not a JSON object")
	}
	var first error
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return malformed("not JSON: %v", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return malformed("not JSON: %v", err)
		}
		if err := f.set(key.(string), value); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// set takes one member of the object. Those of unknown names are passed over, so that a later client may send more.
func (f *requestFields) set(key string, value json.RawMessage) error {
	var to any
	kind := "a string"
	switch key {
	case "op":
		to = &f.op
	case "ref":
		to = &f.ref
	case "name":
		to = &f.name
	case "token":
		to = &f.token
	case "id":
		to = &f.id
	case "text":
		to = &f.text
	case "after":
		to, kind = &f.hear.After, "a position"
	case "last":
		to, kind = &f.hear.Last, "a whole number"
	case "fresh":
		to, kind = &f.hear.Fresh, "true or false"
	default:
		return nil
	}
	if slices.Contains(f.given, key) {
		return malformed("%s stands twice", key)
	}
	f.given = append(f.given, key)
	// A null would leave the field as it is, without an error.
	if err := json.Unmarshal(value, to); err != nil || value[0] == 'n' {
		return malformed("%s is not %s", key, kind)
	}
	switch to := to.(type) {
	case *string:
		if strings.ContainsRune(*to, utf8.RuneError) && halfSurrogate(value) {
			*to = ""
			return malformed(`%s has half of a surrogate pair`, key)
		}
		if key == "ref" && len(*to) > maxRef {
			*to = ""
			return malformed("ref is over %d bytes", maxRef)
		}
	case *Position:
		if to.IsZero() {
			return malformed("after is not a position")
		}
	case *int:
		if *to < 0 {
			return malformed("last is negative")
		}
	}
	return nil
}

// halfSurrogate reports whether a JSON string has an escape for half of a surrogate pair, which stands for no character
// (RFC 8259 section 8.2) and would silently become U+FFFD.
func halfSurrogate(s []byte) bool {
	unit := func(i int) uint64 {
		if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
			return 0
		}
		n, err := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
		if err != nil {
			return 0
		}
		return n
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case 0xD800 <= u && u < 0xDC00:
			if low := unit(i + 6); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		case 0xDC00 <= u && u < 0xE000:
			return true
		default:
			i++ // what is escaped; the digits of \u are passed over one by one
		}
	}
	return false
}

// appendEvent appends an event.
func appendEvent(dst []byte, e Event) []byte {
	switch e := e.(type) {
	case Joined:
		dst = appendHead(dst, "joined", e.At, e.User)
	case Said:
		dst = appendHead(dst, "said", e.At, e.User)
		dst = appendField(dst, "id", e.ID)
		dst = appendField(dst, "text", e.Text)
	case Left:
		dst = appendHead(dst, "left", e.At, e.User)
		dst = appendField(dst, "reason", e.Reason.String())
		if e.Note != "" {
			dst = appendField(dst, "note", e.Note)
		}
	case Resumed:
		dst = appendHead(dst, "resumed", e.At, e.User)
	}
	return append(dst, '}')
}

func appendHead(dst []byte, kind string, at Meta, user User) []byte {
	dst = append(append(dst, `{"event":"`...), kind...)
	dst = appendPosition(append(dst, `","pos":`...), at.Pos)
	dst = appendPosition(append(dst, `,"prev":`...), at.Prev)
	dst = at.Time.UTC().AppendFormat(append(dst, `,"time":"`...), "2006-01-02T15:04:05.000Z")
	return appendUser(append(dst, `","user":`...), user)
}

// appendReply appends a reply.
func appendReply(dst []byte, rep Reply) []byte {
	switch rep := rep.(type) {
	case LoginReply:
		dst = appendRef(dst, "login", rep.Ref)
		dst = appendUser(append(dst, `,"user":`...), rep.User)
		dst = appendPosition(append(dst, `,"pos":`...), rep.Pos)
		dst = appendField(dst, "token", rep.Token)
		if rep.Start != nil {
			dst = appendStart(dst, *rep.Start)
		}
	case SendReply:
		if rep.Receipt.ID == "" {
			dst = appendRef(dst, "logout", rep.Ref)
		} else {
			dst = appendField(appendRef(dst, "send", rep.Ref), "id", rep.Receipt.ID)
		}
		dst = appendPosition(append(dst, `,"pos":`...), rep.Receipt.Pos)
	case SubscribeReply:
		dst = appendStart(appendRef(dst, "subscribe", rep.Ref), rep.Start)
	case ErrorReply:
		dst = appendRef(dst, "error", rep.Ref)
		dst = appendField(dst, "code", Code(rep.Err))
		dst = appendField(dst, "message", message(rep.Err))
		var limit LimitError
		if errors.As(rep.Err, &limit) {
			dst = strconv.AppendInt(append(dst, `,"max":`...), int64(limit.Max), 10)
		}
		if after := retryAfter(rep.Err); after > 0 {
			dst = strconv.AppendInt(append(dst, `,"retry_after_ms":`...), after, 10)
		}
	}
	return append(dst, '}')
}

func appendRef(dst []byte, kind, ref string) []byte {
	dst = append(append(append(dst, `{"reply":"`...), kind...), '"')
	if ref != "" {
		dst = appendField(dst, "ref", ref)
	}
	return dst
}

func appendStart(dst []byte, s Start) []byte {
	dst = appendPosition(append(dst, `,"start":{"at":`...), s.At)
	dst = strconv.AppendBool(append(dst, `,"resumed":`...), s.Resumed)
	if !s.Resumed {
		dst = append(dst, `,"roster":[`...)
		for i, u := range s.Roster {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendUser(dst, u)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendUser(dst []byte, u User) []byte {
	dst = appendJSON(append(dst, `{"name":`...), u.Name)
	if u.ID != "" {
		dst = appendField(dst, "id", u.ID)
	}
	return append(dst, '}')
}

func appendPosition(dst []byte, p Position) []byte {
	dst = strconv.AppendUint(append(dst, '"'), p.Epoch, 16)
	dst = strconv.AppendUint(append(dst, '-'), p.Seq, 10)
	return append(dst, '"')
}

// appendField appends a member that is not the first.
func appendField(dst []byte, key, value string) []byte {
	dst = append(append(append(dst, `,"`...), key...), `":`...)
	return appendJSON(dst, value)
}

// appendJSON appends s as a JSON string (RFC 8259 section 7). What is not UTF-8 becomes U+FFFD.
func appendJSON(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		if b >= ' ' && b != '"' && b != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, `\n`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[b>>4], hex[b&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// message is what a client is told of an error, in English: what this package says of it, and never what a log or a
// program's code wrapped in it.
func message(err error) string {
	text := "internal error"
	var limit LimitError
	var name NameError
	switch {
	case errors.As(err, &limit):
		text = limit.Error()
	case errors.As(err, &name):
		text = name.Error()
	case errors.Is(err, ErrRequest):
		text = err.Error()
	default:
		for _, c := range codes {
			if errors.Is(err, c.err) {
				text = c.err.Error()
				break
			}
		}
	}
	return strings.TrimPrefix(text, "chat: ")
}

// retryAfter is how long a client should wait, in milliseconds, rounded up; 0 if err does not say.
func retryAfter(err error) int64 {
	var d time.Duration
	var limit LimitError
	var shutdown ShutdownError
	switch {
	case errors.As(err, &limit):
		d = limit.RetryAfter
	case errors.As(err, &shutdown):
		d = shutdown.RetryAfter
	}
	if d <= 0 {
		return 0
	}
	return int64((min(d, math.MaxInt64-time.Millisecond) + time.Millisecond - 1) / time.Millisecond)
}

// What a connection is closed with. From 4500 on a client does not come back by itself.
const (
	closeGoodbye      = 1000 // the answer to the client's own goodbye
	closeBinary       = 1003
	closeShutdown     = 4000
	closeClosed       = 4001
	closeSlow         = 4002
	closeLost         = 4003
	closeLimit        = 4004
	closeInternal     = 4005
	closeFenced       = 4006
	closeKicked       = 4500
	closeLoginTimeout = 4501
	closeTakenOver    = 4502
)

// maxCloseReason is what fits beside the code (RFC 6455 section 5.5).
const maxCloseReason = 123

// closing returns the close code and reason for what a connection ended with.
func closing(cause error) (code int, reason string) {
	var shutdown ShutdownError
	word := Code(cause)
	switch {
	case cause == nil, cause == io.EOF:
		return closeGoodbye, ""
	case errors.As(cause, &shutdown):
		code, word = closeShutdown, "shutdown"
	case errors.Is(cause, ErrClosed):
		code, word = closeClosed, Code(ErrClosed)
	case errors.Is(cause, ErrSlow):
		code, word = closeSlow, Code(ErrSlow)
	case errors.Is(cause, ErrLost):
		code, word = closeLost, Code(ErrLost)
	case errors.Is(cause, ErrFenced):
		code = closeFenced
	case errors.Is(cause, ErrSource), errors.Is(cause, ErrAnonymous):
		code = closeLimit
	case errors.Is(cause, ErrKicked):
		code = closeKicked
	case errors.Is(cause, ErrTakenOver):
		code = closeTakenOver
	case errors.Is(cause, ErrLoginTimeout):
		return closeLoginTimeout, closeReason(word, nil) // waiting changes nothing
	default:
		code = closeInternal
	}
	return code, closeReason(word, cause)
}

// closeReason is a close frame's reason: a JSON object of at most 123 bytes.
func closeReason(word string, cause error) string {
	dst := appendJSON([]byte(`{"code":`), word)
	if after := retryAfter(cause); after > 0 {
		dst = strconv.AppendInt(append(dst, `,"retry_after_ms":`...), after, 10)
	}
	var kicked KickedError
	if errors.As(cause, &kicked) && kicked.Note != "" {
		for note := kicked.Note; note != ""; note = cut(note, len(note)-1) {
			if with := appendField(dst, "note", note); len(with) < maxCloseReason {
				dst = with
				break
			}
		}
	}
	return string(append(dst, '}'))
}
