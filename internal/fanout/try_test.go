package fanout_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/fanout"
	"github.com/google/go-cmp/cmp"
)

const boundless = 1 << 30

func joined(payloads ...string) (b []byte) {
	for _, p := range payloads {
		b = fanout.AppendFrame(b, false, []byte(p))
	}
	return b
}

func texts(payloads ...string) (fs []frame) {
	for _, p := range payloads {
		fs = append(fs, frame{fanout.OpText, p})
	}
	return fs
}

// want checks the next frames of the peer's.
func (c pair) want(t *testing.T, why string, want ...frame) {
	t.Helper()
	var got []frame
	for range want {
		f, err := c.peer.next()
		if err != nil {
			t.Fatalf("%s: after %v: %v", why, got, err)
		}
		got = append(got, f)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: frames (-want +got):\n%s", why, d)
	}
}

// discard reads in a goroutine, whose end the returned function waits for and
// returns the error of.
func (c pair) discard() (wait func() error) {
	ended := make(chan error, 1)
	go func() {
		for {
			if _, _, err := c.Read(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() error { return <-ended }
}

// Wherever in a joined write the socket is full, the peer gets each frame whole,
// nothing else is taken before that, and everything afterwards.
func TestTryWriteIntoFullSocket(t *testing.T) {
	b := joined("one", "", strings.Repeat("three", 30))
	for room := range len(b) + 1 {
		synctest.Test(t, func(t *testing.T) {
			c, s := connectSocket(t, nil)
			defer c.end()
			why := fmt.Sprintf("room for %d bytes", room)
			s.set(room)
			if !c.TryWrite(b) {
				t.Fatalf("%s: not taken", why)
			}
			synctest.Wait()
			if s.mu.Lock(); !bytes.Equal(s.sent, b[:room]) {
				t.Errorf("%s: sent %q, want %q", why, s.sent, b[:room])
			}
			s.mu.Unlock()
			if full := room < len(b); full && c.TryWrite(joined("between")) {
				t.Errorf("%s: another write was taken", why)
			}
			s.set(boundless)
			synctest.Wait()
			c.want(t, why, texts("one", "", strings.Repeat("three", 30))...)
			time.Sleep(time.Hour)
			if !c.TryWrite(joined("later")) {
				t.Errorf("%s: not taken later", why)
			}
			c.want(t, why, texts("later")...)
		})
	}
}

// What comes while part of a joined write is out goes behind all of it, and
// nothing behind a close frame.
func TestControlFramesBehindTryWrite(t *testing.T) {
	for _, tt := range []struct {
		why  string
		play func(c pair)
		want []frame
		read error // what Read ends with
	}{
		{"a ping of the heartbeat", func(c pair) {
			c.Heartbeat(time.Second, time.Minute, func() {})
			time.Sleep(1500 * time.Millisecond)
		}, []frame{{fanout.OpPing, ""}}, nil},
		{"a pong of the library's", func(c pair) { c.peer.send(fanout.OpPing, "x") }, []frame{{fanout.OpPong, "x"}}, nil},
		{"a close frame of Close", func(c pair) { c.Close(4000, "bye") }, []frame{{fanout.OpClose, closing(4000, "bye")}}, fanout.ErrClosed},
		{"a close frame of the peer's", func(c pair) { c.peer.send(fanout.OpClose, closing(1001, "away")) },
			[]frame{{fanout.OpClose, closing(1001, "away")}}, fanout.CloseError{Code: 1001, Reason: "away"}},
		{"a ping, and then Close", func(c pair) {
			c.peer.send(fanout.OpPing, "x")
			synctest.Wait()
			c.Close(4000, "bye")
		}, []frame{{fanout.OpPong, "x"}, {fanout.OpClose, closing(4000, "bye")}}, fanout.ErrClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := connectSocket(t, nil)
			defer c.end()
			wait := c.discard()
			s.set(7) // in the second frame
			if !c.TryWrite(joined("one", "two", "three")) {
				t.Fatalf("%s: not taken", tt.why)
			}
			tt.play(c)
			synctest.Wait()
			if s.mu.Lock(); len(s.sent) != 7 {
				t.Errorf("%s: %q is out, want what there was room for", tt.why, s.sent)
			}
			s.mu.Unlock()
			s.set(boundless)
			c.want(t, tt.why, append(texts("one", "two", "three"), tt.want...)...)
			if tt.read == nil {
				return
			}
			if errors.Is(tt.read, fanout.ErrClosed) {
				c.peer.send(fanout.OpClose, tt.want[len(tt.want)-1].Payload)
			}
			if _, err := c.peer.next(); err != io.EOF {
				t.Errorf("%s: behind the close frame came %v, want the end", tt.why, err)
			}
			if err := wait(); err != tt.read {
				t.Errorf("%s: Read: %v, want %v", tt.why, err, tt.read)
			}
		})
	}
}

// A socket that stays full doesn't hold up the end, and Wait waits for whoever
// writes the rest.
func TestCloseWhileTryWriteWaits(t *testing.T) {
	const notice = time.Millisecond
	for _, tt := range []struct {
		why  string
		play func(c pair)
		want time.Duration
	}{
		{"Close gives it a second", func(c pair) { c.Close(1001, "") }, time.Second},
		{"a cut gives it nothing", func(c pair) { c.Close(fanout.CloseAbnormal, "") }, 0},
		{"a close frame of the peer's", func(c pair) {
			c.peer.send(fanout.OpClose, closing(1000, ""))
			synctest.Wait()
			c.Close(1000, "")
		}, time.Second},
		{"the end of the peer's", func(c pair) {
			c.peer.Close()
			synctest.Wait()
			c.Close(fanout.CloseAbnormal, "")
		}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := connectSocket(t, nil)
			defer c.end()
			s.notice = notice
			wait := c.discard()
			s.set(1)
			if !c.TryWrite(joined("one")) {
				t.Fatalf("%s: not taken", tt.why)
			}
			start := time.Now()
			tt.play(c)
			c.Wait()
			if d := time.Since(start); d != tt.want+notice {
				t.Errorf("%s: Wait returned after %v, want %v and the %v in which a write learns of it", tt.why, d, tt.want, notice)
			}
			wait()
			if c.TryWrite(joined("two")) {
				t.Errorf("%s: a later one was taken", tt.why)
			}
			if err := c.Write(joined("two")); err != fanout.ErrClosed {
				t.Errorf("%s: a later Write: %v, want ErrClosed", tt.why, err)
			}
		})
	}
}

// The rest has WriteTimeout from when the socket was full, and no longer.
func TestTryWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := connectSocket(t, &fanout.AcceptOptions{WriteTimeout: 3 * time.Second})
		defer c.end()
		wait := c.discard()
		s.set(1)
		start := time.Now()
		if !c.TryWrite(joined("one")) {
			t.Fatal("not taken")
		}
		if err := c.Write(joined("two")); err != fanout.ErrSlow { // waits behind it
			t.Errorf("Write: %v, want ErrSlow", err)
		}
		if err := wait(); err != fanout.ErrSlow {
			t.Errorf("Read: %v, want ErrSlow", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v, want 3s", d)
		}
		s.set(boundless)
		if c.TryWrite(joined("three")) {
			t.Error("TryWrite after that was taken")
		}
		if err := c.Write(joined("three")); err != fanout.ErrSlow {
			t.Errorf("Write after that: %v, want ErrSlow", err)
		}
		if b, err := io.ReadAll(c.peer); string(b) != "\x81" || err != nil {
			t.Errorf("the peer got %q, %v; want what there was room for, and the end", b, err)
		}
	})
}

