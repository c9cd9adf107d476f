package fanout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/fanout"
	"github.com/google/go-cmp/cmp"
)

// A message is what Next or Read gave, where Err is one of the package's.
type message struct {
	Data   string
	Binary bool
	Err    error
}

func received(data []byte, binary bool, err error) message {
	if errors.Is(err, fanout.ErrLost) {
		err = fanout.ErrLost
	}
	return message{string(data), binary, err}
}

func (c pair) read() message { return received(c.Read()) }

func (c pair) next() (m message) {
	c.Next(func(data []byte, binary bool, err error) { m = received(data, binary, err) })
	return m
}

func data(payloads ...string) (ms []message) {
	for _, p := range payloads {
		ms = append(ms, message{Data: p})
	}
	return ms
}

var sameError = cmp.Comparer(func(a, b error) bool { return a == b })

// A way is a kind of connection, by how it is waited on for the next message.
type way struct {
	name   string
	bubble bool
	make   func(t *testing.T, o *fanout.AcceptOptions) pair
	stack  string // of a goroutine that waits in Next
}

// An awaitedListener's connections are Awaited.
type awaitedListener struct{ net.Listener }

func (l awaitedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return fanout.Awaited{Conn: nc}, err
}

func connectAwaited(t *testing.T, o *fanout.AcceptOptions) pair {
	t.Helper()
	l := newPipeListener()
	return connectOver(t, o, awaitedListener{l}, l.dial())
}

var ways = []way{
	{"a pipe, by the library", true, func(t *testing.T, o *fanout.AcceptOptions) pair { return connect(t, o, true) }, "fanout.(*wire).Read("},
	{"a pipe, awaited", true, connectAwaited, "fanout.Awaited.await("},
	{"TCP", false, func(t *testing.T, o *fanout.AcceptOptions) pair { return connectTCP(t, o) }, "fanout.(*socket).await("},
}

// each calls f for each way, in a bubble if the way is one for bubbles.
func each(t *testing.T, f func(t *testing.T, w way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			if w.bubble {
				synctest.Test(t, func(t *testing.T) { f(t, w) })
				return
			}
			f(t, w)
		})
	}
}

const guard = time.Minute // only against hanging

// settle waits until somebody waits at stack, or in a bubble until everybody waits.
func (w way) settle(t *testing.T, stack string) {
	t.Helper()
	if w.bubble {
		synctest.Wait()
	}
	for start := time.Now(); !waits(stack); runtime.Gosched() {
		if w.bubble || time.Since(start) > guard {
			t.Fatalf("nobody waits in %s", stack)
		}
	}
}

// waits reports whether a goroutine that waits has a call of fn on its stack.
func waits(fn string) bool {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range bytes.Split(buf, []byte("\n\n")) {
		state, _, _ := bytes.Cut(g, []byte("\n"))
		if bytes.Contains(g, []byte(fn)) && (bytes.Contains(state, []byte("[IO wait")) || bytes.Contains(state, []byte("[select"))) {
			return true
		}
	}
	return false
}

// frames reads what the peer gets, until a close frame, which it doesn't answer,
// or the end. The returned function waits for that.
func (c pair) frames() (wait func() []frame) {
	var got []frame
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			f, err := c.peer.next()
			if err != nil {
				return
			}
			if got = append(got, f); f.Op == fanout.OpClose {
				return
			}
		}
	})
	return func() []frame { wg.Wait(); return got }
}

