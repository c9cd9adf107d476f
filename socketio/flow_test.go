package socketio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

func newHTTP() *http.Server { return &http.Server{} }

// hold is a handler that receives only when told to.
func hold(w *world, s *socketio.Socket) {
	w.sockets <- s
	for range w.next {
		e, err := s.Receive()
		if err != nil {
			w.ends <- err
			return
		}
		w.names <- e.Name
	}
}

// A write blocks while MaxUnread bytes wait for the next poll, and goes on with
// it: what is kept for a client is bounded, and it gets everything in order.
func TestWriteBlocksOnPolling(t *testing.T) {
	in(t, &socketio.Options{MaxUnread: 100}, func(w *world) {
		p := w.poll().connect()
		s := <-w.sockets
		var sent atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 1000 {
				if err := s.Emit("n", i); err != nil {
					w.Errorf("Emit: %v", err)
					return
				}
				sent.Add(1)
			}
		}()
		got, start := 0, time.Now()
		for got < 1000 {
			synctest.Wait()
			if ahead := int(sent.Load()) - got; ahead > 13 {
				w.Fatalf("%d events of 9 bytes and more wait, with room for 100 bytes", ahead)
			}
			time.Sleep(time.Second)
			for _, e := range strings.Split(p.get().Body, "\x1e") {
				switch e {
				case "2":
					p.send("3")
				case fmt.Sprintf(`42["n",%d]`, got):
					got++
				default:
					w.Fatalf("got %q, want event %d", e, got)
				}
			}
		}
		<-done
		if time.Since(start) < 70*time.Second {
			w.Errorf("1000 events took %v", time.Since(start))
		}
	})
}

// What ends a write that is blocked, and how soon.
func TestBlockedWriteEnds(t *testing.T) {
	for _, tt := range []struct {
		why  string
		ws   bool
		do   func(w *world, s *socketio.Socket)
		want error
		d    time.Duration
	}{
		{"the write timeout on polling", false, func(*world, *socketio.Socket) {}, socketio.ErrSlow, 7 * time.Second},
		{"the write timeout on a websocket", true, func(*world, *socketio.Socket) {}, socketio.ErrSlow, 7 * time.Second},
		{"Disconnect with the connection, polling", false, func(_ *world, s *socketio.Socket) { s.Disconnect(true) }, socketio.ErrDisconnected, 0},
		{"Disconnect with the connection, websocket", true, func(_ *world, s *socketio.Socket) { s.Disconnect(true) }, socketio.ErrDisconnected, 2 * time.Second},
		{"Disconnect of the namespace, polling", false, func(_ *world, s *socketio.Socket) { s.Disconnect(false) }, socketio.ErrDisconnected, 0},
		{"Drop, polling", false, func(_ *world, s *socketio.Socket) { s.Drop() }, socketio.ErrDisconnected, 0},
		{"Drop, websocket", true, func(_ *world, s *socketio.Socket) { s.Drop() }, socketio.ErrDisconnected, time.Second},
		{"Close", true, func(w *world, _ *socketio.Socket) { go w.srv.Close() }, socketio.ErrServerClosed, time.Second},
	} {
		o := &socketio.Options{MaxUnread: 100, WriteTimeout: 7 * time.Second, PingInterval: time.Hour}
		in(t, o, func(w *world) {
			if tt.ws {
				close(w.ws().connect().stall)
			} else {
				w.poll().connect()
			}
			s := <-w.sockets
			start := time.Now()
			blocked := make(chan error, 1)
			go func() {
				for {
					if err := s.Emit("x", strings.Repeat("x", 50)); err != nil {
						blocked <- err
						return
					}
				}
			}()
			synctest.Wait()
			if len(blocked) > 0 {
				w.Fatalf("%s: not blocked: %v", tt.why, <-blocked)
			}
			tt.do(w, s)
			if d := time.Since(start); d != 0 {
				w.Errorf("%s: took %v to return", tt.why, d)
			}
			if err := <-blocked; !errors.Is(err, tt.want) {
				w.Errorf("%s: the write ended with %v", tt.why, err)
			}
			if d := time.Since(start); d > tt.d || tt.want == socketio.ErrSlow && d != tt.d {
				w.Errorf("%s: the write ended after %v, want %v", tt.why, d, tt.d)
			}
			if err := w.ended(); !errors.Is(err, tt.want) {
				w.Errorf("%s: Receive: %v", tt.why, err)
			}
		})
	}
}

