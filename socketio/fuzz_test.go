package socketio_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"example.com/chat/socketio"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A payload is either refused as a parse error, or is exactly the packets that
// it is split into: joined again they are the payload.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"", "40", "2\x1e3", "4a\x1ebAQID\x1e4b", "bA", "\x1e", "4\x1e", "7", "b", "4\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := socketio.ParsePayload(b)
		if err != nil {
			if !errors.Is(err, socketio.ErrParse) {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		var again []string
		for _, p := range ps {
			switch {
			case p.Binary:
				again = append(again, "b"+base64.StdEncoding.EncodeToString([]byte(p.Data)))
			default:
				again = append(again, string(p.Type)+p.Data)
			}
		}
		// Base64 may have come with line breaks and odd last bits.
		if got := strings.Join(again, "\x1e"); got != string(b) && !bytes.Contains(b, []byte("b")) {
			t.Errorf("%q was taken for %q", b, got)
		}
	})
}

// A packet is either refused as a parse error, or holds what a client may send,
// and an event survives being encoded and parsed again.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{"0", `0/a,{"b":1}`, "1", "1/a,", `2["x"]`, `2/a,17["x",1,{}]`, `31[null]`, `451-["x"]`,
		`52-/a,3["x",{"_placeholder":true,"num":1}]`, `61-1[{"_placeholder":true,"num":0}]`, `2["connect"]`, `2[1]`, "5", "2/", "29999999999999999999[]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return // both transports refuse it
		}
		p, err := socketio.ParsePacket(b, 10)
		if err != nil {
			if !errors.Is(err, socketio.ErrParse) {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if p.Type == '2' || p.Type == '3' { // package json reads the same
			var args []json.RawMessage
			if err := json.Unmarshal(b[bytes.IndexByte(b, '['):], &args); err != nil {
				t.Fatalf("%q is no JSON: %v", b, err)
			}
			if p.Type == '2' {
				var name string
				if err := json.Unmarshal(args[0], &name); err != nil || name != p.Name {
					t.Errorf("%q: name %q, want %q, %v", b, p.Name, name, err)
				}
				args = args[1:]
			}
			if d := cmp.Diff(args, p.Args, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%q (-json +got):\n%s", b, d)
			}
		}
		if p.Missing < 0 || p.Missing > 10 || p.ID < -1 || p.ID >= 1<<53 || !strings.HasPrefix(p.Namespace, "/") {
			t.Errorf("%q was taken for %+v", b, p)
		}
		if p.Type != '2' || p.Missing > 0 || p.ID != -1 {
			return
		}
		args := make([]any, len(p.Args))
		for i, a := range p.Args {
			args[i] = a
		}
		unit, err := socketio.AppendEvent(nil, socketio.Polling, p.Namespace, p.Name, args...)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if n := bytes.Count(unit, []byte{'\x1e'}); n != 1 && !strings.Contains(p.Namespace, "\x1e") {
			t.Errorf("%q became %d units: %q", b, n, unit)
		}
		again, err := socketio.ParsePacket(unit[1:len(unit)-1], 10)
		if err != nil {
			t.Fatalf("%q became %q: %v", b, unit, err)
		}
		for _, q := range []*socketio.Packet{&p, &again} { // compare what the JSON says
			for i, a := range q.Args {
				var v any
				if err := json.Unmarshal(a, &v); err != nil {
					return // a number that no float holds
				}
				q.Args[i], _ = json.Marshal(v)
			}
		}
		if d := cmp.Diff(p, again); d != "" {
			t.Errorf("%q became %q (-first +again):\n%s", b, unit, d)
		}
	})
}

// Units converted to the other encoding and back are what they were.
func FuzzConvert(f *testing.F) {
	f.Add([]byte("42[1]\x1ebAQID\x1e"), true)
	f.Add([]byte("\x81\x0342[\x82\x01a"), false)
	f.Fuzz(func(t *testing.T, units []byte, polling bool) {
		there, back := socketio.WebSocket, socketio.Polling
		if !polling {
			there, back = back, there
		}
		a, err := socketio.Convert(there, units)
		if err != nil {
			return
		}
		b, err := socketio.Convert(back, a)
		if err != nil {
			return // text in a frame need not be a packet
		}
		c, err := socketio.Convert(there, b)
		if err != nil || !bytes.Equal(a, c) {
			t.Errorf("%q became %q, %q and %q, %v", units, a, b, c, err)
		}
	})
}