// Whatever comes while Next waits, Next gives what Read would, and the peer is
// told the same.
func TestNext(t *testing.T) {
	const end, reset = "end", "reset" // instead of what is sent
	pong := func(payload string) string { return string(masked(0x8A, payload)) }
	text := func(payload string) string { return string(masked(0x81, payload)) }
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		why  string
		send []string // one write each
		want []message
	}{
		{"a message", []string{text("hällo")}, data("hällo")},
		{"messages in one write", []string{text("a") + text("") + text(long) + text("c")}, data("a", "", long, "c")},
		{"messages in a write each", []string{text("a"), text(""), text(long), text("c")}, data("a", "", long, "c")},
		{"text, then binary", []string{text("a") + string(masked(0x82, "\xff"))}, []message{{Data: "a"}, {Data: "\xff", Binary: true}}},
		{"more than is read at one time", []string{strings.Repeat(text(long), 200)}, slices.Repeat(data(long), 200)},
		{"a fragmented message with a ping and a pong in its middle",
			[]string{string(masked(0x01, "ab")) + string(masked(0x89, "p")) + pong("") + string(masked(0x80, "cd"))}, data("abcd")},
		{"pongs alone, and the end", []string{pong(""), pong("x") + pong(long), end}, []message{{Err: fanout.ErrLost}}},
		{"pongs before, between and behind messages",
			[]string{pong("x"), pong("") + pong("y") + text("a") + pong("z") + text("b") + pong(""), pong("") + text("c")}, data("a", "b", "c")},
		{"a pong in two pieces", []string{pong("hello")[:8], pong("hello")[8:] + text("a")}, data("a")},
		{"a pong and a half", []string{pong("") + pong("")[:1], pong("")[1:], text("a")}, data("a")},
		{"the longest pong", []string{pong(strings.Repeat("x", 125)) + text("a")}, data("a")},
		{"a ping before a message", []string{string(masked(0x89, "p")) + text("a")}, data("a")},
		{"a ping, and a message later", []string{string(masked(0x89, "p")), text("a")}, data("a")},
		{"a ping behind a pong", []string{pong("x") + string(masked(0x89, "p")) + pong("y") + text("a")}, data("a")},
		{"an unmasked pong", []string{"\x8a\x00"}, []message{{Err: fanout.ErrProtocol}}},
		{"an unmasked pong with a payload as long as a mask", []string{"\x8a\x04abcd" + text("a")}, []message{{Err: fanout.ErrProtocol}}},
		{"a pong that is too long", []string{string(masked(0x8A, strings.Repeat("x", 126))) + text("a")}, []message{{Err: fanout.ErrProtocol}}},
		{"a pong that is much too long", []string{string(masked(0x8A, strings.Repeat("x", 70000)))}, []message{{Err: fanout.ErrProtocol}}},
		{"a pong in fragments", []string{string(masked(0x0A, "x")) + string(masked(0x80, "y"))}, []message{{Err: fanout.ErrProtocol}}},
		{"a pong with a reserved bit", []string{string(masked(0xCA, "x"))}, []message{{Err: fanout.ErrProtocol}}},
		{"a bad pong behind a good one", []string{pong("x") + "\x8a\x00"}, []message{{Err: fanout.ErrProtocol}}},
		{"an unmasked pong before messages that are long", []string{"\x8a\x00" + text(long) + text(long)}, []message{{Err: fanout.ErrProtocol}}},
		{"an unmasked message", []string{"\x81\x02hi"}, []message{{Err: fanout.ErrProtocol}}},
		{"exactly the limit", []string{text(long)}, data(long)},
		{"over the limit", []string{text(long + "x")}, []message{{Err: fanout.ErrTooBig}}},
		{"over the limit in pieces, behind a good one",
			[]string{text("a") + string(masked(0x01, long)), string(masked(0x80, "x"))}, []message{{Data: "a"}, {Err: fanout.ErrTooBig}}},
		{"text that is not utf-8", []string{text("a\xff")}, []message{{Err: fanout.ErrNotUTF8}}},
		{"a close frame", []string{string(masked(0x88, closing(1001, "away")))}, []message{{Err: fanout.CloseError{Code: 1001, Reason: "away"}}}},
		{"a message, a pong and a close frame", []string{text("a") + pong("") + string(masked(0x88, closing(4000, "")))},
			[]message{{Data: "a"}, {Err: fanout.CloseError{Code: 4000}}}},
		{"a close frame without a code", []string{string(masked(0x88, ""))}, []message{{Err: fanout.CloseError{Code: 1005}}}},
		{"the end", []string{end}, []message{{Err: fanout.ErrLost}}},
		{"the end behind a message", []string{text("a"), end}, []message{{Data: "a"}, {Err: fanout.ErrLost}}},
		{"the end in a header", []string{text("a") + "\x81", end}, []message{{Data: "a"}, {Err: fanout.ErrLost}}},
		{"the end in a payload", []string{"\x81\x85\x01\x02\x03\x04x", end}, []message{{Err: fanout.ErrLost}}},
		{"the end in a pong", []string{pong("hello")[:8], end}, []message{{Err: fanout.ErrLost}}},
		{"a reset", []string{reset}, []message{{Err: fanout.ErrLost}}},
	} {
		each(t, func(t *testing.T, w way) {
			play := func(receive func(c pair) message, stack string) (got []message, told []frame) {
				c := w.make(t, &fanout.AcceptOptions{MaxMessage: 100})
				defer c.end()
				frames := c.frames()
				var wg sync.WaitGroup
				wg.Go(func() {
					for range tt.want {
						got = append(got, receive(c))
					}
				})
				w.settle(t, stack)
				for _, s := range tt.send {
					switch s {
					case reset:
						if nc, ok := c.peer.Conn.(*net.TCPConn); ok {
							nc.SetLinger(0)
						}
						fallthrough
					case end:
						c.peer.Close()
					default:
						io.WriteString(c.peer, s) // fails where it is refused before its end
						if w.bubble {
							synctest.Wait() // so that the next piece comes by itself
						}
					}
				}
				wg.Wait()
				c.Close(1000, "")
				return got, frames()
			}
			read, toldRead := play(pair.read, "fanout.(*wire).Read(")
			next, toldNext := play(pair.next, w.stack)
			if d := cmp.Diff(tt.want, read, sameError); d != "" {
				t.Errorf("%s: Read (-want +got):\n%s", tt.why, d)
			}
			if d := cmp.Diff(tt.want, next, sameError); d != "" {
				t.Errorf("%s: Next (-want +got):\n%s", tt.why, d)
			}
			if d := cmp.Diff(toldRead, toldNext); d != "" {
				t.Errorf("%s: what the peer is told (-Read +Next):\n%s", tt.why, d)
			}
		})
	}
}

