package socketio_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
	"github.com/google/go-cmp/cmp"
)

// A handover is a ResponseWriter that hands over its connection, with bytes that
// were read from it already, and that must be left alone then.
type handover struct {
	t        *testing.T
	nc       net.Conn
	early    string
	header   http.Header
	returned atomic.Bool
}

func (h *handover) touch() {
	if h.returned.Load() {
		h.t.Error("the ResponseWriter was used after ServeHTTP had returned")
	}
}

func (h *handover) Header() http.Header         { h.touch(); return h.header }
func (h *handover) WriteHeader(int)             { h.touch() }
func (h *handover) Write(p []byte) (int, error) { h.touch(); return len(p), nil }

func (h *handover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.touch()
	br := bufio.NewReader(io.MultiReader(strings.NewReader(h.early), h.nc))
	if _, err := br.Peek(len(h.early)); err != nil {
		return nil, nil, err
	}
	return h.nc, bufio.NewReadWriter(br, bufio.NewWriter(h.nc)), nil
}

// A WebSocket outlives its request: ServeHTTP returns at once, though the client
// takes nothing yet, the request's context ends, and neither is touched any more.
// Close waits for what goes on, and Admit's release comes with the end.
func TestRequestIsLetGo(t *testing.T) {
	type key struct{}
	for _, upgrade := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var released atomic.Int32
			srv := socketio.NewServer(&socketio.Options{Admit: func(*http.Request) (func(), error) {
				return func() { released.Add(1) }, nil
			}})
			requests := make(chan *http.Request, 1)
			srv.Handle("/", func(s *socketio.Socket) {
				requests <- s.Request()
				for {
					e, err := s.Receive()
					if err != nil {
						return
					}
					s.Emit(e.Name)
				}
			})
			query := "?EIO=4&transport=websocket"
			early := "\x81\x82\x00\x00\x00\x0040"
			var want []frame
			if upgrade {
				rec := httptest.NewRecorder()
				r := httptest.NewRequest("GET", "/socket.io/?EIO=4&transport=polling", nil)
				r.Header.Set("Cookie", "who=ann")
				srv.ServeHTTP(rec, r.WithContext(context.WithValue(t.Context(), key{}, "kept")))
				var open opening
				if err := json.Unmarshal(rec.Body.Bytes()[1:], &open); err != nil {
					t.Fatal(err)
				}
				query += "&sid=" + open.SID
				early = "\x81\x86\x00\x00\x00\x002probe\x81\x81\x00\x00\x00\x005" + early
				want = []frame{text("3probe")}
			}
			here, there := net.Pipe()
			w := &handover{t: t, nc: there, early: early, header: http.Header{}}
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
			r := httptest.NewRequest("GET", "/socket.io/"+query, nil).WithContext(ctx)
			for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
				"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Cookie": "who=ann"} {
				r.Header.Set(k, v)
			}
			srv.ServeHTTP(w, r)
			w.returned.Store(true)
			cancel()
			r.URL.RawQuery, r.Header["Cookie"][0] = "", "another's"
			clear(r.Header)

			br := bufio.NewReader(here)
			next := func() frame {
				f, err := readFrame(br)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			if !upgrade {
				if f := next(); !strings.HasPrefix(f.Payload, "0{") {
					t.Errorf("first came %q", f.Payload)
				}
			}
			for _, want := range want {
				if f := next(); f != want {
					t.Errorf("got %v, want %v", f, want)
				}
			}
			if f := next(); !strings.HasPrefix(f.Payload, "40{") {
				t.Errorf("CONNECT got %q", f.Payload)
			}
			go io.WriteString(here, "\x81\x87\x00\x00\x00\x0042[\"a\"]")
			if f := next(); f != text(`42["a"]`) {
				t.Errorf("got %q", f.Payload)
			}
			kept := <-requests
			if d := cmp.Diff(http.Header{"Cookie": {"who=ann"}}, kept.Header); d != "" {
				t.Errorf("headers that are kept (-want +got):\n%s", d)
			}
			if kept.Context().Err() != nil || kept.Context().Value(key{}) != "kept" || kept.URL.Query().Get("EIO") != "4" {
				t.Errorf("kept: context ended by %v, with value %v, query %q", kept.Context().Err(), kept.Context().Value(key{}), kept.URL.RawQuery)
			}
			closed := make(chan struct{})
			go func() {
				srv.Close()
				close(closed)
			}()
			synctest.Wait() // the client has a second to take the close frame, and another to answer it
			select {
			case <-closed:
				t.Error("Close didn't wait for the WebSocket")
			default:
			}
			if n := released.Load(); n != 1 {
				t.Errorf("released %d times", n)
			}
			if f := next(); f.Op != 8 {
				t.Errorf("got %v, want a close frame", f)
			}
			<-closed
		})
	}
}

// A WebSocket that was let in and then fails at its handshake is released as well.
func TestReleaseOfRefusedHandshake(t *testing.T) {
	var released int
	srv := socketio.NewServer(&socketio.Options{Admit: func(*http.Request) (func(), error) {
		return func() { released++ }, nil
	}})
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/socket.io/?EIO=4&transport=websocket", nil)
	r.Header.Set("Upgrade", "websocket") // and nothing else
	srv.ServeHTTP(rec, r)
	if rec.Code != http.StatusUpgradeRequired || released != 1 {
		t.Errorf("got %d, released %d times; want 426, once", rec.Code, released)
	}
	srv.Close()
}

// Close waits for the last of a WebSocket whose session has ended already: a
// client that broke the framing has a second to answer the close frame.
func TestCloseWaitsForTheClosing(t *testing.T) {
	for _, dial := range []func(w *world) *wsClient{
		(*world).ws,
		func(w *world) *wsClient { return w.poll().connect().upgrade() },
	} {
		in(t, nil, func(w *world) {
			if _, err := dial(w).conn.Write([]byte{0x81, 0}); err != nil { // not masked
				w.Error(err)
			}
			synctest.Wait()
			start := time.Now()
			w.srv.Close()
			if d := time.Since(start); d != time.Second {
				w.Errorf("Close returned after %v, want 1s", d)
			}
		})
	}
}