// A write that had to wait leaves no deadline behind, which a later try would
// fail at.
func TestTryWriteAfterAnOldDeadline(t *testing.T) {
	for _, tt := range []struct {
		why  string
		play func(c pair)
		want []frame
	}{
		{"a Write", func(c pair) { c.Write(joined("one")) }, texts("one")},
		{"a TryWrite", func(c pair) { c.TryWrite(joined("one")) }, texts("one")},
		{"a pong", func(c pair) { c.peer.send(fanout.OpPing, "x") }, []frame{{fanout.OpPong, "x"}}},
		{"a pong behind a TryWrite", func(c pair) {
			c.TryWrite(joined("one"))
			c.peer.send(fanout.OpPing, "x")
		}, []frame{{fanout.OpText, "one"}, {fanout.OpPong, "x"}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := connectSocket(t, nil)
			wait := c.discard()
			s.set(1)
			var wg sync.WaitGroup
			wg.Go(func() { tt.play(c) })
			synctest.Wait()
			time.Sleep(time.Second)
			s.set(boundless)
			wg.Wait()
			c.want(t, tt.why, tt.want...)
			time.Sleep(time.Hour)
			if !c.TryWrite(joined("later")) {
				t.Errorf("%s: TryWrite an hour later is refused; Write: %v", tt.why, c.Write(nil))
			} else {
				c.want(t, tt.why, texts("later")...)
			}
			c.end()
			wait()
		})
	}
}