// A stream of all kinds of frames, in two pieces at every point, also within a
// header, and byte by byte.
func TestNextInPieces(t *testing.T) {
	var stream []byte
	for _, f := range [][]byte{
		masked(0x8A, ""), masked(0x81, "a"), masked(0x8A, "xyz"), masked(0x89, "p"), masked(0x82, strings.Repeat("b", 130)),
		masked(0x8A, "x"), masked(0x01, "ab"), masked(0x89, "q"), masked(0x8A, ""), masked(0x80, "cd"), masked(0x81, ""),
		masked(0x8A, strings.Repeat("y", 125)), masked(0x8A, "z"),
	} {
		stream = append(stream, f...)
	}
	want := []message{{Data: "a"}, {Data: strings.Repeat("b", 130), Binary: true}, {Data: "abcd"}, {}}
	each(t, func(t *testing.T, w way) {
		c := w.make(t, nil)
		defer c.end()
		got := make(chan message)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for m := c.next(); ; m = c.next() {
				if got <- m; m.Err != nil {
					return
				}
			}
		})
		round := func(why string, pieces [][]byte) {
			var wg sync.WaitGroup
			var ms []message
			wg.Go(func() {
				for _, p := range pieces {
					if _, err := c.peer.Write(p); err != nil {
						t.Errorf("%s: %v", why, err)
					}
				}
			})
			wg.Go(func() {
				for range want {
					ms = append(ms, <-got)
				}
			})
			c.want(t, why, frame{fanout.OpPong, "p"}, frame{fanout.OpPong, "q"})
			wg.Wait()
			if d := cmp.Diff(want, ms, sameError); d != "" {
				t.Errorf("%s (-want +got):\n%s", why, d)
			}
		}
		for i := range stream {
			round(fmt.Sprint("in two at ", i), [][]byte{stream[:i], stream[i:]})
		}
		round("byte by byte", slices.Collect(slices.Chunk(stream, 1)))
		c.Close(fanout.CloseAbnormal, "")
		if m := <-got; m.Err != fanout.ErrClosed {
			t.Errorf("after Close: %v", m)
		}
	})
}

// Pongs don't make Next leave the socket for the library's reader.
func TestNextWaitsOnTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connectAwaited(t, nil)
		defer c.end()
		got := make(chan message, 1)
		for _, send := range [][]byte{masked(0x8A, ""), masked(0x8A, "x"), append(masked(0x8A, "x"), masked(0x8A, strings.Repeat("x", 125))...)} {
			go func() { got <- c.next() }()
			for range 3 {
				if _, err := c.peer.Write(send); err != nil {
					t.Fatal(err)
				}
				ways[1].settle(t, ways[1].stack)
			}
			c.peer.send(fanout.OpText, "a")
			if m := <-got; m != (message{Data: "a"}) {
				t.Errorf("got %v", m)
			}
		}
	})
}

