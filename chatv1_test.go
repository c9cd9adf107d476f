package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeRequest(t *testing.T) {
	bad := func(ref, why string) Request { return BadRequest{ref, errors.New("chat: malformed request: " + why)} }
	kept := Position{0x5eed, 7}
	for _, tt := range []struct {
		why, text string
		want      Request
	}{
		{"all of a login", `{"op":"login","ref":"1","name":"Ann","after":"5eed-7","last":20,"fresh":true}`,
			LoginRequest{Ref: "1", Name: "Ann", Hear: SubscribeOptions{After: kept, Last: 20, Fresh: true}}},
		{"a login by token needs no name", `{"op":"login","token":"s3cret"}`, LoginRequest{Token: "s3cret"}},
		{"a name may be empty here: the policy refuses it", `{"op":"login","name":""}`, LoginRequest{}},
		{"a send", `{"op":"send","ref":"2","id":"m","text":"hi"}`, SendRequest{"2", "m", "hi"}},
		{"a logout", `{"op":"logout"}`, LogoutRequest{}},
		{"a subscribe", `{"op":"subscribe","last":3}`, SubscribeRequest{Hear: SubscribeOptions{Last: 3}}},
		{"space, any order, escapes in keys", " {\n\"text\" : \"a\\u0062\" ,\t\"\\u006fp\":\"send\" }\r\n", SendRequest{Text: "ab"}},
		{"a whole surrogate pair", `{"op":"send","text":"\ud83d\ude00"}`, SendRequest{Text: "\U0001F600"}},
		{"U+FFFD itself", `{"op":"send","text":"\ufffd\\ud83d"}`, SendRequest{Text: "\uFFFD\\ud83d"}},
		{"both, so that the escapes are looked at", `{"op":"send","text":"\ufffd\ud83d\ude00\n\u00e4"}`, SendRequest{Text: "\uFFFD\U0001F600\nä"}},
		{"what a later client may send", `{"op":"logout","new":{"a":[1,null]},"new":2,"OP":7}`, LogoutRequest{}},
		{"a field of another op has no effect", `{"op":"logout","text":"x"}`, LogoutRequest{}},

		{"nothing", ``, bad("", "not JSON")},
		{"half an object", `{"op":"logout"`, bad("", "not JSON")},
		{"two objects", `{"op":"logout"}{"op":"logout"}`, bad("", "not JSON")},
		{"a comma too many", `{"op":"logout",}`, bad("", "not JSON")},
		{"a list", `["login"]`, bad("", "not a JSON object")},
		{"null", `null`, bad("", "not a JSON object")},
		{"deep, where it would be passed over", `{"ref":"d","new":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
			bad("", "not JSON")},
		{"no op", `{"ref":"3"}`, bad("3", "no op")},
		{"an unknown op", `{"op":"dance","ref":"4"}`, bad("4", `unknown op "dance"`)},
		{"keys are exact", `{"Op":"logout","ref":"5"}`, bad("5", "no op")},
		{"a long op is not sent back whole", `{"op":"` + strings.Repeat("x", 1000) + `"}`,
			bad("", `unknown op "`+strings.Repeat("x", 32)+`"`)},
		{"neither name nor token", `{"op":"login","ref":"6","token":""}`, bad("6", "login has neither name nor token")},
		{"no text", `{"op":"send","ref":"7"}`, bad("7", "send has no text")},
		{"a number for a string, and the ref behind it", `{"op":"login","name":7,"ref":"8"}`, bad("8", "name is not a string")},
		{"null is no value", `{"op":"login","name":null,"ref":"9"}`, bad("9", "name is not a string")},
		{"an op that is no string", `{"op":{},"ref":"10"}`, bad("10", "op is not a string")},
		{"a wrong type of a field of another op", `{"op":"logout","text":[],"ref":"11"}`, bad("11", "text is not a string")},
		{"last in words", `{"op":"subscribe","last":"3"}`, bad("", "last is not a whole number")},
		{"half an event", `{"op":"subscribe","last":1.5}`, bad("", "last is not a whole number")},
		{"more than there are", `{"op":"subscribe","last":99999999999999999999}`, bad("", "last is not a whole number")},
		{"fewer than none", `{"op":"subscribe","last":-1}`, bad("", "last is negative")},
		{"fresh as a number", `{"op":"subscribe","fresh":1}`, bad("", "fresh is not true or false")},
		{"not a position", `{"op":"subscribe","after":"7"}`, bad("", "after is not a position")},
		{"a position in another spelling", `{"op":"subscribe","after":"05EED-07"}`, bad("", "after is not a position")},
		{"the position that means none", `{"op":"subscribe","after":"0-0"}`, bad("", "after is not a position")},
		{"a key twice", `{"op":"send","ref":"12","text":"a","text":"b"}`, bad("12", "text stands twice")},
		{"also as an escape", `{"op":"send","text":"a","te\u0078t":"b"}`, bad("", "text stands twice")},
		{"a ref that is no string", `{"op":"logout","ref":13}`, bad("", "ref is not a string")},
		{"a ref that is too long", `{"op":"logout","ref":"` + strings.Repeat("r", 65) + `"}`, bad("", "ref is over 64 bytes")},
		{"half a surrogate pair", `{"op":"send","text":"a\ud83d"}`, bad("", "text has half of a surrogate pair")},
		{"the other half", `{"op":"send","text":"\\\\\ude00 "}`, bad("", "text has half of a surrogate pair")},
		{"two first halves", `{"op":"send","text":"\ud83d\ud83d\ude00"}`, bad("", "text has half of a surrogate pair")},
		{"half in a ref", `{"op":"logout","ref":"\ud83d"}`, bad("", "ref has half of a surrogate pair")},
	} {
		got := decodeRequest([]byte(tt.text))
		if b, ok := got.(BadRequest); ok && !errors.Is(b.Err, ErrRequest) {
			t.Errorf("%s: %v is not an ErrRequest", tt.why, b.Err)
		}
		if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); d != "" {
			t.Errorf("%s: %.100s (-want +got):\n%s", tt.why, tt.text, d)
		}
	}
}

// Whatever comes, it is a request or a refusal; and what is a request says what encoding/json reads, and survives
// being written and read again.
func FuzzDecodeRequest(f *testing.F) {
	for _, text := range []string{
		`{"op":"login","ref":"1","name":"Ann","after":"5eed-7","last":20,"fresh":true}`,
		`{"op":"login","token":"s3cret","name":"Ann"}`,
		`{"op":"send","ref":"2","id":"m","text":"\ud83d\ude00 \u0000\n"}`,
		`{"op":"logout","new":[{"a":null}]}`,
		`{"op":"subscribe","last":3,"last":4}`,
		`{"op":7,"ref":"x"}`, `[]`, `{`, `{"op":"send","text":"\ud83d"}`, "{\"op\":\"send\",\"text\":\"\xff\"}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // ended by the connection, with 1007
		}
		req := decodeRequest(text)
		ref := refOf(req)
		if len(ref) > maxRef || !utf8.ValidString(ref) {
			t.Errorf("ref %q", ref)
		}
		if b, ok := req.(BadRequest); ok {
			if !errors.Is(b.Err, ErrRequest) {
				t.Errorf("%v", b.Err)
			}
			if rep := appendReply(nil, ErrorReply(b)); !json.Valid(rep) || len(rep) > 1000 {
				t.Errorf("the refusal is %.2000s", rep)
			}
			return
		}
		var all map[string]any
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatalf("%v is taken from what encoding/json doesn't read: %v", req, err)
		}
		said := map[string]any{"ref": ref}
		switch req := req.(type) {
		case LoginRequest:
			said["op"], said["name"], said["token"] = "login", req.Name, req.Token
			heard(said, req.Hear)
		case SendRequest:
			said["op"], said["id"], said["text"] = "send", req.ID, req.Text
		case LogoutRequest:
			said["op"] = "logout"
		case SubscribeRequest:
			said["op"] = "subscribe"
			heard(said, req.Hear)
		default:
			t.Fatalf("a %T", req)
		}
		for k, v := range said {
			given, ok := all[k]
			if n, isInt := v.(int); isInt {
				v = float64(n)
			}
			if ok && given != v || !ok && v != "" && v != false && v != 0.0 {
				t.Errorf("%s: %v, but the text has %v", k, v, given)
			}
		}
		again, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(req, decodeRequest(again)); d != "" {
			t.Errorf("%s, written as %s (-first +second):\n%s", text, again, d)
		}
	})
}

func heard(said map[string]any, o SubscribeOptions) {
	said["last"], said["fresh"] = o.Last, o.Fresh
	if !o.After.IsZero() {
		said["after"] = o.After.String()
	}
}

// Whatever a text holds, an event is JSON that encoding/json reads the same text from.
func FuzzAppendEvent(f *testing.F) {
	f.Add("Ann", "<b>hi</b> & \"quotes\" \\ \b\f\n\r\t\x00\x1f\x7f", "m1")
	f.Add("\u2028", "\U0001F600 ä\xffé", "")
	f.Fuzz(func(t *testing.T, name, text, id string) {
		at := Meta{Pos: Position{0x5eed, 2}, Prev: Position{0x5eed, 1}, Time: time.Unix(1e9, 5e6)}
		for _, e := range []Event{
			Said{at, User{name, id}, id, text},
			Left{at, User{name, id}, Kicked, text},
		} {
			b := appendEvent(nil, e)
			if !utf8.Valid(b) {
				t.Fatalf("%q is not UTF-8", b)
			}
			var got struct {
				Event, ID, Text, Note, Reason string
				Pos, Prev                     Position
				Time                          time.Time
				User                          User
			}
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			valid := func(s string) string { // each wrong byte is one U+FFFD, as for encoding/json
				return string([]rune(s))
			}
			if got.User != (User{valid(name), valid(id)}) || got.Text+got.Note != valid(text) || got.Pos != at.Pos ||
				got.Prev != at.Prev || !got.Time.Equal(at.Time) {
				t.Errorf("%#v became %s", e, b)
			}
		}
	})
}

func TestClosing(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		why    string
		cause  error
		code   int
		reason string
	}{
		{"the peer's goodbye", io.EOF, 1000, ""},
		{"nothing", nil, 1000, ""},
		{"shutdown", ShutdownError{second + 1}, 4000, `{"code":"shutdown","retry_after_ms":1001}`},
		{"shutdown that doesn't say when", ShutdownError{}, 4000, `{"code":"shutdown"}`},
		{"closed", ErrClosed, 4001, `{"code":"closed"}`},
		{"slow", SlowError{}, 4002, `{"code":"slow"}`},
		{"slow, as a transport says it", fmt.Errorf("%w: %w", ErrSlow, io.ErrShortWrite), 4002, `{"code":"slow"}`},
		{"lost", fmt.Errorf("%w: %w", ErrLost, io.ErrUnexpectedEOF), 4003, `{"code":"lost"}`},
		{"source", LimitError{ErrSource, 1, second}, 4004, `{"code":"source","retry_after_ms":1000}`},
		{"anonymous", LimitError{ErrAnonymous, 1, second}, 4004, `{"code":"anonymous","retry_after_ms":1000}`},
		{"a record", RecordError{Position{1, 2}, "secret"}, 4005, `{"code":"record"}`},
		{"trimmed", ErrTrimmed, 4005, `{"code":"trimmed"}`},
		{"what nobody knows", errors.New("secret"), 4005, `{"code":"internal"}`},
		{"fenced", ErrFenced, 4006, `{"code":"fenced"}`},
		{"kicked", KickedError{"go\x00"}, 4500, `{"code":"kicked","note":"go\u0000"}`},
		{"a note of which nothing fits but some", KickedError{strings.Repeat("\x01", 100)}, 4500,
			`{"code":"kicked","note":"` + strings.Repeat(`\u0001`, 16) + `"}`},
		{"login timeout", LimitError{ErrLoginTimeout, 60, second}, 4501, `{"code":"login_timeout"}`},
		{"taken over", ErrTakenOver, 4502, `{"code":"taken_over"}`},
	} {
		code, reason := closing(tt.cause)
		if code != tt.code || reason != tt.reason {
			t.Errorf("%s: %d %s, want %d %s", tt.why, code, reason, tt.code, tt.reason)
		}
		if len(reason) > maxCloseReason || reason != "" && !json.Valid([]byte(reason)) {
			t.Errorf("%s: %d bytes: %s", tt.why, len(reason), reason)
		}
	}
}

// What a program's code, or its log, puts into an error is not for clients.
func TestMessagesLeakNothing(t *testing.T) {
	secret := errors.New("dial 10.0.0.7: secret")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{secret, "internal error"},
		{fmt.Errorf("%w: %w", ErrUnknown, secret), "outcome is unknown"},
		{fmt.Errorf("%w: %w", ErrFull, secret), "log is full"},
		{fmt.Errorf("%w: %w", ErrName, secret), "name not allowed"},
		{NameError{"has a space"}, "name not allowed: has a space"},
		{LimitError{ErrRate, 20, time.Second}, "too many requests (limit 20)"},
		{malformed("no op"), "malformed request: no op"},
	} {
		if got := message(tt.err); got != tt.want {
			t.Errorf("%v is told as %q, want %q", tt.err, got, tt.want)
		}
	}
}
