package fanout_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"example.com/chat/internal/fanout"
	"github.com/google/go-cmp/cmp"
)

func TestAppendFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := strings.Repeat("x", n)
		b := fanout.AppendFrame([]byte{}, n%2 == 1, []byte(payload))
		b = fanout.AppendFrame(b, false, []byte("next"))
		p := &peer{br: bufio.NewReader(strings.NewReader(string(b)))}
		want := []frame{{1 + byte(n%2), payload}, {1, "next"}}
		var got []frame
		for range want {
			f, err := p.next()
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			got = append(got, f)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, d)
		}
	}
}

// What Read returns for what a peer may send, and what it is told.
func TestRead(t *testing.T) {
	type read struct {
		Data   string
		Binary bool
		Err    error
	}
	for _, tt := range []struct {
		why   string
		send  string
		want  []read
		reply []frame // what the peer is sent
	}{
		{"text, then binary", string(masked(0x81, "hällo")) + string(masked(0x82, "\xff")),
			[]read{{"hällo", false, nil}, {"\xff", true, nil}}, nil},
		{"a fragmented message with a ping in its middle is one message",
			string(masked(0x01, "ab")) + string(masked(0x89, "p")) + string(masked(0x80, "cd")),
			[]read{{"abcd", false, nil}}, []frame{{fanout.OpPong, "p"}}},
		{"a message of exactly the limit", string(masked(0x81, strings.Repeat("x", 100))),
			[]read{{strings.Repeat("x", 100), false, nil}}, nil},
		{"one byte over the limit", string(masked(0x81, strings.Repeat("x", 101))),
			[]read{{"", false, fanout.ErrTooBig}}, []frame{{fanout.OpClose, closing(1009, "message too big")}}},
		{"over the limit in pieces", string(masked(0x01, strings.Repeat("x", 60))) + string(masked(0x80, strings.Repeat("x", 60))),
			[]read{{"", false, fanout.ErrTooBig}}, []frame{{fanout.OpClose, closing(1009, "message too big")}}},
		{"text that is not utf-8", string(masked(0x81, "a\xff")),
			[]read{{"", false, fanout.ErrNotUTF8}}, []frame{{fanout.OpClose, closing(1007, "text is not utf-8")}}},
		{"an unmasked frame", "\x81\x02hi",
			[]read{{"", false, fanout.ErrProtocol}}, []frame{{fanout.OpClose, closing(1002, "protocol violated")}}},
		{"a continuation of nothing", string(masked(0x80, "x")),
			[]read{{"", false, fanout.ErrProtocol}}, nil},
		{"a reserved bit", string(masked(0xC1, "x")),
			[]read{{"", false, fanout.ErrProtocol}}, nil},
		{"an unknown opcode", string(masked(0x83, "x")),
			[]read{{"", false, fanout.ErrProtocol}}, nil},
		{"a close frame", string(masked(0x88, closing(1001, "away"))),
			[]read{{"", false, fanout.CloseError{Code: 1001, Reason: "away"}}}, []frame{{fanout.OpClose, closing(1001, "away")}}},
		{"a close frame without a code", string(masked(0x88, "")),
			[]read{{"", false, fanout.CloseError{Code: 1005}}}, []frame{{fanout.OpClose, ""}}},
		{"a close reason that is not utf-8 is made valid", string(masked(0x88, closing(4000, "a\xff"))),
			[]read{{"", false, fanout.CloseError{Code: 4000, Reason: "a\uFFFD"}}}, []frame{{fanout.OpClose, closing(4000, "a\xff")}}},
		{"the end in the middle of a frame", "\x81\x85\x01", []read{{"", false, fanout.ErrLost}}, nil},
		{"the end between frames", "", []read{{"", false, fanout.ErrLost}}, nil},
	} {
		c := connect(t, &fanout.AcceptOptions{MaxMessage: 100}, false)
		if _, err := io.WriteString(c.peer, tt.send); err != nil {
			t.Fatalf("%s: %v", tt.why, err)
		}
		if tt.want[0].Err == fanout.ErrLost {
			c.peer.Close()
		}
		var got []read
		for range tt.want {
			data, binary, err := c.Read()
			if errors.Is(err, io.EOF) {
				t.Errorf("%s: %v is io.EOF, which means a goodbye to transports", tt.why, err)
			}
			if errors.Is(err, fanout.ErrLost) {
				err = fanout.ErrLost
			}
			got = append(got, read{string(data), binary, err})
		}
		if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b error) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.why, d)
		}
		for _, want := range tt.reply {
			f, err := c.peer.next()
			if d := cmp.Diff(want, f); d != "" || err != nil {
				t.Errorf("%s: peer's frame (-want +got), %v:\n%s", tt.why, err, d)
			}
		}
		c.end()
	}
}