// Whatever a client posts, in whatever pieces, the server answers it, and the
// events that come of it are those of a model that reads packet by packet:
// among them binary ones that are put together from several posts.
func FuzzPosts(f *testing.F) {
	f.Add([]byte("42[\"a\"]"), []byte("452-[\"b\",{\"_placeholder\":true,\"num\":1}]\x1ebAQ=="), []byte("bAg==\x1e42[\"c\"]"))
	f.Add([]byte("451-[\"b\"]"), []byte("42[\"x\"]"), []byte("1"))
	f.Add([]byte("450-[\"b\"]"), []byte("41"), []byte("42[\"x\"]"))
	f.Add([]byte("40"), []byte("40/b"), []byte("4"))
	f.Fuzz(func(t *testing.T, one, two, three []byte) {
		var mu sync.Mutex
		var got []string
		srv := socketio.NewServer(nil)
		srv.Handle("/", func(s *socketio.Socket) {
			for {
				e, err := s.Receive()
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, fmt.Sprintf("%s %d %q", e.Name, len(e.Args), e.Attachments))
				mu.Unlock()
			}
		})
		do := func(method, query string, body []byte) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, httptest.NewRequest(method, "/socket.io/?EIO=4&transport=polling"+query, bytes.NewReader(body)))
			return w
		}
		var open struct{ SID string }
		if err := json.Unmarshal(do("GET", "", nil).Body.Bytes()[1:], &open); err != nil {
			t.Fatal(err)
		}
		sid := "&sid=" + open.SID
		if w := do("POST", sid, []byte("40")); w.Code != http.StatusOK {
			t.Fatalf("CONNECT got %d", w.Code)
		}
		var want []string
		m := model{open: true, connected: true}
		for _, body := range [][]byte{one, two, three} {
			was := m.open
			ok := m.post(body, &want)
			w := do("POST", sid, body)
			if was && ok != (w.Code == http.StatusOK) {
				t.Errorf("%q of %q %q %q got %d %s", body, one, two, three, w.Code, w.Body)
			}
		}
		srv.Close() // has waited for the handlers
		if m.again {
			return // two sockets, one after the other, whose handlers may overlap
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q %q %q (-want +got):\n%s", one, two, three, d)
		}
	})
}

// Whatever auth a CONNECT carries, the program is shown it as it is, with the
// strings in it that ask for recovery, or the connection ends.
func FuzzConnectAuth(f *testing.F) {
	for _, s := range []string{`{"pid":"a","offset":"1"}`, `{"pid":1,"offset":[]}`, `{"PID":"a"}`, `{"pid":"\u0000","pid":"b"}`, `{}`, `[]`, `{"a"`, `,{}`, `/x,{}`, `7{}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, auth string) {
		var got *socketio.ConnectRequest
		srv := socketio.NewServer(&socketio.Options{Connect: func(_ context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
			got = r
			return socketio.Grant{}, &socketio.ConnectError{Message: auth, Data: r.Auth}
		}})
		srv.Handle("/", func(*socketio.Socket) { t.Error("its handler was started") })
		do := func(method, query, body string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, httptest.NewRequest(method, "/socket.io/?EIO=4&transport=polling"+query, strings.NewReader(body)))
			return w
		}
		var open struct{ SID string }
		if err := json.Unmarshal(do("GET", "", "").Body.Bytes()[1:], &open); err != nil {
			t.Fatal(err)
		}
		w := do("POST", "&sid="+open.SID, "40"+auth)
		srv.Close() // has waited for the hook
		var object map[string]json.RawMessage
		valid := strings.HasPrefix(auth, "{") && json.Unmarshal([]byte(auth), &object) == nil && utf8.ValidString(auth)
		switch {
		case strings.ContainsAny(auth, "\x1e/") || strings.HasPrefix(auth, "0") || len(auth) > 64<<10: // or another packet
			return
		case auth != "" && !valid && auth[0] > '9':
			if w.Code != http.StatusBadRequest || got != nil {
				t.Errorf("%q was answered %d, asked with %v", auth, w.Code, got)
			}
		case valid:
			want := &socketio.ConnectRequest{Namespace: "/", Auth: json.RawMessage(auth)}
			var s any
			if json.Unmarshal(object["pid"], &s) == nil {
				want.PID, _ = s.(string)
			}
			if s = nil; want.PID != "" && json.Unmarshal(object["offset"], &s) == nil {
				want.Offset, _ = s.(string)
			}
			if got != nil && got.PID == "" {
				got.Offset = ""
			}
			if d := cmp.Diff(want, got, cmpopts.IgnoreFields(socketio.ConnectRequest{}, "Request")); d != "" || w.Code != http.StatusOK {
				t.Errorf("%q was answered %d (-want +got):\n%s", auth, w.Code, d)
			}
		}
	})
}

// A model is a client's session in a few lines, without what time or another
// transport does to it.
type model struct {
	open, connected, again bool
	partial                *socketio.Packet
}

// post acts on one body and reports whether it is answered with ok.
func (m *model) post(body []byte, events *[]string) bool {
	if !m.open {
		return false
	}
	ps, err := socketio.ParsePayload(body)
	if err != nil {
		m.open = false
		return false
	}
	for _, p := range ps {
		if p.Type == '1' {
			m.open = false
			return true
		}
		if p.Type == '4' && !m.message(p, events) || p.Type == '0' || p.Type == '2' || p.Type == '5' {
			m.open = false
			return false
		}
	}
	return true
}

func (m *model) message(p socketio.EnginePacket, events *[]string) bool {
	var q socketio.Packet
	switch {
	case p.Binary && m.partial == nil, !p.Binary && m.partial != nil:
		return false
	case p.Binary:
		m.partial.Attachments = append(m.partial.Attachments, []byte(p.Data))
		if m.partial.Missing--; m.partial.Missing > 0 {
			return true
		}
		q, m.partial = *m.partial, nil
	default:
		var err error
		if q, err = socketio.ParsePacket([]byte(p.Data), 10); err != nil {
			return false
		}
		if q.Missing > 0 {
			m.partial = &q
			return true
		}
	}
	if q.Type == '0' {
		m.again = m.again || q.Namespace == "/" && !m.connected
		m.connected = m.connected || q.Namespace == "/"
		return true
	}
	if q.Namespace != "/" || !m.connected {
		return false
	}
	switch q.Type {
	case '1':
		m.connected = false
	case '2':
		*events = append(*events, fmt.Sprintf("%s %d %q", q.Name, len(q.Args), q.Attachments))
	}
	return true
}