// A TryWrite overtakes no Write that waits, and the other way round.
func TestTryWriteKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := connectSocket(t, nil)
		defer c.end()
		for range 300 {
			s.set(3)
			if !c.TryWrite(joined("first")) {
				t.Fatal("not taken")
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := c.Write(joined("second")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if c.TryWrite(joined("third")) {
				t.Error("taken while one waits")
			}
			s.set(boundless)
			for !c.TryWrite(joined("third")) {
				runtime.Gosched()
			}
			wg.Wait()
			c.want(t, "Write behind TryWrite", texts("first", "second", "third")...)

			s.set(3)
			wg.Go(func() {
				if err := c.Write(joined("first")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if c.TryWrite(joined("second")) {
				t.Error("taken while a Write is half out")
			}
			s.set(boundless)
			for !c.TryWrite(joined("second")) {
				runtime.Gosched()
			}
			wg.Wait()
			c.want(t, "TryWrite behind Write", texts("first", "second")...)
		}
	})
}

// After the end TryWrite is false and Write says why; where nothing can be
// written without waiting it is false and Write writes.
func TestTryWriteRefuses(t *testing.T) {
	for _, tt := range []struct {
		why  string
		play func(c pair, s *socket)
		want error
	}{
		{"Close was called", func(c pair, _ *socket) { c.Close(1000, "") }, fanout.ErrClosed},
		{"the peer's close frame was answered", func(c pair, _ *socket) {
			wait := c.discard()
			c.peer.send(fanout.OpClose, closing(1000, ""))
			wait()
		}, fanout.ErrClosed},
		{"a try failed", func(c pair, s *socket) {
			s.fail(syscall.EPIPE)
			if c.TryWrite(joined("x")) {
				t.Error("a try that failed was taken")
			}
			s.fail(nil)
		}, fanout.ErrLost},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := connectSocket(t, nil)
			defer c.end()
			tt.play(c, s)
			if c.TryWrite(joined("x")) {
				t.Errorf("%s: taken", tt.why)
			}
			if err := c.Write(joined("x")); !errors.Is(err, tt.want) {
				t.Errorf("%s: Write: %v, want %v", tt.why, err, tt.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, nil, true)
		defer c.end()
		if c.TryWrite(joined("x")) {
			t.Error("a pipe: taken")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Write(joined("x")); err != nil {
				t.Errorf("a pipe: Write: %v", err)
			}
		})
		c.want(t, "a pipe", texts("x")...)
		wg.Wait()
	})
}

// A TLS connection is not written to below TLS.
func TestTryWriteOverTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := fanout.Accept(w, r, nil)
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		if c.TryWrite(joined("try")) {
			t.Error("taken")
		}
		if err := c.Write(joined("write")); err != nil {
			t.Errorf("Write: %v", err)
		}
		c.Close(1000, "")
		c.Wait()
	}))
	defer srv.Close()
	nc, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := handshake(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pair{peer: p}.want(t, "over TLS", frame{fanout.OpText, "write"}, frame{fanout.OpClose, closing(1000, "")})
}

// A narrow listener's TCP connections hold little that is not read yet.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		err = nc.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return nc, err
}

// connectTCP serves one connection over TCP that can be written to without
// waiting.
func connectTCP(t testing.TB, o *fanout.AcceptOptions) pair {
	t.Helper()
	l, nc := listenTCP(t)
	return connectOver(t, o, narrow{l}, nc)
}