// Next counts as reading: silence is noticed after exactly interval + timeout,
// and a peer that answers pings stays.
func TestNextHeartbeat(t *testing.T) {
	const interval, timeout = 25 * time.Second, 20 * time.Second
	for _, tt := range []struct {
		why   string
		play  func(c pair) // the peer's part besides answering
		pongs int          // pings that the peer answers
		until time.Duration
	}{
		{"silence from the start", func(pair) {}, 0, interval + timeout},
		{"ten pongs, then silence", func(pair) {}, 10, 10*interval + interval + timeout},
		{"a text", func(c pair) { time.Sleep(10 * time.Second); c.peer.send(fanout.OpText, "x") }, 0, 10*time.Second + interval + timeout},
		{"half a pong", func(c pair) { time.Sleep(40 * time.Second); c.peer.Write([]byte{0x8A}) }, 0, 40*time.Second + interval + timeout},
	} {
		for _, w := range ways[:2] {
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				defer wg.Wait()
				c := w.make(t, nil)
				defer c.end()
				wg.Go(func() {
					pings := 0
					for f, err := c.peer.next(); err == nil; f, err = c.peer.next() {
						if f.Op == fanout.OpPing && pings < tt.pongs {
							pings++
							c.peer.send(fanout.OpPong, f.Payload)
						}
					}
				})
				wg.Go(func() { tt.play(c) })
				start := time.Now()
				var lost atomic.Int64
				c.Heartbeat(interval, timeout, func() {
					lost.Store(int64(time.Since(start)))
					c.Close(4000, "ping timeout")
				})
				defer time.AfterFunc(time.Hour, func() { c.Close(fanout.CloseAbnormal, "") }).Stop()
				m := c.next()
				for m.Err == nil {
					m = c.next()
				}
				if d := time.Since(start); m.Err != fanout.ErrClosed || d != tt.until {
					t.Errorf("%s: %s: %v after %v, want ErrClosed after %v", w.name, tt.why, m.Err, d, tt.until)
				}
				if d := time.Duration(lost.Load()); d != tt.until {
					t.Errorf("%s: %s: lost after %v, want %v", w.name, tt.why, d, tt.until)
				}
				c.Wait()
			})
		}
	}
}

// The same over TCP: a second ping only comes if the first one's pong was seen.
func TestNextHeartbeatTCP(t *testing.T) {
	c := connectTCP(t, nil)
	got := make(chan message, 1)
	go func() { got <- c.next() }()
	c.Heartbeat(time.Millisecond, guard, func() { t.Error("a peer that answers is lost") })
	for range 50 {
		c.want(t, "an answer to each ping", frame{Op: fanout.OpPing})
		c.peer.send(fanout.OpPong, "")
	}
	c.peer.send(fanout.OpText, "a")
	if m := <-got; m != (message{Data: "a"}) {
		t.Errorf("got %v", m)
	}
	c.end()

	c = connectTCP(t, nil)
	c.Heartbeat(time.Millisecond, time.Millisecond, func() { c.Close(4000, "ping timeout") })
	go func() { got <- c.next() }()
	select {
	case m := <-got:
		if m.Err != fanout.ErrClosed {
			t.Errorf("got %v, want ErrClosed", m)
		}
	case <-time.After(guard):
		t.Error("a silent peer is not lost")
	}
	c.end()
}

// Close while Next waits: the close frame goes out, what was under way is
// dropped, the peer's answer is taken, and nothing remains.
func TestCloseWhileNextWaits(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		for _, under := range []string{"", string(masked(0x81, "late")), string(masked(0x8A, "")), string(masked(0x8A, "")) + string(masked(0x81, "late"))} {
			c := w.make(t, nil)
			got := make(chan message, 1)
			go func() { got <- c.next() }()
			w.settle(t, w.stack)
			start := time.Now()
			c.Close(4001, "bye")
			c.want(t, "Close", frame{fanout.OpClose, closing(4001, "bye")})
			io.WriteString(c.peer, under)
			c.peer.send(fanout.OpClose, closing(4001, "bye"))
			if f, err := c.peer.next(); err != io.EOF {
				t.Errorf("after the answer: %+v, %v; want the end", f, err)
			}
			if m := <-got; m.Err != fanout.ErrClosed {
				t.Errorf("Next: %v, want ErrClosed", m)
			}
			c.Wait()
			if m := c.next(); m.Err != fanout.ErrClosed {
				t.Errorf("a later Next: %v, want ErrClosed", m)
			}
			if d := time.Since(start); w.bubble && d != 0 {
				t.Errorf("took %v of waiting, want none", d)
			}
			c.end()
		}
	})
}