// 20,000 data frames from four writers, written one to three at a time, with
// pings from both sides between: each frame whole, each writer's in order, and
// the last ping answered.
func TestFramesNeverMix(t *testing.T) {
	const writers, each, pings = 4, 5000, 500
	var wg sync.WaitGroup
	defer wg.Wait()
	c := connect(t, nil, false)
	defer c.end()
	c.Heartbeat(time.Millisecond, time.Minute, func() { t.Error("lost") })
	wg.Go(func() {
		for {
			if _, _, err := c.Read(); err != nil {
				return
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < each; {
				var b []byte
				for range 1 + i%3 {
					if i < each {
						b = fanout.AppendFrame(b, false, fmt.Appendf(nil, "%d %d %s", w, i, strings.Repeat("x", i%300)))
						i++
					}
				}
				if err := c.Write(b); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := range pings {
			if err := c.peer.send(fanout.OpPing, fmt.Sprint(i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	next, pong, data := [writers]int{}, -1, 0
	for data < writers*each || pong < pings-1 {
		f, err := c.peer.next()
		if err != nil {
			t.Fatalf("after %d data frames: %v", data, err)
		}
		switch f.Op {
		case fanout.OpText:
			var w, i int
			var rest string
			fmt.Sscan(f.Payload, &w, &i, &rest)
			if i != next[w] || rest != strings.Repeat("x", i%300) {
				t.Fatalf("writer %d: frame %d of %d bytes, want %d whole", w, i, len(f.Payload), next[w])
			}
			next[w]++
			data++
		case fanout.OpPong:
			var i int
			fmt.Sscan(f.Payload, &i)
			if i <= pong {
				t.Fatalf("pong %d after %d", i, pong)
			}
			pong = i
		case fanout.OpPing:
			if err := c.peer.send(fanout.OpPong, f.Payload); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("frame of opcode %d", f.Op)
		}
	}
}

// A pong doesn't wait for a data frame that is half out, and comes behind it.
func TestPongDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		defer wg.Wait()
		c := connect(t, nil, true)
		defer c.end()
		wg.Go(func() { c.Write(fanout.AppendFrame(nil, false, []byte("half out"))) })
		var reads atomic.Int32
		wg.Go(func() {
			for {
				if _, _, err := c.Read(); err != nil {
					return
				}
				reads.Add(1)
			}
		})
		synctest.Wait()
		c.peer.send(fanout.OpPing, "1")
		c.peer.send(fanout.OpText, "hi")
		synctest.Wait()
		if reads.Load() != 1 {
			t.Error("a message behind a ping was not read while a write was under way")
		}
		c.peer.send(fanout.OpPing, "2")
		synctest.Wait()
		var got []frame
		for range 2 {
			f, err := c.peer.next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f)
		}
		want := []frame{{fanout.OpText, "half out"}, {fanout.OpPong, "2"}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("frames (-want +got):\n%s", d)
		}
	})
}

// The first Close counts, returns at once, and its frame arrives before the end
// of the connection, which comes as soon as the peer has answered.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, nil, true)
		defer c.end()
		start := time.Now()
		readErr := make(chan error, 1)
		go func() {
			_, _, err := c.Read()
			readErr <- err
		}()
		synctest.Wait()
		long := strings.Repeat("é", 100)
		var wg sync.WaitGroup
		c.Close(4001, long)
		for i := range 10 {
			wg.Go(func() { c.Close(4002+i, "late") })
		}
		wg.Wait()
		f, err := c.peer.next()
		if err != nil || f.Op != fanout.OpClose || f.code() != 4001 {
			t.Fatalf("got frame %+v, %v; want close 4001", f, err)
		}
		if r := f.Payload[2:]; len(r) != 122 || !utf8.ValidString(r) {
			t.Errorf("reason of %d bytes, valid %v; want 122 whole ones", len(r), utf8.ValidString(r))
		}
		// Data still under way is dropped, the answer is not answered again.
		c.peer.send(fanout.OpText, "late")
		c.peer.send(fanout.OpClose, f.Payload)
		if f, err := c.peer.next(); err != io.EOF {
			t.Errorf("after the answer: %+v, %v; want the end", f, err)
		}
		c.Wait()
		if err := <-readErr; err != fanout.ErrClosed {
			t.Errorf("Read: %v", err)
		}
		if err := c.Write(fanout.AppendFrame(nil, false, nil)); err != fanout.ErrClosed {
			t.Errorf("Write after Close: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("closing took %v of waiting, want none", d)
		}
	})
}

// However the peer behaves, Close, and what it unblocks, is bounded.
func TestCloseIsBounded(t *testing.T) {
	for _, tt := range []struct {
		why   string
		read  bool // the peer reads, but never answers
		write bool // a Write is stuck
		code  int
		want  time.Duration
		err   error // the stuck Write's
	}{
		{"a peer that never answers", true, false, 1001, time.Second, nil},
		{"a peer that doesn't read", false, false, 1001, time.Second, nil},
		{"a stuck write", false, true, 1001, time.Second, fanout.ErrClosed},
		{"a cut waits for nothing", true, false, fanout.CloseAbnormal, 0, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := connect(t, nil, true)
			defer c.end()
			var wg sync.WaitGroup
			if tt.write {
				wg.Go(func() {
					if err := c.Write(fanout.AppendFrame(nil, false, []byte("stuck"))); !errors.Is(err, tt.err) {
						t.Errorf("%s: Write: %v", tt.why, err)
					}
				})
			}
			wg.Go(func() {
				if _, _, err := c.Read(); err != fanout.ErrClosed {
					t.Errorf("%s: Read: %v", tt.why, err)
				}
			})
			synctest.Wait()
			if tt.read {
				wg.Go(func() { io.Copy(io.Discard, c.peer) })
			}
			start := time.Now()
			c.Close(tt.code, "")
			c.Wait()
			wg.Wait()
			if d := time.Since(start); d != tt.want {
				t.Errorf("%s: took %v, want %v", tt.why, d, tt.want)
			}
		})
	}
}

// A peer that doesn't take a write is cut at the write timeout, and nothing
// follows what may have been part of a frame.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &fanout.AcceptOptions{WriteTimeout: 3 * time.Second}, true)
		defer c.end()
		readErr := make(chan error, 1)
		go func() {
			_, _, err := c.Read()
			readErr <- err
		}()
		start := time.Now()
		if err := c.Write(fanout.AppendFrame(nil, false, []byte("x"))); err != fanout.ErrSlow {
			t.Errorf("Write: %v, want ErrSlow", err)
		}
		if err := c.Write(fanout.AppendFrame(nil, false, []byte("y"))); err != fanout.ErrSlow {
			t.Errorf("Write after that: %v, want ErrSlow", err)
		}
		if err := <-readErr; err == nil {
			t.Error("Read returned no error")
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("took %v, want 3s", d)
		}
		if f, err := c.peer.next(); err != io.EOF {
			t.Errorf("peer read %+v, %v; want the end", f, err)
		}
	})
}

