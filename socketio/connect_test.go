package socketio_test

import (
	"context"
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

// A gate is a Connect hook that shows what it is asked and waits to be told what
// to answer.
type gate struct {
	asked  chan *socketio.ConnectRequest
	answer chan verdict
	over   chan error // its context's error, if that ended first
}

type verdict struct {
	grant socketio.Grant
	err   error
}

func newGate() *gate {
	return &gate{make(chan *socketio.ConnectRequest, 100), make(chan verdict, 100), make(chan error, 100)}
}

func (g *gate) connect(ctx context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
	g.asked <- r
	select {
	case v := <-g.answer:
		return v.grant, v.err
	case <-ctx.Done():
		g.over <- ctx.Err()
		return socketio.Grant{}, ctx.Err()
	}
}

// TestConnectHook holds Options.Connect to what it says, on top of Socket.IO
// protocol 5, "Connection to a namespace", and of connection state recovery as
// the official client asks for it.
func TestConnectHook(t *testing.T) {
	for _, tt := range []struct {
		clause string
		f      func(w *world, g *gate)
	}{
		{"request/shows what the client sent", func(w *world, g *gate) {
			c := w.ws()
			c.send(text(`40/custom,{"token":1,"pid":"p","offset":"7"}`))
			r := <-g.asked
			got := []string{r.Namespace, string(r.Auth), r.PID, r.Offset, r.Request.URL.Query().Get("transport")}
			want := []string{"/custom", `{"token":1,"pid":"p","offset":"7"}`, "p", "7", "websocket"}
			if d := cmp.Diff(want, got); d != "" {
				w.Errorf("asked (-want +got):\n%s", d)
			}
		}},
		{"request/pid and offset are strings or empty", func(w *world, g *gate) {
			for _, tt := range []struct{ auth, pid, offset string }{
				{``, "", ""},
				{`{}`, "", ""},
				{`{"pid":7,"offset":"1"}`, "", ""},
				{`{"pid":["a"],"offset":{}}`, "", ""},
				{`{"pid":null,"offset":null}`, "", ""},
				{`{"PID":"a","Offset":"1"}`, "", ""},
				{`{"pid":"a"}`, "a", ""},
				{`{"pid":"a","offset":5}`, "a", ""},
				{`{"pid":"a\u00e9","offset":"\u0000"}`, "aé", "\x00"},
			} {
				w.ws().send(text("40" + tt.auth))
				if r := <-g.asked; r.PID != tt.pid || r.Offset != tt.offset {
					w.Errorf("%s: pid %q, offset %q", tt.auth, r.PID, r.Offset)
				}
			}
		}},
		{"request/none for a namespace without a handler", func(w *world, g *gate) {
			c := w.ws()
			c.send(text("40/random"))
			c.want(text(`44/random,{"message":"Invalid namespace"}`))
			if len(g.asked) > 0 {
				w.Errorf("asked for %s", (<-g.asked).Namespace)
			}
		}},
		{"grant/sid and pid are told, and the socket shows them", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{grant: socketio.Grant{SID: "s\"1", PID: "p<1", Value: 7}}
			c.send(text("40"))
			c.want(text(`40{"sid":"s\"1","pid":"p\u003c1"}`))
			s := <-w.sockets
			if s.ID() != `s"1` || s.PID() != "p<1" || s.Value() != 7 || s.Recovered() {
				w.Errorf("id %q, pid %q, value %v, recovered %v", s.ID(), s.PID(), s.Value(), s.Recovered())
			}
			c.send(text("40")) // asked again, told the same
			c.want(text(`40{"sid":"s\"1","pid":"p\u003c1"}`))
		}},
		{"grant/the zero value is a new socket without recovery", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{}
			id := c.connectTo("40", "40")
			s := <-w.sockets
			if s.ID() != id || len(id) < 20 || s.PID() != "" || s.Value() != nil || s.Recovered() {
				w.Errorf("told %q; id %q, pid %q, value %v, recovered %v", id, s.ID(), s.PID(), s.Value(), s.Recovered())
			}
		}},
		{"recovery/is the same pid, and no other", func(w *world, g *gate) {
			for _, tt := range []struct {
				auth, pid string
				want      bool
			}{
				{`{"pid":"a","offset":"1"}`, "a", true},
				{`{"pid":"a"}`, "a", true},
				{`{"pid":"a"}`, "b", false},
				{`{"pid":"a"}`, "", false},
				{`{"pid":""}`, "", false},
				{``, "a", false},
			} {
				c := w.ws()
				g.answer <- verdict{grant: socketio.Grant{PID: tt.pid}}
				c.connectTo("40"+tt.auth, "40")
				if s := <-w.sockets; s.Recovered() != tt.want {
					w.Errorf("asked with %s, granted %q: recovered %v", tt.auth, tt.pid, s.Recovered())
				}
			}
		}},
		{"refusal/with a message and data", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{err: fmt.Errorf("wrapped: %w", &socketio.ConnectError{Message: "not authorized", Data: map[string]int{"code": 401}})}
			c.send(text(`40/custom,{"token":"x"}`))
			c.want(text(`44/custom,{"message":"not authorized","data":{"code":401}}`))
			if len(w.sockets) > 0 {
				w.Error("its handler was started")
			}
		}},
		{"refusal/data is left out where there is none, or no JSON", func(w *world, g *gate) {
			for _, data := range []any{nil, make(chan int), func() {}} {
				c := w.ws()
				g.answer <- verdict{err: &socketio.ConnectError{Message: "no", Data: data}}
				c.send(text("40"))
				c.want(text(`44{"message":"no"}`))
			}
		}},
		{"refusal/another error's text is not the client's business", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{err: errors.New("the password of the database is wrong")}
			c.send(text("40"))
			c.want(text(`44{"message":"refused"}`))
		}},
		{"refusal/leaves the connection, and the client may ask again", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{}
			c.connectTo("40", "40")
			g.answer <- verdict{err: &socketio.ConnectError{Message: "no"}}
			c.send(text("40/custom,"))
			c.want(text(`44/custom,{"message":"no"}`))
			c.send(text(`42/custom,["late"]`), text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))
			g.answer <- verdict{}
			c.connectTo("40/custom,", "40/custom,")
		}},
		{"refusal/is no namespace: the connection ends after connectTimeout", func(w *world, g *gate) {
			start := time.Now()
			c := w.ws()
			for range 4 {
				g.answer <- verdict{err: &socketio.ConnectError{Message: "no"}}
				c.send(text("40"))
				c.want(text(`44{"message":"no"}`))
				time.Sleep(5 * time.Second)
			}
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
		}},
		{"refusal/does not count as a namespace left", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{err: &socketio.ConnectError{Message: "no"}}
			c.send(text("40"))
			c.want(text(`44{"message":"no"}`))
			g.answer <- verdict{}
			c.connectTo("40", "40")
			c.send(text("41"))
			start := time.Now()
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("in no namespace: ended after %v", d)
			}
		}},
		{"waiting/packets of the namespace come after the answer, others go on", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{}
			c.connectTo("40/custom,", "40/custom,")
			c.send(text("40"), text(`42["message",1]`), text(`421["message-with-ack",2]`), text(`42/custom,["message",0]`))
			c.want(text(`42/custom,["message-back",0]`))
			c.want(text("2"))
			c.send(text("3"))
			c.nothing()
			g.answer <- verdict{grant: socketio.Grant{SID: "s"}}
			c.want(text(`40{"sid":"s"}`), text(`42["message-back",1]`), text(`431[2]`))
		}},
		{"waiting/on polling too", func(w *world, g *gate) {
			p := w.poll()
			p.send("40", `42["message",1]`)
			hanging := p.hang()
			g.answer <- verdict{grant: socketio.Grant{SID: "s"}}
			if r := <-hanging; r.Body != `40{"sid":"s"}` {
				w.Errorf("the hanging poll got %v", r)
			}
			p.want(`42["message-back",1]`)
		}},
		{"waiting/a second CONNECT is answered along with the first", func(w *world, g *gate) {
			c := w.ws()
			c.send(text("40"), text("40"))
			synctest.Wait()
			g.answer <- verdict{grant: socketio.Grant{SID: "s"}}
			c.want(text(`40{"sid":"s"}`))
			c.nothing()
			if len(g.asked) != 1 {
				w.Errorf("asked %d times", len(g.asked))
			}
		}},
		{"waiting/at most connectTimeout, then refused and connected to the rest", func(w *world, g *gate) {
			c := w.ws()
			g.answer <- verdict{}
			c.connectTo("40/custom,", "40/custom,")
			start := time.Now()
			c.send(text("40"))
			c.want(text("2"))
			c.send(text("3"))
			c.want(text(`44{"message":"timeout"}`))
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
			if err := <-g.over; err != context.Canceled {
				w.Errorf("the hook's context: %v", err)
			}
			c.send(text(`42/custom,["message",0]`))
			c.want(text(`42/custom,["message-back",0]`))
			if len(w.sockets) > 1 {
				w.Error("its handler was started")
			}
		}},
		{"waiting/without another namespace the connection ends", func(w *world, g *gate) {
			start := time.Now()
			c := w.ws()
			time.Sleep(time.Second)
			c.send(text("40"))
			c.want(text("2"))
			c.send(text("3"))
			c.closed(1008)
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("after %v", d)
			}
			<-g.over
		}},
		{"waiting/a client that leaves or is lost ends it", func(w *world, g *gate) {
			for _, leave := range []func(c *wsClient){
				func(c *wsClient) { c.send(text("41")) },
				func(c *wsClient) { c.conn.Close() },
				func(c *wsClient) { c.send(text("nonsense")) },
			} {
				c := w.ws()
				c.send(text("40"))
				<-g.asked
				leave(c)
				if err := <-g.over; err != context.Canceled {
					w.Errorf("the hook's context: %v", err)
				}
				c.conn.Close()
			}
			if len(w.sockets) > 0 {
				w.Error("a handler was started")
			}
		}},
		{"waiting/the server's end ends it", func(w *world, g *gate) {
			c := w.ws()
			c.send(text("40"))
			<-g.asked
			go w.srv.Close()
			<-g.over
			c.closed(1001)
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			var g *gate
			in(t, &socketio.Options{Connect: func(ctx context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
				return g.connect(ctx, r)
			}}, func(w *world) {
				g = newGate() // channels of the bubble
				tt.f(w, g)
			})
		})
	}
}