// A client whose events nobody receives is held up, not lost, and loses
// nothing; its heartbeat is not held against it meanwhile.
func TestReceiveHoldsUp(t *testing.T) {
	for _, onPolling := range []bool{true, false} {
		inWith(t, &socketio.Options{MaxUnread: 1000}, newHTTP(), hold, func(w *world) {
			const n = 100
			var sent atomic.Int32
			var wg sync.WaitGroup
			if onPolling {
				p := w.poll().connect()
				wg.Go(func() {
					for i := range n {
						p.send(fmt.Sprintf(`42["n",%d]`, i))
						sent.Add(1)
					}
				})
			} else {
				c := w.ws().connect()
				wg.Go(func() {
					for i := range n {
						c.send(text(fmt.Sprintf(`42["n",%d]`, i)))
						sent.Add(1)
					}
				})
			}
			time.Sleep(10 * time.Minute)
			if s := sent.Load(); s < 5 || s > 20 {
				w.Errorf("%d events of about 140 bytes taken, with room for 1000 bytes", s)
			}
			if len(w.ends) > 0 {
				w.Fatalf("ended: %v", <-w.ends)
			}
			for range n {
				w.next <- struct{}{}
			}
			wg.Wait()
			synctest.Wait()
			if len(w.ends) > 0 {
				w.Fatalf("ended: %v", <-w.ends)
			}
			close(w.next)
		})
	}
}

// Whatever instant a poll is cut off in during an upgrade, what was emitted then
// comes over the WebSocket, or the session is known to be lost: never neither.
func TestPollCutOffWhileAnswered(t *testing.T) {
	again := 0
	for round := range 100 {
		in(t, nil, func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			conn, err := w.net.dial()
			if err != nil {
				w.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "GET /socket.io/%s HTTP/1.1\r\nHost: chat.test\r\n\r\n", p.q); err != nil {
				w.Fatal(err)
			}
			done := make(chan string, 1)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					done <- ""
					return
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					b = nil
				}
				done <- string(b)
			}()
			synctest.Wait()
			conn.Close()
			if round%2 == 0 {
				synctest.Wait() // else which way it goes is up to the scheduler
			}
			if err := s.Emit("n"); err != nil {
				w.Errorf("Emit: %v", err)
			}
			got := <-done
			synctest.Wait()
			switch {
			case got == `42["n"]`:
			case len(w.ends) > 0:
				w.wantEnd(socketio.ErrTransport, 0)
			default:
				c.send(text("5"))
				c.want(text(`42["n"]`))
				again++
			}
		})
	}
	if again < 50 {
		t.Errorf("%d polls were cut off in time, want every second", again)
	}
}

// A poll that was answered at the very instant that it was cut off took nothing
// with it: what nobody read is due again.
func TestPollAnsweredAndCutOff(t *testing.T) {
	for range 200 { // which of the two the poll sees first is up to the scheduler
		in(t, nil, func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			ctx, cancel := context.WithCancel(w.Context())
			rec := httptest.NewRecorder()
			go w.srv.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", w.base+p.q, nil))
			synctest.Wait()
			cancel()
			if err := s.Emit("n"); err != nil {
				w.Errorf("Emit: %v", err)
			}
			synctest.Wait()
			c.send(text("5"))
			if rec.Body.String() != `42["n"]` {
				c.want(text(`42["n"]`))
			}
			c.send(text(`42["message"]`))
			c.want(text(`42["message-back"]`))
		})
	}
}