// However the peer behaves, Next ends soon after Close.
func TestCloseWhileNextWaitsIsBounded(t *testing.T) {
	for _, w := range ways[:2] {
		for _, tt := range []struct {
			why  string
			code int
			pong bool // the peer sends one a tenth of a second
			want time.Duration
		}{
			{"a peer that never answers", 1001, false, time.Second},
			{"a peer that only sends pongs", 1001, true, time.Second},
			{"a cut", fanout.CloseAbnormal, false, 0},
		} {
			synctest.Test(t, func(t *testing.T) {
				c := w.make(t, nil)
				var wg sync.WaitGroup
				wg.Go(func() { io.Copy(io.Discard, c.peer) })
				var m message
				wg.Go(func() { m = c.next() })
				w.settle(t, w.stack)
				if tt.pong {
					wg.Go(func() {
						for c.peer.send(fanout.OpPong, "") == nil {
							time.Sleep(100 * time.Millisecond)
						}
					})
				}
				start := time.Now()
				c.Close(tt.code, "")
				c.Wait()
				d := time.Since(start)
				wg.Wait()
				if d != tt.want || m.Err != fanout.ErrClosed {
					t.Errorf("%s: %s: %v after %v, want ErrClosed after %v", w.name, tt.why, m.Err, d, tt.want)
				}
				c.end()
			})
		}
	}
	c := connectTCP(t, nil)
	got := make(chan message, 1)
	go func() { got <- c.next() }()
	ways[2].settle(t, ways[2].stack)
	c.Close(fanout.CloseAbnormal, "")
	c.Wait()
	if m := <-got; m.Err != fanout.ErrClosed {
		t.Errorf("TCP: a cut: %v, want ErrClosed", m)
	}
	c.end()
}

// What came in with the handshake is next, and then the rest, wherever it is cut.
func TestNextWhatCameWithTheHandshake(t *testing.T) {
	for _, size := range []int{0, 1, 300, 600, 5000, 20000} {
		frames, want := masked(0x8A, "x"), []message{}
		for i := range 3 {
			p := strings.Repeat(fmt.Sprint(i), size)
			want = append(want, message{Data: p})
			frames = append(append(frames, masked(0x81, p)...), masked(0x8A, "x")...)
		}
		for _, cut := range []int{0, 1, 7, 8, 9, len(frames) / 2, len(frames) - 1, len(frames)} {
			l, nc := listenTCP(t)
			c := connectOver(t, nil, l, &eager{nc, frames[:cut]})
			var wg sync.WaitGroup
			wg.Go(func() {
				c.peer.Write(frames[cut:])
				c.peer.send(fanout.OpText, "later")
				c.peer.Close()
			})
			var got []message
			for range len(want) + 2 {
				got = append(got, c.next())
			}
			all := append(slices.Clone(want), message{Data: "later"}, message{Err: fanout.ErrLost})
			if d := cmp.Diff(all, got, sameError); d != "" {
				t.Errorf("3 of %d bytes, cut at %d (-want +got):\n%s", size, cut, d)
			}
			wg.Wait()
			c.end()
		}
	}
}

