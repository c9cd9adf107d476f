package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// What comes can be read into Go's values, or the error says what is wrong.
func TestDecode(t *testing.T) {
	v := socketio.Values{
		Args: []json.RawMessage{
			json.RawMessage(`"ann"`), json.RawMessage(`7`), json.RawMessage(`{"_placeholder":true,"num":0}`), json.RawMessage(`{"a":[1]}`),
			json.RawMessage(`{"_placeholder":true,"num":1}`),
		},
		Attachments: [][]byte{{1, 2}},
	}
	var name string
	var n int
	var b []byte
	var object map[string][]int
	if err := v.Decode(&name, &n, &b, &object); err != nil || name != "ann" || n != 7 || string(b) != "\x01\x02" || object["a"][0] != 1 {
		t.Errorf("%q, %d, %v, %v, %v", name, n, b, object, err)
	}
	n = 0
	if err := v.Decode(nil, &n); err != nil || n != 7 {
		t.Errorf("passing over the first: %d, %v", n, err)
	}
	if err := v.Decode(); err != nil {
		t.Errorf("nothing: %v", err)
	}
	for _, tt := range []struct {
		why string
		dst []any
	}{
		{"a string is no number", []any{&n}},
		{"a string is not binary", []any{&b}},
		{"binary is no object", []any{nil, nil, &object}},
		{"a placeholder of no attachment is not binary", []any{nil, nil, nil, nil, &b}},
		{"there is no sixth", []any{nil, nil, nil, nil, nil, nil}},
		{"what is not pointed to can't be set", []any{7}},
	} {
		if err := v.Decode(tt.dst...); !errors.Is(err, socketio.ErrValue) {
			t.Errorf("%s: %v", tt.why, err)
		}
	}
	var typeErr *json.UnmarshalTypeError
	if err := v.Decode(&n); !errors.As(err, &typeErr) {
		t.Errorf("json's error can't be got at: %v", err)
	}
}

