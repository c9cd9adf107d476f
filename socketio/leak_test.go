package socketio_test

import (
	"encoding/json"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// A baseline is what there is before something that is to leave nothing.
type baseline struct {
	goroutines int
	heap       uint64
}

func takeBaseline() baseline {
	synctest.Wait()
	runtime.GC()
	runtime.GC() // what pools held is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return baseline{runtime.NumGoroutine(), m.HeapAlloc}
}

// check compares with what there is now. Each of n may have left 1 KiB, which no
// session fits in: the runtime keeps what it needs for as many goroutines as
// there were at once.
func (b baseline) check(t *testing.T, srv *socketio.Server, n int) {
	t.Helper()
	now := takeBaseline()
	if sessions := socketio.Sessions(srv); sessions != 0 {
		t.Errorf("%d sessions are left", sessions)
	}
	if now.goroutines > b.goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines are left:\n%s", now.goroutines-b.goroutines, buf[:runtime.Stack(buf, true)])
	}
	if left := int64(now.heap) - int64(b.heap); left > int64(n)<<10 {
		t.Errorf("%d bytes are left by %d", left, n)
	}
}

// crowd lets n goroutines be there at once, for which the runtime then has what it
// keeps for them: how many timers of an instant get one before the first has run
// is up to the scheduler, and would count for half of what may be left.
func crowd(n int) {
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for range n {
		wg.Go(func() { <-enough })
	}
	close(enough)
	wg.Wait()
}

// Handshakes that nothing follows, polls that nobody answers for, connections
// that ask for a WebSocket and say nothing on it: after their deadlines nothing
// of them is left.
func TestHalfOpenLeavesNothing(t *testing.T) {
	type way struct {
		why string
		n   int
		f   func(do func(method, query, body string) *httptest.ResponseRecorder, sid string)
	}
	for _, tt := range []way{
		{"nothing follows", 10_000, func(func(_, _, _ string) *httptest.ResponseRecorder, string) {}},
		{"a poll hangs", 10_000, func(do func(_, _, _ string) *httptest.ResponseRecorder, sid string) { go do("GET", sid, "") }},
		{"connected, and a poll hangs", 1000, func(do func(_, _, _ string) *httptest.ResponseRecorder, sid string) {
			do("POST", sid, "40")
			do("GET", sid, "")
			go do("GET", sid, "")
		}},
		{"half a binary event", 1000, func(do func(_, _, _ string) *httptest.ResponseRecorder, sid string) {
			do("POST", sid, "40\x1e452-[\"x\",{\"_placeholder\":true,\"num\":0}]\x1ebAAAA")
		}},
	} {
		in(t, nil, func(w *world) {
			do := func(method, query, body string) *httptest.ResponseRecorder {
				rec := httptest.NewRecorder()
				w.srv.ServeHTTP(rec, httptest.NewRequest(method, w.base+"?EIO=4&transport=polling"+query, strings.NewReader(body)))
				return rec
			}
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for {
					select {
					case <-w.sockets:
					case <-w.ends:
					case <-stop:
						return
					}
				}
			}()
			crowd(3 * tt.n) // a session's poll and two timers
			before := takeBaseline()
			for round := range 2 {
				for range tt.n {
					var open struct{ SID string }
					if err := json.Unmarshal(do("GET", "", "").Body.Bytes()[1:], &open); err != nil {
						w.Fatal(err)
					}
					tt.f(do, "&sid="+open.SID)
				}
				synctest.Wait()
				if got := socketio.Sessions(w.srv); got != tt.n {
					w.Errorf("%s: %d sessions, want %d", tt.why, got, tt.n)
				}
				time.Sleep(45*time.Second + time.Nanosecond)
				if round == 0 {
					before.heap = takeBaseline().heap // a map and the runtime keep the room for so many
				}
				before.check(w.T, w.srv, tt.n)
			}
			if w.Failed() {
				w.Log(tt.why)
			}
		})
	}
	// On the network: whatever stops half-way.
	in(t, nil, func(w *world) {
		before := takeBaseline()
		for i := range 500 {
			switch i % 4 {
			case 0:
				w.ws()
			case 1:
				w.poll().upgrade()
			case 2:
				c := w.poll().connect().upgrade()
				c.send(text("2probe"))
				<-w.sockets
			case 3:
				w.poll().connect().hang()
				<-w.sockets
			}
			for len(w.ends) > 0 {
				<-w.ends
			}
		}
		go func() {
			for range 250 {
				<-w.ends
			}
		}()
		time.Sleep(50 * time.Second)
		w.net.forget()
		w.web.CloseIdleConnections()
		before.check(w.T, w.srv, 500)
	})
}

// Connects and disconnects of every kind, over and over: goroutines and memory
// are as before.
func TestEveryEndLeavesNothing(t *testing.T) {
	const n = 5_000
	kinds := []func(w *world){
		func(w *world) { w.poll().connect().send("41", "1") },
		func(w *world) { p := w.poll().connect(); p.send("41"); p.send("1"); p.want("6") },
		func(w *world) { w.poll().connect().send("1") },
		func(w *world) { w.poll().connect() }, // and is silent
		func(w *world) { w.poll().connect().cutOff() },
		func(w *world) { w.poll().connect().post("nonsense") },
		func(w *world) { c := w.ws().connect(); c.send(text("41"), closing(1000, "")) },
		func(w *world) { w.ws().connect().send(closing(1001, "")) },
		func(w *world) { w.ws().connect().send(text("1")) },
		func(w *world) { w.ws().connect().conn.Close() },
		func(w *world) { w.ws().connect().send(text("nonsense")) },
		func(w *world) { w.ws().connect() }, // and is silent
		func(w *world) {
			c := w.poll().connect().upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			c.send(text("5"), text("41"))
			c.conn.Close()
		},
		func(w *world) { w.poll().connect().upgrade().conn.Close() },
		func(w *world) { w.ws().send(text("40/random"), text("1")) },
	}
	ends := []func(s *socketio.Socket){
		func(s *socketio.Socket) { s.Disconnect(false) },
		func(s *socketio.Socket) { s.Disconnect(true) },
		func(s *socketio.Socket) { s.Drop() },
	}
	in(t, nil, func(w *world) {
		round := func(n int) {
			for i := range n {
				switch {
				case i%(len(kinds)+2*len(ends)) < len(kinds):
					kinds[i%(len(kinds)+2*len(ends))](w)
				case i%2 == 0:
					w.ws().connect()
				default:
					w.poll().connect()
				}
				synctest.Wait()
				for len(w.sockets) > 0 {
					s := <-w.sockets
					if k := i%(len(kinds)+2*len(ends)) - len(kinds); k >= 0 {
						ends[k%len(ends)](s)
					}
				}
				for len(w.ends) > 0 {
					<-w.ends
				}
				if i%50 == 49 {
					time.Sleep(50 * time.Second)
					for len(w.ends) > 0 {
						<-w.ends
					}
					w.net.forget()
				}
			}
			time.Sleep(time.Minute)
			for len(w.ends) > 0 {
				<-w.ends
			}
			w.net.forget()
			w.web.CloseIdleConnections()
		}
		round(200) // what is made once
		before := takeBaseline()
		round(n)
		before.check(w.T, w.srv, n)
	})
}
