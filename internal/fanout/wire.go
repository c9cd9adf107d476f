package fanout

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A wire is the connection below the WebSocket library. Whatever is written to
// the peer passes through it: the library's control frames by Write, one call a
// frame, and our data frames by data and try. Only one goroutine writes at a
// time, and a write is one or more whole frames, so frames never mix.
//
// If the connection can write without waiting, that is what each write begins
// with, under mu. What is not taken then waits with a deadline and without mu,
// and keeps the turn: busy.
//
// A control frame that finds another write under way is left behind for that
// writer to send and doesn't wait, because the library writes pongs within its
// Read. The newest of a kind replaces an older one (RFC 6455 section 5.5.3
// allows it), so what is left behind is bounded. Nothing follows a close frame.
type wire struct {
	net.Conn
	raw     tryWriter     // Conn's way to write without waiting, or nil
	timeout time.Duration // of one write; 0 is none
	base    time.Time     // what life counts from
	early   []byte        // came before the library asks for it: with the handshake, or awaited; the reader's own
	in      *chunk        // what early is in, or nil
	life    atomic.Int64  // when bytes last came in, or a Read began; nanoseconds after base

	rests sync.WaitGroup // goroutines that write what a try left

	mu        sync.Mutex // guards the fields below; held while setting a deadline, never while a write waits
	turn      sync.Cond  // on mu: busy fell, or one of dead, closing, closeSent rose
	busy      bool       // a write waits for the socket, or what was left behind it
	queued    int        // calls of data that wait for their turn
	dead      error      // nothing goes out any more: ErrSlow, ErrClosed or wraps ErrLost
	readErr   error      // what reading from below met
	closing   bool       // hurry was called: no more data, and the write deadline stands
	closeNext bool       // a close frame was accepted: nothing may follow it
	closeSent bool       // and it went out whole
	shut      bool       // close the connection below as soon as nobody writes
	pong      []byte     // left behind for the writer, each at most one frame
	ping      []byte
	bye       []byte
}

func newWire(nc net.Conn, timeout time.Duration) *wire {
	w := &wire{Conn: nc, raw: tryWriterOf(nc), timeout: timeout, base: time.Now()}
	w.turn.L = &w.mu
	return w
}

// A tryWriter writes without waiting: it takes as much of p as there is room
// for now. n < len(p) without an error means that there is no more. It keeps
// none of p, and is called by one goroutine at a time.
type tryWriter interface {
	TryWrite(p []byte) (n int, err error)
}

func tryWriterOf(nc net.Conn) tryWriter {
	if t, ok := nc.(tryWriter); ok {
		return t
	}
	return socketOf(nc)
}

// now is the time in the unit of life.
func (w *wire) now() int64 { return int64(time.Since(w.base)) }

// A chunk is what came in at one time, on its way to the library.
type chunk struct {
	buf [4 << 10]byte
	n   int
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// An awaiter waits for bytes with a quarter of the stack that the library needs to
// wait for them, and without a buffer: it returns the first that come, in a
// chunk of the caller's, or nil if Read is to tell what there is instead.
type awaiter interface{ await() *chunk }

// await waits until there is something to read, if the connection can do that.
// It is called between two messages, and drops pongs that come there: with what
// comes after one the library would wait by itself.
func (w *wire) await() {
	a, ok := w.raw.(awaiter)
	for ok && len(w.early) == 0 {
		in := a.await()
		if in == nil {
			return
		}
		w.life.Store(w.now())
		if w.early = cutPongs(in.buf[:in.n]); len(w.early) > 0 {
			w.in = in
			return
		}
		chunks.Put(in)
	}
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
			if w.in != nil {
				chunks.Put(w.in)
				w.in = nil
			}
		}
		return n, nil
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.life.Store(w.now())
	}
	if err != nil {
		w.mu.Lock()
		w.readErr = err
		w.mu.Unlock()
	}
	return n, err
}