// Arguments encode as package json says, whether that was asked or not.
func TestAppendEventValues(t *testing.T) {
	type own struct {
		A string `json:"a"`
	}
	for _, a := range []any{
		nil, true, false, 0, -7, math.MaxInt64, int64(math.MinInt64), uint64(math.MaxUint64), 1.5, "", "plain ~!", `"`, `\`, "<", "&", ">", "\n\x00\x1e\x7f", "é\u2028😀",
		"\xff", own{"x<"}, []int{1}, map[string]any{"b": nil}, json.RawMessage(` {"c" : 1 } `), json.Number("12"), time.Second, [2]byte{1, 2},
	} {
		want, err := json.Marshal([]any{"e", a, a})
		if err != nil {
			t.Fatal(err)
		}
		got, err := socketio.AppendEvent(nil, socketio.Polling, "", "e", a, a)
		if err != nil || string(got) != "42"+string(want)+"\x1e" {
			t.Errorf("%#v became %q, %v; want %q", a, got, err, want)
		}
	}
}

// Values that came can be sent on as they are, with binary at any depth.
func TestValuesAsTheyCame(t *testing.T) {
	inWith(t, nil, newHTTP(), func(w *world, s *socketio.Socket) {
		for {
			e, err := s.Receive()
			if err != nil {
				return
			}
			if e.WantsAck() {
				err = e.Ack(e.Values)
			} else {
				err = s.Emit("back", e.Values)
			}
			if err != nil {
				w.Errorf("answering: %v", err)
			}
		}
	}, func(w *world) {
		c := w.ws().connect()
		for _, fs := range [][]frame{
			{text(`42["back"]`)},
			{text(`42["back",1,"<b>",{"_placeholder":true,"num":0}]`)},
			{text(`451-["back",{"file":{"_placeholder":true,"num":0},"n":1}]`), {2, "\x01"}},
			{text(`452-["back",[{"a":{"_placeholder":true,"num":1}}],{"_placeholder":true,"num":0},7]`), {2, "\x01"}, {2, "\xff"}},
		} {
			c.send(fs...)
			f := c.next()
			f.Payload = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(f.Payload) // the same in JSON
			if f != fs[0] {
				w.Errorf("got %v, want %v", f, fs[0])
			}
			c.want(fs[1:]...)
		}
		c.send(text(`451-5["x",{"file":{"_placeholder":true,"num":0}}]`), frame{2, "\x01"})
		c.want(text(`461-5[{"file":{"_placeholder":true,"num":0}}]`), frame{2, "\x01"})
	})
	for _, args := range [][]any{{socketio.Values{}, 1}, {[]byte("a"), socketio.Values{}}, {socketio.Values{}, socketio.Values{}}} {
		if b, err := socketio.AppendEvent([]byte("kept"), socketio.Polling, "/", "e", args...); !errors.Is(err, socketio.ErrValue) || string(b) != "kept" {
			t.Errorf("%v: %q, %v", args, b, err)
		}
	}
	bad := socketio.Values{Args: []json.RawMessage{json.RawMessage(`[`)}}
	if _, err := socketio.AppendEvent(nil, socketio.Polling, "/", "e", bad); err == nil {
		t.Error("half an array was sent on")
	}
}

// TestCall holds Socket.Call to what it says, with Socket.IO protocol 5,
// "Acknowledgement".
func TestCall(t *testing.T) {
	type result struct {
		Values string
		Err    error
	}
	call := func(ctx context.Context, s *socketio.Socket) <-chan result {
		got := make(chan result, 1)
		go func() {
			v, err := s.Call(ctx, "q")
			got <- result{fmt.Sprintf("%s %q", v.Args, v.Attachments), err}
		}()
		synctest.Wait()
		return got
	}
	const nothing = "[] []"
	for _, tt := range []struct {
		clause string
		f      func(w *world, c *wsClient, s *socketio.Socket)
	}{
		{"cancelled while it waits, and the answer that comes later is nobody's", func(w *world, c *wsClient, s *socketio.Socket) {
			ctx, cancel := context.WithCancel(w.Context())
			got := call(ctx, s)
			c.want(text(`420["q"]`))
			cancel()
			if r := <-got; r != (result{nothing, context.Canceled}) {
				w.Errorf("got %v", r)
			}
			next := call(w.Context(), s)
			c.want(text(`421["q"]`))
			c.send(text(`430["late"]`), text(`431["in time"]`))
			if r := <-next; r != (result{`["in time"] []`, nil}) {
				w.Errorf("the next got %v", r)
			}
		}},
		{"cancelled before: nothing is sent", func(w *world, c *wsClient, s *socketio.Socket) {
			ctx, cancel := context.WithCancel(w.Context())
			cancel()
			if r := <-call(ctx, s); r != (result{nothing, context.Canceled}) {
				w.Errorf("got %v", r)
			}
			c.nothing()
		}},
		{"answers may come in any order, each once", func(w *world, c *wsClient, s *socketio.Socket) {
			a, b := call(w.Context(), s), call(w.Context(), s)
			c.want(text(`420["q"]`), text(`421["q"]`))
			c.send(text(`431["b"]`), text(`431["b again"]`), text(`430["a"]`))
			if r := <-a; r != (result{`["a"] []`, nil}) {
				w.Errorf("the first got %v", r)
			}
			if r := <-b; r != (result{`["b"] []`, nil}) {
				w.Errorf("the second got %v", r)
			}
		}},
		{"answered twice at once", func(w *world, _ *wsClient, _ *socketio.Socket) {
			p := w.poll().connect()
			s := <-w.sockets
			for i := range 100 { // whether the call has returned in between is up to the scheduler
				got := call(w.Context(), s)
				p.want(fmt.Sprintf(`42%d["q"]`, i))
				answer := fmt.Sprintf(`43%d["a"]`, i)
				p.send(answer, answer, answer)
				if r := <-got; r != (result{`["a"] []`, nil}) {
					w.Errorf("got %v", r)
				}
			}
		}},
		{"an answer of another namespace is another's", func(w *world, c *wsClient, s *socketio.Socket) {
			c.connectTo("40/custom", "40/custom,")
			got := call(w.Context(), s)
			c.want(text(`420["q"]`))
			c.send(text(`43/custom,0["no"]`), text(`430["yes"]`))
			if r := <-got; r != (result{`["yes"] []`, nil}) {
				w.Errorf("got %v", r)
			}
		}},
		{"the socket's end ends it", func(w *world, c *wsClient, s *socketio.Socket) {
			got := call(w.Context(), s)
			s.Disconnect(false)
			if r := <-got; r != (result{nothing, socketio.ErrDisconnected}) {
				w.Errorf("got %v", r)
			}
			if r := <-call(w.Context(), s); r != (result{nothing, socketio.ErrDisconnected}) {
				w.Errorf("after the end: %v", r)
			}
		}},
		{"at most MaxCalls at a time", func(w *world, c *wsClient, s *socketio.Socket) {
			a, b := call(w.Context(), s), call(w.Context(), s)
			if r := <-call(w.Context(), s); r != (result{nothing, socketio.ErrCalls}) {
				w.Errorf("a third got %v", r)
			}
			c.want(text(`420["q"]`), text(`421["q"]`))
			c.send(text(`430[]`))
			<-a
			third := call(w.Context(), s)
			c.want(text(`422["q"]`))
			c.send(text(`432[]`), text(`431[]`))
			<-b
			<-third
		}},
		{"a name that the protocol keeps is an error, and no call", func(w *world, c *wsClient, s *socketio.Socket) {
			for range 5 {
				if _, err := s.Call(w.Context(), "connect"); !errors.Is(err, socketio.ErrReserved) {
					w.Errorf("got %v", err)
				}
			}
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			in(t, &socketio.Options{MaxCalls: 2}, func(w *world) {
				c := w.ws().connect()
				tt.f(w, c, <-w.sockets)
			})
		})
	}
}
