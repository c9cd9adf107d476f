package chattest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// Transports that are wrong on purpose, each in one thing: the kit names the clause that each breaks, and no other.
var wrongTransports = []struct {
	clause, why string
	make        func(p *pipe) chat.Transport
}{
	{"T1", "one lock around Receive and Deliver", func(p *pipe) chat.Transport { return oneLock{p, make(lock, 1)} }},
	{"T1", "nothing is received while something is delivered", func(p *pipe) chat.Transport { return halfDuplex{oneLock{p, make(lock, 1)}} }},
	{"T2", "Close waits until the peer has taken a last word", func(p *pipe) chat.Transport { return &waitingClose{pipe: p} }},
	{"T2", "Close gives the peer a second to go", func(p *pipe) chat.Transport { return patientClose{p} }},
	{"T2", "a second Close panics", func(p *pipe) chat.Transport { return &closedTwice{pipe: p} }},
	{"T2", "a Receive that waits goes on after Close", func(p *pipe) chat.Transport { return deafToClose{p} }},
	{"T2", "a Deliver that waits goes on after Close", func(p *pipe) chat.Transport { return stubborn{p} }},
	{"T2", "a Close before the first Receive is forgotten", func(p *pipe) chat.Transport { return &forgetful{pipe: p} }},
	{"T3", "the last cause is told", func(p *pipe) chat.Transport { return &lastCause{pipe: p} }},
	{"T3", "every end is told as the room's", func(p *pipe) chat.Transport { return oneCause{p} }},
	{"T4", "io.EOF when the connection is cut", func(p *pipe) chat.Transport { return misnaming{pipe: p, lost: io.EOF} }},
	{"T4", "io.EOF when it is cut in the middle", func(p *pipe) chat.Transport { return misnaming{pipe: p, half: io.EOF} }},
	{"T4", "nil when it is cut", func(p *pipe) chat.Transport { return misnaming{pipe: p, lost: errNil} }},
	{"T4", "a goodbye with a word around it", func(p *pipe) chat.Transport {
		return misnaming{pipe: p, bye: fmt.Errorf("closed by the peer: %w", io.EOF)}
	}},
	{"T4", "a goodbye is not noticed", func(p *pipe) chat.Transport { return unaware{p} }},
	{"T5", "an event is lost", mangle(often(0, isEvent))},
	{"T5", "an event comes twice", mangle(often(2, isEvent))},
	{"T5", "an answer is lost", mangle(often(0, isReply))},
	{"T5", "two events change places", mangle(swap)},
	{"T5", "an answer comes after its event", mangle(repliesLast)},
	{"T5", "a buffer without a bound", func(p *pipe) chat.Transport { return newBuffering(p, 0) }},
	{"T5", "a full buffer is a broken connection", func(p *pipe) chat.Transport { return newBuffering(p, 100) }},
	{"T5", "shared bytes are changed", func(p *pipe) chat.Transport { return scribbling{p} }},
	{"T5", "shared events are changed", func(p *pipe) chat.Transport { return shouting{p} }},
	{"T6", "a malformed request is an error", func(p *pipe) chat.Transport {
		return translating{p, func() (chat.Request, error) { return nil, errors.New("malformed") }}
	}},
	{"T6", "a malformed request becomes another", func(p *pipe) chat.Transport {
		return translating{p, func() (chat.Request, error) { return chat.SendRequest{}, nil }}
	}},
	{"T6", "a malformed request is passed over", func(p *pipe) chat.Transport {
		return translating{p, func() (chat.Request, error) { return nil, nil }}
	}},
	{"T7", "the connection is left open", func(p *pipe) chat.Transport { return &leftOpen{pipe: p, shut: make(chan struct{})} }},
	{"T7", "a goroutine is left behind", func(p *pipe) chat.Transport { return &straggling{pipe: p} }},
	{"T8", "it waits", tries(tryThatWaits)},
	{"T8", "it waits for Close", tries(tryThatWaitsForClose)},
	{"T8", "it is never false", newEndless},
	{"T8", "it takes half and says false", tries(tryHalf)},
	{"T8", "it says true and drops some", tries(tryAndDrop)},
	{"T8", "others go between its pieces", tries(tryInPieces)},
	{"T8", "it goes between the pieces of another delivery", tries(tryBetween)},
	{"T8", "an answer comes after its event", tries(tryRepliesLast)},
	{"T8", "shared events are changed", tries(tryShouting)},
	{"T8", "where Deliver would wait it breaks the connection", tries(tryOrBreak)},
	{"T8", "it is true after Close", tries(tryClosed)},
	{"T8", "it panics after Close", tries(tryClosedPanics)},
	{"T8", "it panics when Close comes beside it", tries(tryClosingPanics)},
	{"T8", "what it took outlives Close", tries(tryOutlivesClose)},
}