// Heartbeat: silence is noticed after exactly interval + timeout, any byte
// counts as life, and a handler that is busy between reads is not held against
// its peer.
func TestHeartbeat(t *testing.T) {
	const interval, timeout = 25 * time.Second, 20 * time.Second
	for _, tt := range []struct {
		why   string
		play  func(c pair)  // the peer's part, after which it is silent
		until time.Duration // when lost is called
		pings int32
	}{
		{"silence from the start", func(pair) {}, interval + timeout, 1},
		{"a text counts from when it came", func(c pair) {
			time.Sleep(10 * time.Second)
			c.peer.send(fanout.OpText, "x")
		}, 10*time.Second + interval + timeout, 1},
		{"a pong counts", func(c pair) {
			time.Sleep(30 * time.Second)
			c.peer.send(fanout.OpPong, "")
		}, 30*time.Second + interval + timeout, 2},
		{"half a frame counts", func(c pair) {
			time.Sleep(40 * time.Second)
			c.peer.Write([]byte{0x81})
		}, 40*time.Second + interval + timeout, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var wg sync.WaitGroup
			defer wg.Wait()
			c := connect(t, nil, true)
			defer c.end()
			var pings atomic.Int32
			wg.Go(func() {
				for {
					f, err := c.peer.next()
					if err != nil {
						return
					}
					if f.Op == fanout.OpPing {
						pings.Add(1)
					}
				}
			})
			start := time.Now()
			lost := make(chan time.Duration, 2)
			c.Heartbeat(interval, timeout, func() {
				lost <- time.Since(start)
				c.Close(4000, "ping timeout")
			})
			wg.Go(func() { tt.play(c) })
			for {
				if _, _, err := c.Read(); err != nil {
					break
				}
			}
			if d := time.Since(start); d != tt.until {
				t.Errorf("%s: Read ended after %v, want %v", tt.why, d, tt.until)
			}
			if d := <-lost; d != tt.until {
				t.Errorf("%s: lost after %v, want %v", tt.why, d, tt.until)
			}
			c.Wait()
			time.Sleep(time.Hour)
			if len(lost) > 0 || pings.Load() != tt.pings {
				t.Errorf("%s: lost again %d times, %d pings, want %d", tt.why, len(lost), pings.Load(), tt.pings)
			}
		})
	}
}