// A session whose pong is due ends at that instant, not when its timer gets to
// run: a poll of the same instant is refused.
func TestDeadlineIsAnInstant(t *testing.T) {
	for range 100 { // which of the two runs first is up to the scheduler
		in(t, nil, func(w *world) {
			p := w.poll()
			time.Sleep(45 * time.Second)
			rec := httptest.NewRecorder()
			w.srv.ServeHTTP(rec, httptest.NewRequest("GET", w.base+p.q, nil))
			if got := (response{rec.Code, rec.Body.String()}); got != refusal(1) {
				w.Errorf("a poll got %v", got)
			}
		})
	}
}

// The units of one encoding are converted for the other.
func TestWriteEncodedConverts(t *testing.T) {
	in(t, nil, func(w *world) {
		big := strings.Repeat("x", 70000)
		units := map[socketio.Encoding][]byte{}
		for _, enc := range []socketio.Encoding{socketio.Polling, socketio.WebSocket} {
			var b []byte
			for _, args := range [][]any{{1}, {strings.Repeat("y", 200), []byte("\x00\x01")}, {big}, {[]byte{}}} {
				var err error
				if b, err = socketio.AppendEvent(b, enc, "/", "e", args...); err != nil {
					w.Fatal(err)
				}
			}
			units[enc] = b
		}
		c := w.ws().connect()
		p := w.poll().connect()
		onWS, onPolling := <-w.sockets, <-w.sockets
		if onWS.Encoding() == socketio.Polling {
			onWS, onPolling = onPolling, onWS
		}
		for enc, b := range units {
			kept := string(b)
			if err := onWS.WriteEncoded(enc, b); err != nil {
				w.Error(err)
			}
			c.want(text(`42["e",1]`), text(`451-["e","`+strings.Repeat("y", 200)+`",{"_placeholder":true,"num":0}]`), frame{2, "\x00\x01"},
				text(`42["e","`+big+`"]`), text(`451-["e",{"_placeholder":true,"num":0}]`), frame{2, ""})
			if err := onPolling.WriteEncoded(enc, b); err != nil {
				w.Error(err)
			}
			p.want(strings.TrimSuffix(string(units[socketio.Polling]), "\x1e"))
			if string(b) != kept {
				w.Error("shared bytes were changed")
			}
		}
		for _, b := range []string{"42[1]", "\x81", "\x81\x05abc", "\x81\x7f\x00", "\x88\x00"} {
			if onWS.WriteEncoded(socketio.Polling, []byte(b)) == nil && onPolling.WriteEncoded(socketio.WebSocket, []byte(b)) == nil {
				w.Errorf("%q was taken for units", b)
			}
		}
	})
}

func TestAppendEventErrors(t *testing.T) {
	before := []byte("kept")
	b, err := socketio.AppendEvent(before, socketio.Polling, "/", "connect")
	if !errors.Is(err, socketio.ErrReserved) || string(b) != "kept" {
		t.Errorf("got %q, %v", b, err)
	}
	b, err = socketio.AppendEvent(before, socketio.Polling, "/", "x", []byte("a"), make(chan int))
	if err == nil || string(b) != "kept" {
		t.Errorf("got %q, %v", b, err)
	}
}

type teapot struct{}

func (teapot) Error() string   { return "short and stout" }
func (teapot) StatusCode() int { return http.StatusTeapot }