// A grant that comes when the client has left, was refused for taking too long,
// or is lost, is nobody's.
func TestLateGrant(t *testing.T) {
	for _, tt := range []struct {
		why  string
		end  func(c *wsClient)
		want []frame // behind it
	}{
		{"left", func(c *wsClient) { c.send(text("41")) }, nil},
		{"lost", func(c *wsClient) { c.conn.Close() }, nil},
		{"too late", func(*wsClient) { time.Sleep(time.Second) }, []frame{text(`44{"message":"timeout"}`)}},
	} {
		var g *gate
		o := &socketio.Options{ConnectTimeout: time.Second, Connect: func(_ context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
			if r.Namespace == "/" {
				<-g.answer
			}
			return socketio.Grant{SID: "s"}, nil
		}}
		in(t, o, func(w *world) {
			g = newGate()
			c := w.ws()
			c.connectTo("40/custom,", "40/custom,")
			<-w.sockets
			c.send(text("40"), text(`42["message"]`))
			synctest.Wait()
			tt.end(c)
			synctest.Wait()
			g.answer <- verdict{}
			c.want(tt.want...)
			synctest.Wait()
			if len(w.sockets) > 0 {
				w.Errorf("%s: its handler was started", tt.why)
			}
			if tt.why != "lost" {
				c.nothing()
				g.answer <- verdict{}
				c.send(text("40")) // and another try is another
				c.want(text(`40{"sid":"s"}`))
			}
		})
	}
}

