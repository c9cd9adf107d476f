package socketio_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// An event of very many arguments costs far more memory than its bytes: it ends the connection that sent it. Commas
// within an argument do not count.
func TestTooManyArguments(t *testing.T) {
	for _, tt := range []struct {
		why  string
		args string
		ok   bool
	}{
		{"as many as there may be", `"e"` + strings.Repeat(",0", 255), true},
		{"one more", `"e"` + strings.Repeat(",0", 256), false},
		{"one argument with many elements", `"e",[0` + strings.Repeat(",0", 1000) + `],{"a":"` + strings.Repeat(`,\"`, 1000) + `"}`, true},
	} {
		in(t, nil, func(w *world) {
			want := response{200, "ok"}
			if !tt.ok {
				want = refusal(3)
			}
			if got := w.poll().connect().post("42[" + tt.args + "]"); got != want {
				w.Errorf("%s: %v, want %v", tt.why, got, want)
			}
		})
	}
}

// An event that waits keeps itself in memory, not the body that it came in.
func TestWaitingEventKeepsItselfOnly(t *testing.T) {
	const n = 200
	inWith(t, nil, newHTTP(), hold, func(w *world) {
		p := w.poll().connect()
		<-w.sockets
		padding := strings.Repeat("3\x1e", 50_000) // pongs
		before := takeBaseline()
		for i := range n {
			p.send(padding+fmt.Sprintf(`42["e",%d]`, i), "3")
		}
		after := takeBaseline()
		if left := int64(after.heap) - int64(before.heap); left > n*4096 {
			t.Errorf("%d bytes are kept for %d small events", left, n)
		}
		close(w.next)
	})
}

// The attachments of one packet are bounded together, however many there may be
// and however large each may be.
func TestAttachmentsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		why   string
		sizes []int
		ok    bool
	}{
		{"as much as there may be, and one taken whole", []int{500, 400, 900}, true},
		{"one more", []int{500, 400, 900, 1}, false},
		{"one that is larger by itself", []int{5000}, true},
	} {
		in(t, &socketio.Options{MaxUnread: 1000}, func(w *world) {
			head := fmt.Sprintf(`45%d-["x"]`, len(tt.sizes))
			c := w.ws().connect()
			c.send(text(head))
			p := w.poll().connect()
			p.send(head)
			want := ok
			for i, n := range tt.sizes {
				c.send(frame{2, strings.Repeat("a", n)})
				if i == len(tt.sizes)-1 && !tt.ok {
					want = response{413, `{"code":3,"message":"payload too large"}`}
				}
				if got := p.post("b" + strings.Repeat("YWFh", n/3)); got != want {
					w.Errorf("%s: posting attachment %d got %v", tt.why, i, got)
				}
			}
			synctest.Wait()
			if tt.ok {
				if len(w.names) != 2 || len(w.ends) != 0 {
					w.Errorf("%s: %d events, %d ends", tt.why, len(w.names), len(w.ends))
				}
				return
			}
			w.wantEnd(socketio.ErrTooBig, 0)
			w.wantEnd(socketio.ErrTooBig, 0)
			c.closed(1009)
			p.gone()
		})
	}
}

// What waits for Receive is bounded for a connection, not for each of its
// namespaces; and what a handler left behind does not count.
func TestUnreadIsOneBoundForAll(t *testing.T) {
	inWith(t, &socketio.Options{MaxUnread: 1000, PingInterval: time.Hour}, newHTTP(), func(w *world, s *socketio.Socket) {
		w.sockets <- s
		if s.Namespace() == "/custom" {
			<-w.next // receives nothing, and returns
			return
		}
		w.echo(s)
	}, func(w *world) {
		c := w.ws().connect()
		c.connectTo("40/custom", "40/custom,")
		for range 13 {
			c.send(text(`42/custom,["a"]`)) // each counts for 79 bytes
		}
		c.send(text(`42["message"]`))
		time.Sleep(time.Minute)
		c.nothing()
		close(w.next)
		got := []string{c.next().Payload, c.next().Payload} // in either order: they are two namespaces'
		slices.Sort(got)
		if want := []string{"41/custom,", `42["message-back"]`}; !slices.Equal(got, want) {
			w.Errorf("got %q, want %q", got, want)
		}
	})
	// A goodbye, and events that its handler did not receive: the rest goes on.
	inWith(t, &socketio.Options{MaxUnread: 1000, PingInterval: time.Hour}, newHTTP(), func(w *world, s *socketio.Socket) {
		if s.Namespace() == "/custom" {
			<-w.next
			return
		}
		w.echo(s)
	}, func(w *world) {
		c := w.ws().connect()
		c.connectTo("40/custom", "40/custom,")
		for range 13 {
			c.send(text(`42/custom,["a"]`))
		}
		c.send(text("41/custom,"))
		synctest.Wait()
		close(w.next)
		for i := range 20 {
			c.send(text(fmt.Sprintf(`42["message",%d]`, i)))
			c.want(text(fmt.Sprintf(`42["message-back",%d]`, i)))
		}
	})
}

// AllowedOrigins "*" is every page, also one of no origin that has a name.
func TestAnyOriginIsAny(t *testing.T) {
	srv := socketio.NewServer(&socketio.Options{AllowedOrigins: []string{"*"}})
	defer srv.Close()
	r := httptest.NewRequest(http.MethodGet, "/socket.io/?EIO=4&transport=polling", nil)
	r.Header.Set("Origin", "null")
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("%d %s, allowed %q", w.Code, w.Body, w.Header().Get("Access-Control-Allow-Origin"))
	}
}

// Nothing is no packet: a poll goes on hanging when nothing is written, as a WebSocket stays silent.
func TestNothingIsNotSent(t *testing.T) {
	inWith(t, nil, &http.Server{}, func(w *world, s *socketio.Socket) {
		w.sockets <- s
		_, _ = s.Receive() // its end
	}, func(w *world) {
		c := w.poll().connect()
		sock := <-w.sockets
		for _, enc := range []socketio.Encoding{socketio.Polling, socketio.WebSocket} {
			answer := make(chan response)
			go func() { answer <- c.get() }()
			synctest.Wait()
			if err := sock.WriteEncoded(enc, nil); err != nil {
				w.Error(err)
			}
			if err := sock.Emit("x"); err != nil {
				w.Error(err)
			}
			if got, want := <-answer, (response{200, `42["x"]`}); got != want {
				w.Errorf("%v: the poll is answered %v, want %v", enc, got, want)
			}
		}
	})
}