// TryWrites of joined frames race with Writes, pings of both sides' and a socket
// that is often full, over TCP: each frame is whole, each writer's are in order,
// none is missing.
func TestTryWritesNeverMix(t *testing.T) {
	const writers, each, pings = 3, 2000, 300
	for seed := range uint64(3) {
		var wg sync.WaitGroup
		c := connectTCP(t, nil)
		wait := c.discard()
		c.Heartbeat(time.Millisecond, time.Minute, func() { t.Error("lost") })
		for w := range writers {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			wg.Go(func() {
				for i := 0; i < each; {
					var b []byte
					for range 1 + rnd.IntN(4) {
						if i < each {
							b = fanout.AppendFrame(b, false, fmt.Appendf(nil, "%d %d %s", w, i, strings.Repeat("x", i%700)))
							i++
						}
					}
					if w > 0 && c.TryWrite(b) { // the first always waits
						continue
					}
					if err := c.Write(b); err != nil {
						t.Errorf("seed %d: writer %d: %v", seed, w, err)
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
		next, data, pong := [writers]int{}, 0, -1
		for data < writers*each || pong < pings-1 {
			f, err := c.peer.next()
			if err != nil {
				t.Fatalf("seed %d: after %d data frames: %v", seed, data, err)
			}
			switch f.Op {
			case fanout.OpText:
				var w, i int
				var rest string
				fmt.Sscan(f.Payload, &w, &i, &rest)
				if i != next[w] || rest != strings.Repeat("x", i%700) {
					t.Fatalf("seed %d: writer %d: frame %d of %d bytes, want %d whole", seed, w, i, len(f.Payload), next[w])
				}
				next[w]++
				data++
			case fanout.OpPong:
				var i int
				fmt.Sscan(f.Payload, &i)
				if i <= pong {
					t.Fatalf("seed %d: pong %d after %d", seed, i, pong)
				}
				pong = i
			case fanout.OpPing:
				if err := c.peer.send(fanout.OpPong, f.Payload); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatalf("seed %d: frame of opcode %d", seed, f.Op)
			}
		}
		wg.Wait()
		c.end()
		wait()
	}
}

// Close, whenever it comes among TryWrites, leaves whole frames, in order from
// the first, and then its close frame, over TCP.
func TestCloseAmongTryWrites(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		c := connectTCP(t, nil)
		wait := c.discard()
		var wg sync.WaitGroup
		size := rnd.IntN(3000)
		wg.Go(func() {
			for i := 0; ; i++ {
				b := joined(fmt.Sprint(i, " ", strings.Repeat("x", size)))
				if c.TryWrite(b) {
					continue
				}
				if err := c.Write(b); err != nil {
					if err != fanout.ErrClosed {
						t.Errorf("seed %d: Write: %v", seed, err)
					}
					return
				}
			}
		})
		when := rnd.IntN(100)
		for i := 0; ; i++ {
			if i == when {
				c.Close(4000, "enough")
			}
			f, err := c.peer.next()
			if err != nil {
				t.Fatalf("seed %d: after %d frames: %v", seed, i, err)
			}
			if f.Op == fanout.OpClose {
				c.peer.send(fanout.OpClose, f.Payload)
				break
			}
			if want := fmt.Sprint(i, " ", strings.Repeat("x", size)); f.Payload != want {
				t.Fatalf("seed %d: frame %d is %.20q of %d bytes", seed, i, f.Payload, len(f.Payload))
			}
		}
		if f, err := c.peer.next(); err != io.EOF {
			t.Errorf("seed %d: behind the close frame: %v, %v", seed, f, err)
		}
		wg.Wait()
		c.end()
		wait()
	}
}

// A peer that resets its connection is lost, over TCP.
func TestTryWriteAfterReset(t *testing.T) {
	c := connectTCP(t, nil)
	defer c.end()
	wait := c.discard()
	if err := c.peer.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.peer.Close()
	if err := wait(); !errors.Is(err, fanout.ErrLost) {
		t.Errorf("Read: %v, want ErrLost", err)
	}
	if c.TryWrite(joined("x")) {
		t.Error("taken")
	}
	if err := c.Write(joined("x")); !errors.Is(err, fanout.ErrLost) && err != fanout.ErrClosed {
		t.Errorf("Write: %v, want ErrLost", err)
	}
}

// drain makes the peer take what comes, until the connection's end.
func (c pair) drain(wg *sync.WaitGroup) {
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.peer.Conn.Read(buf); err != nil {
				return
			}
		}
	})
}

func TestTryWriteAllocatesNothing(t *testing.T) {
	l, nc := listenTCP(t)
	c := connectOver(t, nil, l, nc) // a narrow one has room for a few more than are written here
	var wg sync.WaitGroup
	c.drain(&wg)
	b := joined("a little that there is always room for")
	if n := testing.AllocsPerRun(20, func() {
		if !c.TryWrite(b) {
			t.Error("not taken")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	c.end()
	wg.Wait()
}

// What a write of one frame of 64 bytes costs over TCP, next to a bare one.
func BenchmarkTryWrite(b *testing.B) {
	frame := joined(strings.Repeat("x", 64))
	bare := func(b *testing.B) (write func(p []byte) (int, error), end func()) {
		l, there := listenTCP(b)
		here, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		pair{peer: &peer{Conn: there}}.drain(&wg)
		return here.Write, func() {
			here.Close()
			wg.Wait()
			there.Close()
			l.Close()
		}
	}
	conn := func(b *testing.B) (c pair, end func()) {
		l, nc := listenTCP(b)
		c = connectOver(b, nil, l, nc)
		var wg sync.WaitGroup
		c.drain(&wg)
		return c, func() {
			c.end()
			wg.Wait()
		}
	}
	b.Run("net.Conn", func(b *testing.B) {
		b.ReportAllocs()
		write, end := bare(b)
		defer end()
		for b.Loop() {
			if _, err := write(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Write", func(b *testing.B) {
		b.ReportAllocs()
		c, end := conn(b)
		defer end()
		for b.Loop() {
			if err := c.Write(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("TryWrite", func(b *testing.B) {
		b.ReportAllocs()
		c, end := conn(b)
		defer end()
		waits := 0
		for b.Loop() {
			if c.TryWrite(frame) {
				continue
			}
			waits++ // the socket was full
			if err := c.Write(frame); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(waits)/float64(b.N), "waits/op")
	})
}