// What a handler writes first comes right behind the answer to the CONNECT:
// that is how what was missed is replayed.
func TestReplayIsFirst(t *testing.T) {
	o := &socketio.Options{Connect: func(_ context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
		return socketio.Grant{SID: "s", PID: r.PID, Value: r.Offset}, nil
	}}
	missed := []string{"a", "b", "c", "d"}
	inWith(t, o, newHTTP(), func(w *world, s *socketio.Socket) {
		w.sockets <- s
		for i, e := range missed {
			if offset := fmt.Sprint(i + 1); offset > s.Value().(string) {
				if err := s.Emit(e, offset); err != nil {
					w.Errorf("Emit: %v", err)
				}
			}
		}
		w.echo(s)
	}, func(w *world) {
		c := w.ws()
		c.send(text(`40{"pid":"p","offset":"2"}`), text(`42["message",1]`))
		c.want(text(`40{"sid":"s","pid":"p"}`), text(`42["c","3"]`), text(`42["d","4"]`))
		if s := <-w.sockets; !s.Recovered() {
			w.Error("not recovered")
		}
		p := w.poll()
		p.send(`40{"pid":"p","offset":"3"}`, `42["message",1]`)
		synctest.Wait()
		if r := p.get(); !strings.HasPrefix(r.Body, "40{\"sid\":\"s\",\"pid\":\"p\"}\x1e42[\"d\",\"4\"]\x1e") {
			w.Errorf("polled %q", r.Body)
		}
	})
}

