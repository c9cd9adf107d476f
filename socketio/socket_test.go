package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
	"github.com/google/go-cmp/cmp"
)

// connectTo connects to a namespace and returns the socket's id.
func (c *wsClient) connectTo(packet, prefix string) string {
	c.w.Helper()
	c.send(text(packet))
	f := c.next()
	var answer struct{ SID string }
	rest, ok := strings.CutPrefix(f.Payload, prefix)
	if !ok || json.Unmarshal([]byte(rest), &answer) != nil || answer.SID == "" {
		c.w.Fatalf("CONNECT got frame %d %q", f.Op, f.Payload)
	}
	return answer.SID
}

// TestSocket holds the server to Socket.IO protocol 5, clause by clause.
func TestSocket(t *testing.T) {
	for _, tt := range []struct {
		clause string
		f      func(w *world)
	}{
		{"connect/the default namespace, with an id of its own", func(w *world) {
			c := w.ws()
			id := c.connectTo("40", "40")
			s := <-w.sockets
			if id == c.sid || id != s.ID() || s.Auth() != nil || s.Namespace() != "/" {
				w.Errorf("id %q, sid %q, socket's %q, auth %s, namespace %s", id, c.sid, s.ID(), s.Auth(), s.Namespace())
			}
			if got := s.Request().URL.Query().Get("transport"); got != "websocket" {
				w.Errorf("the handshake's request says transport %q", got)
			}
		}},
		{"connect/with auth", func(w *world) {
			c := w.ws()
			c.connectTo(`40{"token":"123"}`, "40")
			c.want(text(`42["auth",{"token":"123"}]`))
		}},
		{"connect/a custom namespace", func(w *world) {
			c := w.ws()
			c.connectTo("40/custom,", "40/custom,")
			c.send(text(`42/custom,["message",1]`))
			c.want(text(`42/custom,["message-back",1]`))
			if s := <-w.sockets; s.Namespace() != "/custom" {
				w.Errorf("namespace %q", s.Namespace())
			}
		}},
		{"connect/a custom namespace, with auth, without the comma, with a query", func(w *world) {
			for _, p := range []string{`40/custom,{"token":"abc"}`, `40/custom`, `40/custom?a=b,`} {
				c := w.ws()
				c.connectTo(p, "40/custom,")
				if strings.Contains(p, "token") {
					c.want(text(`42/custom,["auth",{"token":"abc"}]`))
				}
			}
		}},
		{"connect/an unknown namespace is refused, the connection goes on", func(w *world) {
			c := w.ws()
			c.send(text("40/random"), text("40/a\"b,"))
			c.want(text(`44/random,{"message":"Invalid namespace"}`), text(`44/a"b,{"message":"Invalid namespace"}`))
			c.connect()
		}},
		{"connect/twice is answered twice and is one socket", func(w *world) {
			c := w.ws()
			if a, b := c.connectTo("40", "40"), c.connectTo("40", "40"); a != b {
				w.Errorf("ids %q and %q", a, b)
			}
			synctest.Wait() // a handler begins behind the answer
			if n := len(w.sockets); n != 1 {
				w.Errorf("%d sockets", n)
			}
		}},
		{"connect/nothing within connectTimeout ends the connection", func(w *world) {
			start := time.Now()
			c := w.ws()
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
			p := w.poll()
			p.want("2")
			p.send("3")
			p.want("1")
			p.gone()
		}},
		{"connect/a refused namespace is none", func(w *world) {
			start := time.Now()
			c := w.ws()
			c.send(text("40/random"))
			c.next()
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
		}},
		{"disconnect/by the client ends one namespace", func(w *world) {
			c := w.ws().connect()
			c.connectTo("40/custom", "40/custom,")
			c.send(text("41/custom,"))
			w.wantEnd(io.EOF, 0)
			c.send(text(`42["message","still here"]`))
			c.want(text(`42["message-back","still here"]`))
			c.connectTo("40/custom", "40/custom,") // and it may come back
			c.send(text("41"))
			w.wantEnd(io.EOF, 0)
		}},
		{"disconnect/what was sent before it is received before it", func(w *world) {
			p := w.poll().connect()
			p.send(`42["a"]`, `42["b"]`, "41")
			w.wantEnd(io.EOF, 0)
			if a, b := <-w.names, <-w.names; a != "a" || b != "b" {
				w.Errorf("received %q and %q", a, b)
			}
		}},
		{"disconnect/by the server ends one namespace", func(w *world) {
			c := w.ws().connect()
			<-w.sockets
			c.connectTo("40/custom", "40/custom,")
			s := <-w.sockets
			s.Disconnect(false)
			s.Disconnect(false)
			c.want(text("41/custom,"))
			w.wantEnd(socketio.ErrDisconnected, 0)
			if err := s.Emit("x"); !errors.Is(err, socketio.ErrDisconnected) {
				w.Errorf("Emit: %v", err)
			}
			// What crosses with it is nobody's fault.
			c.send(text(`42/custom,["message",1]`), text("41/custom,"), text("43/custom,1[]"), text(`42["message",2]`))
			c.want(text(`42["message-back",2]`))
			c.connectTo("40/custom", "40/custom,")
		}},
		{"disconnect/by the server, with the connection", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			for i := range 3 {
				if err := s.Emit("n", i); err != nil {
					w.Error(err)
				}
			}
			s.Disconnect(true)
			s.Disconnect(true)
			c.want(text(`42["n",0]`), text(`42["n",1]`), text(`42["n",2]`), text("41"))
			c.closed(1000)
			w.wantEnd(socketio.ErrDisconnected, 0)
		}},
		{"disconnect/by the server on polling, hanging or not", func(w *world) {
			for _, hang := range []bool{true, false} {
				p := w.poll().connect()
				s := <-w.sockets
				if hang {
					hanging := p.hang()
					s.Disconnect(true)
					if r := <-hanging; r.Body != "41" {
						w.Errorf("hanging poll got %v", r)
					}
					p.want("1")
				} else {
					s.Emit("last")
					s.Disconnect(true)
					synctest.Wait()
					p.want("42[\"last\"]\x1e41")
					p.want("1")
				}
				p.gone()
				w.wantEnd(socketio.ErrDisconnected, 0)
			}
		}},
		{"disconnect/Drop says no goodbye", func(w *world) {
			c := w.ws().connect()
			(<-w.sockets).Drop()
			c.closed(1000)
			w.wantEnd(socketio.ErrDisconnected, 0)
			p := w.poll().connect()
			s := <-w.sockets
			s.Emit("last")
			s.Drop()
			p.want(`42["last"]`)
			p.want("1")
		}},
		{"disconnect/a connection without a namespace ends after connectTimeout", func(w *world) {
			c := w.ws().connect()
			c.send(text("41"))
			start := time.Now()
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
		}},
		{"event/any JSON comes back as it was", func(w *world) {
			c := w.ws().connect()
			for _, args := range []string{
				`1`, `-1.5e300`, `12345678901234567890`, `"2"`, `"\u2028\ud83d\ude00\u001e"`, `true`, `null`, `[]`, `{}`,
				`[[[{"a":[null]}]]]`, `1,"2",{"3":[true]}`, `{"_placeholder":true,"num":0}`, `"日本語 <b>&amp;</b>"`,
			} {
				c.send(text(`42["message",` + args + `]`))
				f := c.next()
				var got, want any
				if err := json.Unmarshal([]byte(strings.TrimPrefix(f.Payload, "42")), &got); err != nil {
					w.Fatalf("%s came back as %q", args, f.Payload)
				}
				json.Unmarshal([]byte(`["message-back",`+args+`]`), &want)
				if d := cmp.Diff(want, got); d != "" {
					w.Errorf("%s (-want +got):\n%s", args, d)
				}
			}
		}},
		{"event/white space in the JSON", func(w *world) {
			c := w.ws().connect()
			c.send(text("42[ \"message\" , 1 ]"))
			c.want(text(`42["message-back",1]`))
		}},
		{"event/names of objects' own properties are names like others", func(w *world) {
			c := w.ws().connect()
			for _, name := range []string{"__proto__", "constructor", "hasOwnProperty", "toString", ""} {
				c.send(text(fmt.Sprintf(`421["%s",1]`, name)))
			}
			c.send(text(`42["message"]`))
			c.want(text(`42["message-back"]`))
		}},
		{"event/with attachments", func(w *world) {
			c := w.ws().connect()
			c.send(text(`452-["message",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]`), frame{2, "\x00a"}, frame{2, ""})
			c.want(text(`452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`), frame{2, ""}, frame{2, "\x00a"})
			c.send(text(`450-["message",1]`)) // none at all
			c.want(text(`42["message-back",1]`))
		}},
		{"event/attachments on polling, over several posts", func(w *world) {
			p := w.poll()
			p.send("40/custom,")
			p.get()
			p.send(`452-/custom,["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
			p.send("bAQ==", "bAg==", `42/custom,["message"]`)
			synctest.Wait()
			p.want("452-/custom,[\"message-back\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]\x1ebAQ==\x1ebAg==\x1e42/custom,[\"message-back\"]")
		}},
		{"ack/the server's, at most once", func(w *world) {
			c := w.ws().connect()
			c.send(text(`42456["message-with-ack",1,"2",{"3":[false]}]`))
			c.want(text(`43456[1,"2",{"3":[false]}]`))
			c.send(text(`420["message-with-ack"]`))
			c.want(text(`430[]`))
		}},
		{"ack/the server's, in a namespace, with attachments", func(w *world) {
			c := w.ws()
			c.connectTo("40/custom", "40/custom,")
			c.send(text(`451-/custom,789["message-with-ack",{"_placeholder":true,"num":0}]`), frame{2, "\x01"})
			c.want(text(`461-/custom,789[{"_placeholder":true,"num":0}]`), frame{2, "\x01"})
		}},
		{"ack/the client's", func(w *world) {
			c := w.ws().connect()
			s := <-w.sockets
			type result struct {
				Values string
				Err    error
			}
			got := make(chan result, 1)
			call := func(ctx context.Context) {
				v, err := s.Call(ctx, "question", 1, []byte{7})
				got <- result{fmt.Sprintf("%s %q", v.Args, v.Attachments), err}
			}
			go call(w.Context())
			c.want(text(`451-0["question",1,{"_placeholder":true,"num":0}]`), frame{2, "\x07"})
			c.send(text(`4399["nobody asked"]`), text(`430["yes",{"a":1}]`), text(`430["again"]`))
			if r := <-got; r != (result{`["yes" {"a":1}] []`, nil}) {
				w.Errorf("got %v", r)
			}
			go call(w.Context())
			c.want(text(`451-1["question",1,{"_placeholder":true,"num":0}]`), frame{2, "\x07"})
			c.send(text(`461-1[{"a":{"_placeholder":true,"num":0}}]`))
			synctest.Wait()
			c.send(frame{2, "\x01"})
			if r := <-got; r != (result{`[{"a":{"_placeholder":true,"num":0}}] ["\x01"]`, nil}) {
				w.Errorf("got %v", r)
			}
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			call(ctx)
			if r := <-got; r.Err != context.DeadlineExceeded {
				w.Errorf("an unanswered call: %v", r)
			}
			go call(w.Context())
			synctest.Wait()
			c.conn.Close()
			if r := <-got; !errors.Is(r.Err, socketio.ErrTransport) {
				w.Errorf("a call whose client is lost: %v", r)
			}
		}},
		{"order/between events, acks and attachments", func(w *world) {
			c := w.ws().connect()
			for i := range 200 {
				switch i % 3 {
				case 0:
					c.send(text(fmt.Sprintf(`42["message",%d]`, i)))
				case 1:
					c.send(text(fmt.Sprintf(`42%d["message-with-ack",%d]`, i, i)))
				case 2:
					c.send(text(fmt.Sprintf(`451-["message",%d,{"_placeholder":true,"num":0}]`, i)), frame{2, "x"})
				}
			}
			for i := range 200 {
				switch i % 3 {
				case 0:
					c.want(text(fmt.Sprintf(`42["message-back",%d]`, i)))
				case 1:
					c.want(text(fmt.Sprintf(`43%d[%d]`, i, i)))
				case 2:
					c.want(text(fmt.Sprintf(`451-["message-back",%d,{"_placeholder":true,"num":0}]`, i)), frame{2, "x"})
				}
			}
		}},
		{"loss/what was sent before it is received before it", func(w *world) {
			c := w.ws().connect()
			c.send(text(`42["a"]`), text(`42["b"]`))
			c.conn.Close()
			w.wantEnd(socketio.ErrTransport, 0)
			if a, b := <-w.names, <-w.names; a != "a" || b != "b" {
				w.Errorf("received %q and %q", a, b)
			}
		}},
		{"loss/every namespace of the connection learns of it", func(w *world) {
			c := w.ws().connect()
			c.connectTo("40/custom", "40/custom,")
			c.send(closing(1001, ""))
			w.wantEnd(io.EOF, 0)
			w.wantEnd(io.EOF, 0)
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) { in(t, nil, tt.f) })
	}
}

// Everything that a client must not send ends its connection, as a parse
// error, on either transport, and nobody else's.
func TestSocketParseErrors(t *testing.T) {
	for _, tt := range []struct {
		why  string
		send []frame
	}{
		{"a message without a packet", []frame{text("4")}},
		{"an unknown packet type", []frame{text("47")}},
		{"no digit", []frame{text("4abc")}},
		{"a CONNECT_ERROR is the server's to send", []frame{text(`44{"message":"x"}`)}},
		{"CONNECT with a string", []frame{text(`40/custom,"abc"`)}},
		{"CONNECT with an array", []frame{text(`40/custom,[]`)}},
		{"CONNECT with more auth than a socket keeps", []frame{text(`40/custom,{"a":"` + strings.Repeat("x", 64<<10) + `"}`)}},
		{"CONNECT with half an object", []frame{text(`40/custom,{"a"`)}},
		{"DISCONNECT with data", []frame{text(`41{}`)}},
		{"an event of a namespace that is not connected", []frame{text(`42/custom,["message"]`)}},
		{"an ack of a namespace that is not connected", []frame{text(`43/custom,1[]`)}},
		{"a DISCONNECT of a namespace that is not connected", []frame{text(`41/custom,`)}},
		{"an event without data", []frame{text(`42`)}},
		{"an event with an id only", []frame{text(`421`)}},
		{"an event with an object", []frame{text(`42{}`)}},
		{"an event with a string", []frame{text(`42"message"`)}},
		{"an event with an empty array", []frame{text(`42[]`)}},
		{"an event named by a number", []frame{text(`42[1]`)}},
		{"an event named by null", []frame{text(`42[null]`)}},
		{"half an array", []frame{text(`42["message"`)}},
		{"something after the array", []frame{text(`42["message"]]`)}},
		{"JSON with a comma too many", []frame{text(`42["message",]`)}},
		{"a raw control character", []frame{text("42[\"a\tb\"]")}},
		{"nesting without end", []frame{text(`42["message",` + strings.Repeat("[", 100000))}},
		{"an id that scripts can't count to", []frame{text(`429007199254740992["message"]`)}},
		{"an endless id", []frame{text(`42` + strings.Repeat("1", 1000) + `["message"]`)}},
		{"an ack without an id", []frame{text(`43[]`)}},
		{"an ack with an object", []frame{text(`431{}`)}},
		{"a reserved name", []frame{text(`42["connect"]`)}},
		{"a reserved name", []frame{text(`42["connect_error"]`)}},
		{"a reserved name", []frame{text(`42["disconnect"]`)}},
		{"a reserved name", []frame{text(`42["disconnecting"]`)}},
		{"a reserved name", []frame{text(`42["newListener"]`)}},
		{"a reserved name", []frame{text(`42["removeListener"]`)}},
		{"a reserved name in disguise", []frame{text(`42["\u0063onnect"]`)}},
		{"attachments without a number", []frame{text(`45-["message"]`)}},
		{"attachments without a dash", []frame{text(`451["message"]`)}},
		{"attachments beyond the cap", []frame{text(`4511-["message"]`)}},
		{"attachments beyond any number", []frame{text(`4599999999999999999999-["message"]`)}},
		{"a negative number of attachments", []frame{text(`45-1-["message"]`)}},
		{"a placeholder of no attachment", []frame{text(`451-["message",{"_placeholder":true,"num":1}]`)}},
		{"a placeholder with a negative number", []frame{text(`451-["message",{"_placeholder":true,"num":-1}]`)}},
		{"a placeholder with half a number", []frame{text(`451-["message",{"a":[{"_placeholder":true,"num":0.5}]}]`)}},
		{"a placeholder with a string", []frame{text(`451-["message",{"_placeholder":true,"num":"0"}]`)}},
		{"text where an attachment is due", []frame{text(`451-["message",{"_placeholder":true,"num":0}]`), text(`42["message"]`)}},
		{"an attachment that no packet asked for", []frame{{2, "abc"}}},
		{"an attachment too many", []frame{text(`451-["x",{"_placeholder":true,"num":0}]`), {2, "a"}, {2, "b"}}},
	} {
		in(t, nil, func(w *world) {
			bystander := w.ws().connect()
			c := w.ws().connect()
			c.send(tt.send...)
			w.wantEnd(socketio.ErrParse, 0)
			c.closed(1008)
			if w.Failed() {
				w.Fatalf("%s, on a websocket", tt.why)
			}

			p := w.poll().connect()
			var packets []string
			for _, f := range tt.send {
				if f.Op == 2 {
					packets = append(packets, "bAAAA")
				} else {
					packets = append(packets, f.Payload)
				}
			}
			if r := p.post(strings.Join(packets, "\x1e")); r != refusal(3) {
				w.Errorf("posting got %v", r)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p.gone()
			if w.Failed() {
				w.Fatalf("%s, on polling", tt.why)
			}
			bystander.send(text(`42["message"]`))
			bystander.want(text(`42["message-back"]`))
		})
	}
	// The same before any namespace is connected.
	in(t, nil, func(w *world) {
		for _, send := range []string{`42["message"]`, "41", "431[]"} {
			c := w.ws()
			c.send(text(send))
			c.closed(1008)
		}
	})
}

func TestAckErrors(t *testing.T) {
	inWith(t, nil, newHTTP(), func(w *world, s *socketio.Socket) {
		a, _ := s.Receive()
		b, _ := s.Receive()
		for _, err := range []error{a.Ack(), b.Ack(1), b.Ack(2), s.Emit("disconnect")} {
			w.ends <- err
		}
	}, func(w *world) {
		c := w.ws().connect()
		c.send(text(`42["a"]`), text(`427["b"]`))
		c.want(text(`437[1]`), text("41")) // the handler has returned
		for i, want := range []error{socketio.ErrNoAck, nil, socketio.ErrAcked, socketio.ErrReserved} {
			if !errors.Is(w.ended(), want) {
				t.Errorf("error %d is not %v", i, want)
			}
		}
	})
}