// TestWrongTransports shows that the kit finds them all, in virtual time, and blames the right clause alone.
func TestWrongTransports(t *testing.T) {
	for _, row := range wrongTransports {
		t.Run(row.clause+"_"+strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := func() (Ends, error) {
					p := newPipe()
					w := row.make(p)
					ends := Ends{Transport: w, Peer: pipePeer{&Client{p}}}
					if w, ok := w.(interface{ peer(Peer) Peer }); ok {
						ends.Peer = w.peer(ends.Peer)
					}
					if w, ok := w.(interface{ wait() error }); ok {
						ends.Close = w.wait
					}
					return ends, nil
				}
				err := CheckTransport(Connector{Open: open, InFlight: 1 << 20, Bubble: true})
				if d := gocmp.Diff([]string{row.clause}, clausesOf(err)); d != "" {
					t.Errorf("%s: clauses that the kit names (-want +got):\n%s\n%v", row.why, d, err)
				}
				if CheckTransport(Connector{Open: open, InFlight: 1 << 20, Bubble: true}, row.clause) == nil {
					t.Errorf("%s: nothing is found where clause %s alone is looked at", row.why, row.clause)
				}
				time.Sleep(2 * time.Hour) // some have left a goroutine behind
			})
		})
	}
}

// clausesOf lists the clauses that errors of the kit begin with.
func clausesOf(err error) (clauses []string) {
	if err == nil {
		return nil
	}
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		clauses = append(clauses, err.(ClauseError).Clause)
	}
	slices.Sort(clauses)
	return slices.Compact(clauses)
}

func TestEveryClauseIsBroken(t *testing.T) {
	for _, c := range transportCases {
		broken := false
		for _, row := range wrongTransports {
			broken = broken || row.clause == c.clause
		}
		if !broken {
			t.Errorf("no transport breaks %s", c.clause)
		}
	}
	if err := CheckTransport(Connector{Open: connectPipe}, "T9"); err == nil {
		t.Error("there is no T9")
	}
	if err := CheckTransport(Connector{}); err == nil {
		t.Error("there is nothing to open")
	}
}

// A lock is a mutex that counts as waiting in a bubble, and is given up when the connection ends.
type lock chan struct{}

func (l lock) lock(p *pipe) bool {
	select {
	case l <- struct{}{}:
		return true
	case <-p.lost:
	case <-p.closed:
	}
	return false
}

func (l lock) tryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l lock) unlock() { <-l }

type oneLock struct {
	*pipe
	lock
}

func (w oneLock) Receive() (chat.Request, error) {
	if w.lock.lock(w.pipe) {
		defer w.unlock()
	}
	return w.pipe.Receive()
}

func (w oneLock) Deliver(b *chat.Batch) error {
	time.Sleep(time.Nanosecond) // of virtual time: a Receive that comes at the same moment goes first
	if w.lock.lock(w.pipe) {
		defer w.unlock()
	}
	return w.pipe.Deliver(b)
}

type halfDuplex struct{ oneLock }

func (w halfDuplex) Receive() (chat.Request, error) {
	req, err := w.pipe.Receive()
	if err == nil && w.lock.lock(w.pipe) {
		defer w.unlock()
	}
	return req, err
}

type waitingClose struct {
	*pipe
	first sync.Once
	word  error
}

func (w *waitingClose) Close(cause error) error {
	w.first.Do(func() { w.word = cause })
	select {
	case w.out <- chat.ErrorReply{Ref: "last word", Err: w.word}:
	case <-w.lost:
	case <-w.closed:
	}
	return w.pipe.Close(w.word)
}

type patientClose struct{ *pipe }

func (w patientClose) Close(cause error) error {
	err := w.pipe.Close(cause)
	time.Sleep(time.Second)
	return err
}

type closedTwice struct {
	*pipe
	calls atomic.Int32
}

func (w *closedTwice) Close(cause error) error {
	if w.calls.Add(1) > 1 {
		panic("close of closed channel")
	}
	return w.pipe.Close(cause)
}

type deafToClose struct{ *pipe }