// Write sends one control frame of the library's, or leaves it behind.
func (w *wire) Write(p []byte) (int, error) {
	if err := w.control(p, w.timeout); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close is the library's: it is done with the connection. A write under way
// gets a moment to end, with what it was left behind.
func (w *wire) Close() error {
	w.mu.Lock()
	if w.busy {
		w.shut = true
		w.Conn.SetWriteDeadline(time.Now().Add(grace))
		w.mu.Unlock()
		return nil
	}
	w.die(ErrClosed)
	w.mu.Unlock()
	return w.Conn.Close()
}

// control sends one control frame, within timeout if that is more than 0.
func (w *wire) control(frame []byte, timeout time.Duration) error {
	w.mu.Lock()
	if w.dead != nil {
		defer w.mu.Unlock()
		return w.dead
	}
	if w.closeNext {
		w.mu.Unlock()
		return nil
	}
	op := frame[0] &^ fin
	w.closeNext = op == OpClose
	if w.busy {
		switch op {
		case OpClose:
			w.bye = append([]byte(nil), frame...)
		case OpPing:
			w.ping = append([]byte(nil), frame...)
		default:
			w.pong = append([]byte(nil), frame...)
		}
		w.mu.Unlock()
		return nil
	}
	return w.finish(op, w.put(frame, timeout))
}

// data sends whole frames in one write.
func (w *wire) data(frames []byte) error {
	w.mu.Lock()
	for w.busy && w.refusal() == nil {
		w.queued++
		w.turn.Wait()
		w.queued--
	}
	if err := w.refusal(); err != nil {
		w.mu.Unlock()
		return err
	}
	return w.finish(OpText, w.put(frames, w.timeout))
}

// try sends whole frames and reports true, unless that would mean to wait. What
// the socket has no room for now is written by a goroutine.
func (w *wire) try(frames []byte) bool {
	if w.raw == nil {
		return false
	}
	w.mu.Lock()
	if w.busy || w.queued > 0 || w.refusal() != nil {
		w.mu.Unlock()
		return false
	}
	n, err := w.raw.TryWrite(frames)
	if err != nil || n == len(frames) {
		return w.finish(OpText, err) == nil
	}
	w.busy = true
	w.rests.Add(1)
	w.mu.Unlock()
	go func() {
		defer w.rests.Done()
		w.mu.Lock()
		w.finish(OpText, w.wait(frames[n:], w.timeout)) // the next Write and Read tell
	}()
	return true
}

// refusal is why no data goes out any more, or nil. mu is held.
func (w *wire) refusal() error {
	if w.dead == nil && (w.closing || w.closeNext) {
		return ErrClosed
	}
	return w.dead
}

// put writes p. mu is held, but not while it waits.
func (w *wire) put(p []byte, timeout time.Duration) error {
	if w.raw != nil {
		n, err := w.raw.TryWrite(p)
		if err != nil || n == len(p) {
			return err
		}
		p = p[n:]
	}
	return w.wait(p, timeout)
}

// wait writes p with a deadline, holding the turn instead of mu meanwhile. mu is
// held before and after.
func (w *wire) wait(p []byte, timeout time.Duration) error {
	w.busy = true
	w.arm(timeout)
	w.mu.Unlock()
	_, err := w.Conn.Write(p)
	w.mu.Lock()
	if w.raw != nil {
		w.arm(0) // a try has none, and fails at one that has passed
	}
	return err
}

// finish ends a write of op that met err, sends what was left behind meanwhile,
// and lets the next writer in. After an error nothing more goes out, for part
// of a frame may have, and the connection is cut. mu is held before, and
// unlocked.
func (w *wire) finish(op byte, err error) error {
	if err != nil {
		err = w.fail(err)
		w.mu.Unlock()
		if !errors.Is(err, ErrLost) { // of what was lost there may be words to read still, a goodbye too
			w.cut()
		}
		return err
	}
	for {
		if op == OpClose {
			w.closeSent = true
			w.turn.Broadcast()
		}
		var next []byte
		switch {
		case w.pong != nil:
			next, w.pong, op = w.pong, nil, OpPong
		case w.ping != nil:
			next, w.ping, op = w.ping, nil, OpPing
		case w.bye != nil:
			next, w.bye, op = w.bye, nil, OpClose
		}
		if next == nil {
			break
		}
		if err := w.put(next, w.timeout); err != nil {
			w.fail(err)
			w.mu.Unlock()
			w.cut()
			return nil // the caller's own frame went out
		}
	}
	w.busy = false
	w.turn.Broadcast()
	shut := w.shut
	if shut {
		w.die(ErrClosed)
	}
	w.mu.Unlock()
	if shut {
		w.Conn.Close()
	}
	return nil
}

// arm sets the deadline of the write that is about to start, or none. mu is held.
func (w *wire) arm(timeout time.Duration) {
	if w.closing || w.shut {
		return // hurry or Close set one that is sooner
	}
	var t time.Time
	if timeout > 0 {
		t = time.Now().Add(timeout)
	}
	w.Conn.SetWriteDeadline(t)
}

// fail makes err, met by a write, the end of all writing. mu is held.
func (w *wire) fail(err error) error {
	switch {
	case w.closing || w.shut:
		err = ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrSlow
	default:
		err = fmt.Errorf("%w: %v", ErrLost, err)
	}
	w.busy = false
	w.die(err)
	return w.dead
}

// die ends all writing, the first cause counts. mu is held.
func (w *wire) die(cause error) {
	if w.dead == nil {
		w.dead = cause
	}
	w.turn.Broadcast()
}

// hurry refuses further data and gives the write under way, and the close frame
// after it, until d from now.
func (w *wire) hurry(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	w.Conn.SetWriteDeadline(time.Now().Add(d))
	w.turn.Broadcast()
}

// bid sends a close frame, if none was sent yet, and reports whether one went
// out whole. hurry bounds it.
func (w *wire) bid(frame []byte) bool {
	w.control(frame, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closeSent && w.dead == nil {
		w.turn.Wait()
	}
	return w.closeSent
}

// lost reports whether the connection below has ended for reading or writing.
func (w *wire) lost() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.readErr == nil || errors.Is(w.dead, ErrSlow) {
		return w.dead // a slow peer is cut, which reading only sees the end of
	}
	return w.readErr
}

// cut ends the connection now, without the alert that TLS says goodbye with,
// which may take seconds if the socket is full.
func (w *wire) cut() {
	w.mu.Lock()
	w.die(ErrClosed)
	w.mu.Unlock()
	if t, ok := w.Conn.(interface{ NetConn() net.Conn }); ok {
		t.NetConn().Close()
		return
	}
	w.Conn.Close()
}
