package socketio_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/chat/socketio"
)

// What one event costs to encode, in each form.
func BenchmarkEncode(b *testing.B) {
	for _, bb := range []struct {
		name string
		args []any
	}{
		{"strings", []any{"ann", "Good morning, everybody!"}},
		{"escaped", []any{"ann", "<b>Good morning, \"everybody\"!</b>"}},
		{"object", []any{map[string]string{"user": "ann", "text": "Good morning!"}}},
		{"binary=1KiB", []any{"photo.png", make([]byte, 1<<10)}},
	} {
		for _, enc := range []socketio.Encoding{socketio.Polling, socketio.WebSocket} {
			b.Run(bb.name+"/"+enc.String(), func(b *testing.B) {
				b.ReportAllocs()
				var units []byte
				for b.Loop() {
					var err error
					if units, err = socketio.AppendEvent(units[:0], enc, "/", "message", bb.args...); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(units)))
			})
		}
	}
}

// What one packet costs to decode.
func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct{ name, packet string }{
		{"strings", `2["message","ann","Good morning, everybody!"]`},
		{"object", `217["message",{"user":"ann","text":"Good morning!"}]`},
		{"binary", `51-["message","photo.png",{"_placeholder":true,"num":0}]`},
		{"ack", `317["ok"]`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.packet)))
			packet := []byte(bb.packet)
			for b.Loop() {
				if _, err := socketio.ParsePacket(packet, 10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("payload/packets=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			payload := []byte(strings.TrimSuffix(strings.Repeat("42[\"message\",\"ann\"]\x1e", n), "\x1e"))
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if _, err := socketio.ParsePayload(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One event to a thousand sockets, encoded once, until every client has it.
func BenchmarkBroadcast(b *testing.B) {
	for _, enc := range []socketio.Encoding{socketio.WebSocket, socketio.Polling} {
		b.Run(fmt.Sprintf("sockets=1000/%v", enc), func(b *testing.B) { benchmarkBroadcast(b, enc, 1000) })
	}
}

func benchmarkBroadcast(b *testing.B, enc socketio.Encoding, n int) {
	b.ReportAllocs()
	srv := socketio.NewServer(nil)
	defer srv.Close()
	joined := make(chan *socketio.Socket)
	srv.Handle("/", func(s *socketio.Socket) {
		joined <- s
		s.Receive()
	})
	sockets := make([]*socketio.Socket, 0, n)
	clients := make([]func() int64, 0, n) // each takes what there is, and returns how much it got in all
	for range n {
		client := sinkWebSocket
		if enc == socketio.Polling {
			client = sinkPolling
		}
		clients = append(clients, client(b, srv))
		sockets = append(sockets, <-joined)
	}
	units, err := socketio.AppendEvent(nil, enc, "/", "message", "ann", "Good morning, everybody!")
	if err != nil {
		b.Fatal(err)
	}
	size := len(units)
	if enc == socketio.Polling {
		size-- // no separator behind the last
	}
	before := make([]int64, n)
	for i, c := range clients {
		before[i] = c()
	}
	rounds := 0
	for b.Loop() {
		rounds++
		for i, s := range sockets {
			if err := s.WriteEncoded(enc, units); err != nil {
				b.Fatal(err)
			}
			if got := clients[i]() - before[i]; got != int64(rounds*size) {
				b.Fatalf("client %d has got %d bytes of %d events, want %d", i, got, rounds, rounds*size)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rounds*n), "ns/socket")
}

// sinkPolling is a client that polls when asked to.
func sinkPolling(b *testing.B, srv *socketio.Server) func() int64 {
	do := func(method, query, body string) string {
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, httptest.NewRequest(method, "/socket.io/?EIO=4&transport=polling"+query, strings.NewReader(body)))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
		return w.Body.String()
	}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(do("GET", "", "")[1:]), &open); err != nil {
		b.Fatal(err)
	}
	do("POST", "&sid="+open.SID, "40")
	first := true
	var got int64
	return func() int64 {
		if first {
			do("GET", "&sid="+open.SID, "") // the CONNECT's answer
			first = false
			return 0
		}
		got += int64(len(do("GET", "&sid="+open.SID, "")))
		return got
	}
}

// sinkWebSocket is a client that takes everything at once: its connection is one
// that counts.
func sinkWebSocket(b *testing.B, srv *socketio.Server) func() int64 {
	c := &sink{in: make(chan []byte, 1), closed: make(chan struct{})}
	r := httptest.NewRequest("GET", "/socket.io/?EIO=4&transport=websocket", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(k, v)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.ServeHTTP(c, r)
	}()
	b.Cleanup(func() { <-served })
	c.in <- []byte{0x81, 0x82, 0, 0, 0, 0, '4', '0'}
	return c.got.Load
}

// A sink is a connection that takes what is written to it and counts it, and
// the ResponseWriter that hands it over.
type sink struct {
	net.Conn // nil: what is not below is not called
	header   http.Header
	in       chan []byte
	closed   chan struct{}
	done     atomic.Bool
	got      atomic.Int64
}

func (c *sink) Header() http.Header {
	if c.header == nil {
		c.header = http.Header{}
	}
	return c.header
}
func (c *sink) WriteHeader(int) {}
func (c *sink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}
func (c *sink) Write(p []byte) (int, error) {
	c.got.Add(int64(len(p)))
	return len(p), nil
}
func (c *sink) TryWrite(p []byte) (int, error) { return c.Write(p) }
func (c *sink) Read(p []byte) (int, error) {
	select {
	case b := <-c.in:
		return copy(p, b), nil
	case <-c.closed:
		return 0, io.EOF
	}
}
func (c *sink) SetDeadline(time.Time) error      { return nil }
func (c *sink) SetReadDeadline(time.Time) error  { go c.Close(); return nil } // only the end sets one
func (c *sink) SetWriteDeadline(time.Time) error { return nil }
func (c *sink) Close() error {
	if c.done.CompareAndSwap(false, true) {
		close(c.closed)
	}
	return nil
}