// A timeout that is longer than the interval is given whole after each ping, and
// the pings keep to the interval.
func TestHeartbeatLongTimeout(t *testing.T) {
	const interval, timeout, answer = time.Second, 10 * time.Second, 9 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		defer wg.Wait()
		c := connect(t, nil, true)
		defer c.end()
		start := time.Now()
		var pings []time.Duration
		wg.Go(func() {
			for f, err := c.peer.next(); err == nil; f, err = c.peer.next() {
				if f.Op != fanout.OpPing {
					continue
				}
				if pings = append(pings, time.Since(start)); len(pings) < 5 {
					if len(pings)%2 == 0 {
						time.Sleep(answer)
					}
					c.peer.send(fanout.OpPong, f.Payload)
				}
			}
		})
		c.Heartbeat(interval, timeout, func() { c.Close(4000, "ping timeout") })
		c.Read()
		if d := time.Since(start); d != 5*interval+2*answer+timeout {
			t.Errorf("lost after %v, want %v", d, 5*interval+2*answer+timeout)
		}
		want := []time.Duration{interval, 2 * interval, 3*interval + answer, 4*interval + answer, 5*interval + 2*answer}
		c.Wait()
		synctest.Wait()
		if d := cmp.Diff(want, pings); d != "" {
			t.Errorf("pings (-want +got):\n%s", d)
		}
	})
}

func TestHeartbeatCountsOnlyWithinRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		defer wg.Wait()
		c := connect(t, nil, true)
		defer c.end()
		wg.Go(func() { io.Copy(io.Discard, c.peer) })
		var lost atomic.Bool
		c.Heartbeat(time.Second, time.Second, func() { lost.Store(true); c.Close(4000, "") })
		time.Sleep(time.Hour) // a handler at work
		if lost.Load() {
			t.Error("lost while nobody was reading")
		}
		start := time.Now()
		c.Read()
		if d := time.Since(start); d != 2*time.Second || !lost.Load() {
			t.Errorf("lost %v after %v within Read, want after 2s", lost.Load(), d)
		}
	})
}