func (w deafToClose) Receive() (chat.Request, error) { return w.receiveUntil(w.bye, nil) }

// receiveUntil waits for a request or a loss, or for one of two other ends; nil is one that does not come.
func (p *pipe) receiveUntil(bye, closed <-chan struct{}) (chat.Request, error) {
	select {
	case req := <-p.in:
		return req, nil
	case <-p.lost:
		return nil, p.err
	case <-bye:
		return nil, io.EOF
	case <-closed:
		return nil, io.ErrClosedPipe
	}
}

type stubborn struct{ *pipe }

func (w stubborn) Deliver(b *chat.Batch) error { return w.handUntil(nil, items(b)) }

// handUntil hands a list over, until a loss, or closed; nil is never.
func (p *pipe) handUntil(closed <-chan struct{}, list []any) error {
	for _, v := range list {
		select {
		case p.out <- v:
		case <-p.lost:
			return p.err
		case <-closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

type forgetful struct {
	*pipe
	mu    sync.Mutex
	begun bool
}

func (w *forgetful) Receive() (chat.Request, error) {
	w.mu.Lock()
	w.begun = true
	w.mu.Unlock()
	return w.pipe.Receive()
}

func (w *forgetful) Close(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		return nil
	}
	return w.pipe.Close(cause)
}

type lastCause struct {
	*pipe
	mu   sync.Mutex
	last error
}

func (w *lastCause) Close(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = cause
	return w.pipe.Close(cause)
}

func (w *lastCause) peer(p Peer) Peer { return lastCausePeer{p, w} }

type lastCausePeer struct {
	Peer
	w *lastCause
}

func (p lastCausePeer) Read() (any, error) {
	v, err := p.Peer.Read()
	if err != nil && err != io.ErrClosedPipe {
		time.Sleep(time.Millisecond) // of virtual time: until the last cause is there
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		err = p.w.last
	}
	return v, err
}

type oneCause struct{ *pipe }

func (w oneCause) Close(error) error { return w.pipe.Close(chat.ErrClosed) }

// A misnaming transport has other words for how a connection ends; nil is the right one.
type misnaming struct {
	*pipe
	bye, lost, half error
}

var errNil = errors.New("nil")

func (w misnaming) Receive() (chat.Request, error) {
	req, err := w.pipe.Receive()
	other := error(nil)
	switch {
	case err == io.EOF:
		other = w.bye
	case errors.Is(err, io.ErrUnexpectedEOF):
		other = w.half
	case errors.Is(err, errLost):
		other = w.lost
	}
	if other == errNil {
		return nil, nil
	}
	return req, cmp.Or(other, err)
}

type unaware struct{ *pipe }

func (w unaware) Receive() (chat.Request, error) { return w.receiveUntil(nil, w.closed) }

// A mangling transport makes something else of what is due.
type mangling struct {
	*pipe
	mangle func(due []any) []any
}

// mangle makes them; each has an f of its own.
func mangle(f func() func(due []any) []any) func(p *pipe) chat.Transport {
	return func(p *pipe) chat.Transport { return mangling{p, f()} }
}

func (w mangling) Deliver(b *chat.Batch) error { return w.hand(w.mangle(items(b))) }

// often hands each 50th of those that are some so many times.
func often(times int, some func(v any) bool) func() func(due []any) []any {
	return func() func(due []any) []any {
		n := 0
		return func(due []any) (out []any) {
			for _, v := range due {
				if some(v) {
					n++
				}
				if some(v) && n%50 == 0 {
					out = append(out, slices.Repeat([]any{v}, times)...)
				} else {
					out = append(out, v)
				}
			}
			return out
		}
	}
}

func isEvent(v any) bool { _, ok := v.(chat.Event); return ok }
func isReply(v any) bool { _, ok := v.(chat.Reply); return ok }

// swap lets the 50th event wait for the next.
func swap() func(due []any) []any {
	n := 0
	var late any
	return func(due []any) (out []any) {
		for _, v := range due {
			if isEvent(v) {
				n++
			}
			switch {
			case n == 50 && late == nil:
				late = v
			case n == 51 && isEvent(v):
				out = append(out, v, late)
			default:
				out = append(out, v)
			}
		}
		return out
	}
}

func repliesLast() func(due []any) []any {
	return func(due []any) []any {
		slices.SortStableFunc(due, func(a, b any) int {
			switch {
			case isEvent(a) && isReply(b):
				return -1
			case isReply(a) && isEvent(b):
				return 1
			}
			return 0
		})
		return due
	}
}

// A buffering transport takes over up to limit things for a goroutine to hand over; 0 is no limit.
type buffering struct {
	*pipe
	limit int
	pump  sync.WaitGroup

	board
	queue []any
}

func newBuffering(p *pipe, limit int) *buffering {
	w := &buffering{pipe: p, limit: limit}
	w.pump.Go(func() {
		for {
			var next []any
			w.until(24*time.Hour, func() bool { next = w.queue; return len(next) > 0 || p.over() != nil })
			if len(next) == 0 || w.hand(next[:1]) != nil {
				return
			}
			w.set(func() { w.queue = w.queue[1:] })
		}
	})
	return w
}

func (w *buffering) Deliver(b *chat.Batch) (err error) {
	w.set(func() {
		w.queue = append(w.queue, items(b)...)
		if err = w.over(); err == nil && w.limit > 0 && len(w.queue) > w.limit {
			err = errors.New("buffer full")
		}
	})
	return err
}

func (w *buffering) Close(cause error) (err error) {
	w.set(func() { err = w.pipe.Close(cause) })
	return err
}

func (w *buffering) peer(p Peer) Peer { return bufferingPeer{p, w} }

func (w *buffering) wait() error { w.pump.Wait(); return nil }

type bufferingPeer struct {
	Peer
	w *buffering
}

func (p bufferingPeer) Drop(half bool) (err error) {
	p.w.set(func() { err = p.Peer.Drop(half) })
	return err
}

// A scribbling transport sends the bytes that the room encodes, and overwrites them.
type scribbling struct{ *pipe }

var units = &chat.Format{Append: func(dst []byte, e chat.Event) []byte { return append(append(dst, gist(e)...), '\n') }}

func (w scribbling) Deliver(b *chat.Batch) error {
	due := items(b)[:len(b.Replies())]
	encoded := b.Encoded(units)
	for line := range strings.Lines(string(encoded)) {
		due = append(due, parse(strings.TrimSuffix(line, "\n")))
	}
	scribble(encoded)
	return w.hand(due)
}

func parse(line string) chat.Event {
	if name, text, ok := strings.Cut(line, ": "); ok {
		return chat.Said{User: chat.User{Name: name}, Text: text}
	}
	if name, ok := strings.CutSuffix(line, " joined"); ok {
		return chat.Joined{User: chat.User{Name: name}}
	}
	return chat.Left{User: chat.User{Name: strings.TrimSuffix(line, " left")}}
}

// It is a data race with all others who read the bytes; the kit has to find it without the race detector.
//
//go:norace
func scribble(b []byte) {
	for i := range b {
		if b[i] != '\n' {
			b[i] = '#'
		}
	}
}

// A shouting transport makes what is said louder, in place.
type shouting struct{ *pipe }

func (w shouting) Deliver(b *chat.Batch) error {
	err := w.pipe.Deliver(b)
	shout(b.Events())
	return err
}

// It is a data race as well.
//
//go:norace
func shout(events []chat.Event) {
	for i, e := range events {
		if said, ok := e.(chat.Said); ok {
			said.Text = strings.ToUpper(said.Text)
			events[i] = said
		}
	}
}

// A translating transport makes something else of a malformed request.
type translating struct {
	*pipe
	as func() (chat.Request, error)
}

func (w translating) Receive() (chat.Request, error) {
	for {
		req, err := w.pipe.Receive()
		if _, bad := req.(chat.BadRequest); bad {
			req, err = w.as()
		}
		if req != nil || err != nil {
			return req, err
		}
	}
}

// A leftOpen transport ends, and does not tell its peer.
type leftOpen struct {
	*pipe
	shutting sync.Once
	shut     chan struct{}
}

func (w *leftOpen) Receive() (chat.Request, error) { return w.receiveUntil(w.bye, w.shut) }
func (w *leftOpen) Deliver(b *chat.Batch) error    { return w.handUntil(w.shut, items(b)) }

func (w *leftOpen) Close(error) error {
	w.shutting.Do(func() { close(w.shut) })
	return nil
}

type straggling struct {
	*pipe
	once sync.Once
	left sync.WaitGroup
}

func (w *straggling) Close(cause error) error {
	w.once.Do(func() { w.left.Go(func() { time.Sleep(time.Hour) }) })
	return w.pipe.Close(cause)
}

func (w *straggling) wait() error { w.left.Wait(); return nil }
