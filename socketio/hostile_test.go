package socketio_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

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