func TestAcceptRefuses(t *testing.T) {
	for _, tt := range []struct {
		why, origin string
		allowed     []string
		any         bool
		want        int
	}{
		{"no page", "", nil, false, 101},
		{"same origin", "http://chat.test", nil, false, 101},
		{"same host behind a proxy that ends TLS", "https://CHAT.test", nil, false, 101},
		{"another host", "http://evil.test", nil, false, 403},
		{"another port", "http://chat.test:81", nil, false, 403},
		{"a sandboxed page", "null", nil, false, 403},
		{"a host pattern", "https://a.example.com", []string{"*.example.com"}, false, 101},
		{"a host pattern is not a suffix", "https://example.com.evil.test", []string{"*.example.com", "example.com"}, false, 403},
		{"a pattern with a scheme", "https://example.com", []string{"https://example.com"}, false, 101},
		{"another scheme", "http://example.com", []string{"https://example.com"}, false, 403},
		{"a malformed pattern allows nothing", "http://a", []string{"[", "a["}, false, 403},
		{"any origin", "http://evil.test", nil, true, 101},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := fanout.Accept(w, r, &fanout.AcceptOptions{AllowedOrigins: tt.allowed, AnyOrigin: tt.any})
			if (err == nil) != (tt.want == 101) || err != nil && !errors.Is(err, fanout.ErrOrigin) {
				t.Errorf("%s: Accept: %v", tt.why, err)
			}
			if err == nil {
				c.Close(fanout.CloseAbnormal, "")
				c.Wait()
			}
		}))
		nc, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		headers := []string{}
		if tt.origin != "" {
			headers = append(headers, "Origin: "+tt.origin)
		}
		p, err := handshake(nc, headers...)
		if err != nil {
			t.Fatalf("%s: %v", tt.why, err)
		}
		if p.resp.StatusCode != tt.want {
			t.Errorf("%s: %s, want %d", tt.why, p.resp.Status, tt.want)
		}
		nc.Close()
		srv.Close()
	}
}

func TestAcceptWithoutHijacker(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	if _, err := fanout.Accept(w, r, nil); !errors.Is(err, http.ErrNotSupported) || w.Code != http.StatusNotImplemented {
		t.Errorf("got %v and %d, want ErrNotSupported and 501", err, w.Code)
	}
	w = httptest.NewRecorder()
	if _, err := fanout.Accept(w, httptest.NewRequest("GET", "/", nil), nil); err == nil || w.Code != http.StatusUpgradeRequired {
		t.Errorf("a plain GET: got %v and %d, want 426", err, w.Code)
	}
}

type middleware struct{ http.ResponseWriter }

func (m middleware) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// Over TLS, below a middleware's writer, with a subprotocol.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := fanout.Accept(middleware{w}, r, &fanout.AcceptOptions{Subprotocols: []string{"chat.v1"}})
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		data, _, err := c.Read()
		if err != nil || c.Subprotocol() != "chat.v1" {
			t.Errorf("Read: %v, subprotocol %q", err, c.Subprotocol())
		}
		if err := c.Write(fanout.AppendFrame(nil, true, data)); err != nil {
			t.Errorf("Write: %v", err)
		}
		c.Close(1000, "done")
		c.Wait()
	}))
	defer srv.Close()
	nc, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := handshake(nc, "Sec-WebSocket-Protocol: other, chat.v1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.send(fanout.OpText, "hi")
	var got []frame
	for range 2 {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	p.send(fanout.OpClose, closing(1000, ""))
	if _, err := p.next(); err != io.EOF {
		t.Errorf("after the close handshake: %v, want a clean end", err)
	}
	if d := cmp.Diff([]frame{{fanout.OpBinary, "hi"}, {fanout.OpClose, closing(1000, "done")}}, got); d != "" {
		t.Errorf("frames (-want +got):\n%s", d)
	}
}

// An eager client sends frames right behind its handshake, in one write.
type eager struct {
	net.Conn
	frames []byte
}

func (e *eager) Write(p []byte) (int, error) {
	_, err := e.Conn.Write(append(p[:len(p):len(p)], e.frames...))
	e.frames = nil
	return len(p), err
}

// What came in with the handshake is read first, however much, and then the rest.
func TestReadWhatCameWithTheHandshake(t *testing.T) {
	for _, size := range []int{0, 1, 300, 600, 3000, 5000, 20000} {
		var frames []byte
		var want []string
		for i := range 3 {
			want = append(want, strings.Repeat(fmt.Sprint(i), size))
			frames = append(frames, masked(0x81, want[i])...)
		}
		l, nc := listenTCP(t)
		c := connectOver(t, nil, l, &eager{nc, frames})
		want = append(want, "later")
		c.peer.send(fanout.OpText, "later")
		c.peer.Close()
		var got []string
		for range want {
			data, _, err := c.Read()
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			got = append(got, string(data))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d bytes (-want +got):\n%s", size, d)
		}
		c.end()
	}
}