// Each CONNECT costs what a program keeps for a socket, so a client can't have
// that anew as often as it likes.
func TestConnectFlood(t *testing.T) {
	flood := func(n int) []string {
		var packets []string
		for i := range n {
			packets = append(packets, []string{"40", "41"}[i%2])
		}
		return packets
	}
	for _, tt := range []struct {
		why   string
		limit int
		send  []string
		ok    bool
	}{
		{"as many as there may be", 5, flood(10), true},
		{"one more", 5, flood(11), false},
		{"the default", 0, flood(121), false},
		{"no limit", -1, flood(2000), true},
		{"to a namespace that there is not", 5, strings.Split(strings.Repeat("40/x ", 5)+"40/x", " "), false},
		{"twice to the same", 5, strings.Split(strings.Repeat("40 ", 5)+"40", " "), false},
	} {
		in(t, &socketio.Options{MaxConnects: tt.limit}, func(w *world) {
			go func() {
				for range w.sockets {
				}
			}()
			defer close(w.sockets)
			go func() {
				for range w.ends {
				}
			}()
			defer close(w.ends)
			defer w.srv.Close()
			bystander := w.ws().connect()
			p := w.poll()
			want := ok
			if !tt.ok {
				want = refusal(3)
			}
			if got := p.post(strings.Join(tt.send, "\x1e")); got != want {
				w.Errorf("%s: posting got %v", tt.why, got)
			}
			if !tt.ok {
				p.gone()
				c := w.ws()
				go func() {
					for _, s := range tt.send {
						c.send(text(s))
					}
				}()
				for f := c.next(); f != (frame{}); f = c.next() {
					if f.Op == 8 && f.Payload[:2] != "\x03\xf0" { // 1008
						w.Errorf("%s: closed with %q", tt.why, f.Payload)
					}
				}
			}
			bystander.send(text(`42["message"]`))
			bystander.want(text(`42["message-back"]`))
		})
	}
	// What was used up comes back, evenly.
	inWith(t, &socketio.Options{MaxConnects: 6, PingInterval: time.Hour}, newHTTP(), func(w *world, s *socketio.Socket) {
		_, err := s.Receive()
		w.ends <- err
	}, func(w *world) {
		c := w.ws()
		for range 6 {
			c.connect()
			c.send(text("41"))
			w.wantEnd(io.EOF, 0)
		}
		for range 20 {
			time.Sleep(10 * time.Second)
			c.connect()
			c.send(text("41"))
			w.wantEnd(io.EOF, 0)
		}
		time.Sleep(10*time.Second - 1)
		c.send(text("40"))
		c.closed(1008)
	})
	inWith(t, &socketio.Options{MaxConnects: 1}, newHTTP(), hold, func(w *world) {
		c := w.ws().connect()
		s := <-w.sockets
		c.send(text("40"))
		synctest.Wait()
		if err := s.Emit("x"); !errors.Is(err, socketio.ErrTooMany) {
			w.Errorf("Emit: %v", err)
		}
		close(w.next)
	})
}

// A client is in so many namespaces at a time, and may leave one for another.
func TestNamespacesAtATime(t *testing.T) {
	in(t, &socketio.Options{MaxNamespaces: 1}, func(w *world) {
		c := w.ws().connect()
		c.send(text("40/custom,"))
		c.want(text(`44/custom,{"message":"too many namespaces"}`))
		c.send(text(`42["message",1]`))
		c.want(text(`42["message-back",1]`))
		c.send(text("41"))
		c.connectTo("40/custom,", "40/custom,")
	})
	// Those that the program has not answered for count.
	in(t, &socketio.Options{MaxNamespaces: 1, Connect: func(ctx context.Context, _ *socketio.ConnectRequest) (socketio.Grant, error) {
		<-ctx.Done()
		return socketio.Grant{}, ctx.Err()
	}}, func(w *world) {
		c := w.ws()
		c.send(text("40"), text("40/custom,"))
		c.want(text(`44/custom,{"message":"too many namespaces"}`))
	})
}