// Admit counts connections: it is asked once for each, before the upgrade, and
// each release comes once, at the end.
func TestAdmit(t *testing.T) {
	var mu sync.Mutex
	open, asked := 0, 0
	o := &socketio.Options{Admit: func(r *http.Request) (func(), error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if r.URL.Query().Has("tea") {
			return nil, teapot{}
		}
		if open == 2 {
			return nil, errors.New("too many")
		}
		open++
		return func() { mu.Lock(); defer mu.Unlock(); open-- }, nil
	}}
	count := func() (int, int) { mu.Lock(); defer mu.Unlock(); return open, asked }
	in(t, o, func(w *world) {
		p := w.poll().connect()
		c := w.ws().connect()
		u := p.upgrade()
		u.send(text("2probe"))
		u.want(text("3probe"))
		u.send(text("5"))
		refused := response{429, `{"code":4,"message":"too many"}`}
		if r, _ := w.do("GET", "?EIO=4&transport=polling", ""); r != refused {
			w.Errorf("a third got %v", r)
		}
		if _, r := w.dial("?EIO=4&transport=websocket"); r != refused {
			w.Errorf("a third on a websocket got %v", r)
		}
		if _, r := w.dial("?EIO=4&transport=websocket&tea"); r != (response{418, `{"code":4,"message":"short and stout"}`}) {
			w.Errorf("one of another status got %v", r)
		}
		if o, a := count(); o != 2 || a != 5 {
			w.Errorf("%d open, %d asked", o, a)
		}
		c.conn.Close()
		u.send(text("1"))
		synctest.Wait()
		if o, _ := count(); o != 0 {
			w.Errorf("%d open after all have ended", o)
		}
		// A handshake that fails after Admit gives its place back.
		if r, _ := w.do("GET", "?EIO=4&transport=websocket", "", "Upgrade: websocket"); r.Status != 426 {
			w.Errorf("half a handshake got %v", r)
		}
		if o, _ := count(); o != 0 {
			w.Errorf("%d open after a failed handshake", o)
		}
	})
}

// Shutdown tells every client, so that its script comes back, and waits for
// the handlers.
func TestShutdown(t *testing.T) {
	in(t, nil, func(w *world) {
		idle := w.poll().connect()
		p := w.poll().connect()
		c := w.ws().connect()
		u := w.poll().connect().upgrade()
		hanging := p.hang()
		for range 4 {
			(<-w.sockets).Emit("last")
		}
		if r := <-hanging; r.Body != `42["last"]` {
			w.Errorf("hanging poll got %v", r)
		}
		hanging = p.hang()
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- w.srv.Shutdown(w.Context()) }()
		if r := <-hanging; r.Body != "1" {
			w.Errorf("hanging poll got %v", r)
		}
		c.want(text(`42["last"]`))
		c.closed(1001)
		u.closed(1000)
		idle.want(`42["last"]`)
		idle.want("1")
		for range 4 {
			w.wantEnd(socketio.ErrServerClosed, 0)
		}
		if err := <-done; err != nil {
			w.Errorf("Shutdown: %v", err)
		}
		// The fourth never polled: its id stays for its last words.
		if d := time.Since(start); d != 2*time.Second {
			w.Errorf("Shutdown took %v", d)
		}
		if r, _ := w.do("GET", "?EIO=4&transport=polling", ""); r.Status != 503 {
			w.Errorf("a newcomer got %v", r)
		}
		if _, r := w.dial("?EIO=4&transport=websocket"); r.Status != 503 {
			w.Errorf("a newcomer on a websocket got %v", r)
		}
		w.srv.Close()
	})
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	inWith(t, nil, newHTTP(), func(w *world, s *socketio.Socket) { <-w.next }, func(w *world) {
		w.ws().connect()
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := w.srv.Shutdown(ctx); err != context.DeadlineExceeded {
			w.Errorf("Shutdown: %v", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			w.Errorf("Shutdown took %v", d)
		}
		close(w.next)
	})
}

// After Close no goroutine of this package is left, whatever was under way.
func TestCloseLeavesNothing(t *testing.T) {
	in(t, nil, func(w *world) {
		for i := range 5 {
			p := w.poll().connect()
			p.hang()
			w.poll() // connects to nothing
			w.poll().connect().upgrade().send(text("2probe"))
			c := w.ws().connect()
			w.ws()
			s := <-w.sockets
			switch i {
			case 0:
				s.Disconnect(true)
			case 1:
				s.Drop()
			case 2:
				p.send("1")
			case 3:
				c.conn.Close()
			}
		}
		w.srv.Close()
		synctest.Wait() // the last to say that it is done is not gone yet
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		for _, g := range strings.Split(string(buf), "\n\n") {
			if (strings.Contains(g, "chat/socketio.") || strings.Contains(g, "internal/fanout.")) && !strings.Contains(g, "socketio_test.") && !strings.Contains(g, "ServeHTTP") {
				w.Errorf("left behind:\n%s", g)
			}
		}
		w.srv.Close()
	})
}