// Frames of all kinds in writes of any size, received by Next and Read in turns,
// on several connections at the same time: each gets its own messages, in order,
// and an answer to each ping.
func TestNextAndReadRandomly(t *testing.T) {
	const conns, frames = 6, 50
	sizes := []int{0, 1, 5, 125, 126, 500, 513, 1500, 4096, 9000}
	for seed := range uint64(3) {
		each(t, func(t *testing.T, w way) {
			var wg sync.WaitGroup
			var cs []pair
			for i := range conns {
				c := w.make(t, nil)
				cs = append(cs, c)
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				var stream []byte
				var want []message
				var answers []frame
				control := func() {
					p := fmt.Sprint(rnd.Uint64())[:rnd.IntN(8)]
					if op := byte(fanout.OpPing); rnd.IntN(3) == 0 {
						answers = append(answers, frame{fanout.OpPong, p})
						stream = append(stream, masked(0x80|op, p)...)
					} else {
						stream = append(stream, masked(0x8A, p)...)
					}
				}
				for n := range frames {
					for rnd.IntN(2) == 0 {
						control()
					}
					p := strings.Repeat(fmt.Sprintf("%d %d ", i, n), 9000/4+1)[:sizes[rnd.IntN(len(sizes))]]
					op, cut := byte(1+rnd.IntN(2)), 0
					if rnd.IntN(4) == 0 {
						cut = rnd.IntN(len(p) + 1)
						stream = append(stream, masked(op, p[:cut])...)
						control()
						stream = append(stream, masked(0x80, p[cut:])...)
					} else {
						stream = append(stream, masked(0x80|op, p)...)
					}
					want = append(want, message{Data: p, Binary: op == fanout.OpBinary})
				}
				wg.Go(func() {
					for n, want := range answers {
						if f, err := c.peer.next(); f != want {
							t.Errorf("seed %d: conn %d: answer %d to a ping is %v, %v, want %v", seed, i, n, f, err, want)
							return
						}
					}
				})
				turns := rand.New(rand.NewPCG(seed, uint64(i)+100))
				wg.Go(func() {
					for n, want := range want {
						receive := pair.next
						if turns.IntN(4) == 0 {
							receive = pair.read
						}
						if got := receive(c); got != want {
							t.Errorf("seed %d: conn %d: message %d is %.20q of %d bytes, %v, %v, want %.20q of %d bytes",
								seed, i, n, got.Data, len(got.Data), got.Binary, got.Err, want.Data, len(want.Data))
							c.Close(fanout.CloseAbnormal, "")
							return
						}
					}
				})
				wg.Go(func() {
					for len(stream) > 0 {
						n := min(1+rnd.IntN(1<<rnd.IntN(14)), len(stream))
						if _, err := c.peer.Write(stream[:n]); err != nil {
							return
						}
						stream = stream[n:]
					}
				})
			}
			wg.Wait()
			for _, c := range cs {
				c.end()
			}
		})
	}
}

func TestCutPongs(t *testing.T) {
	pong := func(n int) string { return string(masked(0x8A, strings.Repeat("x", n))) }
	for _, tt := range []struct{ why, in, want string }{
		{"nothing", "", ""},
		{"a pong", pong(3), ""},
		{"an empty one", pong(0), ""},
		{"the longest", pong(125), ""},
		{"several", pong(0) + pong(125) + pong(1), ""},
		{"a message behind", pong(2) + "\x81", "\x81"},
		{"a pong behind a message", "\x81" + pong(2), "\x81" + pong(2)},
		{"a pong without its last byte", pong(1) + pong(3)[:8], pong(3)[:8]},
		{"the first byte of one", pong(1) + "\x8a", "\x8a"},
		{"a header without its payload", pong(5)[:6], pong(5)[:6]},
		{"a header without its mask", pong(0)[:5], pong(0)[:5]},
		{"unmasked", "\x8a\x04abcdefgh", "\x8a\x04abcdefgh"},
		{"unmasked, with enough behind", "\x8a\x04" + pong(125) + pong(125), "\x8a\x04" + pong(125) + pong(125)},
		{"too long", pong(126), pong(126)},
		{"longer still", pong(70000), pong(70000)},
		{"not the last fragment", "\x0a" + pong(2)[1:], "\x0a" + pong(2)[1:]},
		{"a reserved bit", "\xca" + pong(2)[1:], "\xca" + pong(2)[1:]},
		{"a ping", string(masked(0x89, "x")), string(masked(0x89, "x"))},
	} {
		if got := fanout.CutPongs([]byte(tt.in)); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

// Pongs in front make no difference, what is left is the end of what was there,
// and nothing that isn't a pong is cut.
func FuzzCutPongs(f *testing.F) {
	f.Add([]byte{0, 125, 3}, []byte("\x81\x80abcd"))
	f.Add([]byte{1}, []byte("\x8a\x82abcd"))
	f.Fuzz(func(t *testing.T, lens, rest []byte) {
		want := fanout.CutPongs(rest)
		if !bytes.HasSuffix(rest, want) || len(rest) > 0 && rest[0] != 0x8A && len(want) != len(rest) {
			t.Errorf("%q: %q is left", rest, want)
		}
		var b []byte
		for _, n := range lens {
			b = append(b, masked(0x8A, strings.Repeat("\x8a", int(n)%126))...)
		}
		if got := fanout.CutPongs(append(b, rest...)); !bytes.Equal(got, want) {
			t.Errorf("%v pongs before %q: %q is left, want %q", lens, rest, got, want)
		}
	})
}
