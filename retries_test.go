package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// TestRetriesThroughCuts has 50 clients send 100,000 messages (fewer with -short or -race) to two rooms on one log, over
// connections that are cut before a request is read, while it is carried out, before its reply is read, and after; or
// that are left standing. Each client comes back by its token, to either room, and sends again what has no receipt. The
// log, for its part, sometimes does not know. What the clients were told is compared with what the log has.
//
// It is in a bubble: a client or the log may then take its time for nothing, and a client that would wait for ever fails
// the test at once, as does a goroutine that is left. The seed decides what each client does, and where; which client is
// first the scheduler decides, so a seed that is run again may have to be run more than once.
func TestRetriesThroughCuts(t *testing.T) {
	sends := 100_000
	if testing.Short() || raceDetector() {
		sends = 5_000
	}
	seed := uint64(rand.Uint32())
	if *seedFlag >= 0 {
		seed = uint64(*seedFlag)
	}
	t.Logf("go test -run Retries -seed %d .", seed)
	bubble(t, func(t *testing.T) { retries(t, seed, 50, sends) })
}

// A retryTally counts what must not be, and what must have been.
type retryTally struct {
	Missing    int // acknowledged, and not in the log where the receipt says
	Doubled    int // in the log twice
	Unasked    int // in the log, and nobody sent it
	Differ     int // receipts of the same ID
	OutOfOrder int // messages of a client that stand in another order than it sent them in
	Orders     int // events that one room's subscribers have and the other's have not, or elsewhere
	Unchained  int // events that a client was given which do not follow the last one, over all its connections
	Refused    int // requests that were refused, but for those whose outcome is unknown

	cuts, moves, again, unknown, left int
}

// A sender is a client of the test.
type sender struct {
	t     *testing.T
	name  string
	rnd   *rand.Rand
	rooms [2]*chat.Room
	wide  int // how many requests it has under way at most

	line     *sendLine
	room     int
	token    string
	receipts []chat.Position // of its messages, by their number; zero: none yet
	waiting  []int           // the numbers of those that have none, in order
	left     []*sendLine     // connections that it has left standing

	mu    sync.Mutex
	at    chat.Position // of the last event that it was given
	tally retryTally
}

// A sendLine is one of its connections.
type sendLine struct {
	*guest
	replies chan chat.Reply

	// Guarded by the sender's mutex.
	drop   string // the ref of the reply with which the connection breaks
	broken bool   // it has
	gone   bool   // the client is not there any more
}

func retries(t *testing.T, seed uint64, clients, sends int) {
	log := newHeldLog(&chat.MemoryLogOptions{MaxRecords: 100}) // after half a minute only rooms know what was sent
	chance := rand.New(rand.NewPCG(seed, 0))
	log.set(func(e chat.Entry) fate { // of those who have one request under way: else an order is not promised
		n := chance.IntN(100)
		narrow := strings.Contains(e.ID, "/n") || strings.Contains(e.ID, "!resumed-")
		switch {
		case narrow && n < 2: // so often that unknown is far from its bound below, also with few sends
			return lostUnknown
		case narrow && n < 4:
			return landsUnknown
		}
		return pass
	})
	o := chat.RoomOptions{Log: log, Window: 1 << 30}
	rooms := [2]*chat.Room{newRoom(t, &o), newRoom(t, &o)}
	var subs []*chat.Subscription
	streams := make([][]chat.Event, 4)
	var readers sync.WaitGroup
	for i := range streams {
		sub := subscribe(t, rooms[i%2], &chat.SubscribeOptions{MaxUnread: -1})
		subs = append(subs, sub)
		readers.Go(func() { streams[i] = rest(sub) })
	}

	all := make([]*sender, clients)
	var wg sync.WaitGroup
	for i := range all {
		s := &sender{
			t: t, name: fmt.Sprint("c", i), rnd: rand.New(rand.NewPCG(seed, uint64(i+1))), rooms: rooms,
			wide: max(1, i%8-3), receipts: make([]chat.Position, sends/clients),
		}
		all[i] = s
		wg.Go(s.run)
	}
	wg.Wait()
	synctest.Wait()
	for _, r := range rooms {
		if m := r.Members(); len(m) > 0 {
			t.Errorf("%d members are left, %v among them", len(m), m[0])
		}
		r.Close()
	}
	readers.Wait()
	for _, sub := range subs {
		if !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("a subscription ended with %v", sub.Err())
		}
	}

	got := audit(t, all, streams)
	if got.cuts < sends/20 || got.moves < sends/100 || got.again < sends/20 || got.unknown < sends/200 || got.left < sends/200 {
		t.Errorf("not much happened: %+v", got)
	}
	t.Logf("%d sends: %d cuts, %d connections left standing, %d moves to the other room, %d sent again, %d unknown",
		sends, got.cuts, got.left, got.moves, got.again, got.unknown)
	got.cuts, got.moves, got.again, got.unknown, got.left = 0, 0, 0, 0, 0
	if got != (retryTally{}) {
		t.Errorf("what must not be: %+v", got)
	}
}

// audit compares what the clients were told with what the subscribers have.
func audit(t *testing.T, all []*sender, streams [][]chat.Event) retryTally {
	var sum retryTally
	truth := streams[0]
	if err := chain(chat.Position{Epoch: truth[0].Meta().Pos.Epoch}, truth); err != nil {
		t.Error(err)
	}
	for _, other := range streams[1:] {
		for i := range max(len(truth), len(other)) {
			if i >= len(truth) || i >= len(other) || truth[i] != other[i] {
				sum.Orders++
			}
		}
	}
	byName := make(map[string]*sender)
	said := make(map[string][]chat.Position)
	for _, s := range all {
		byName[s.name] = s
		said[s.name] = make([]chat.Position, len(s.receipts))
	}
	last := make(map[string]int)
	for _, e := range truth {
		m, ok := e.(chat.Said)
		if !ok {
			continue
		}
		s := byName[m.User.Name]
		n, err := strconv.Atoi(m.Text)
		switch {
		case err != nil || n >= len(s.receipts) || m.ID != s.id(n):
			sum.Unasked++
		case !said[s.name][n].IsZero():
			sum.Doubled++
		default:
			said[s.name][n] = m.At.Pos
			if n < last[s.name] {
				sum.OutOfOrder++
			}
			last[s.name] = n
		}
	}
	for _, s := range all {
		for n, pos := range s.receipts {
			if pos.IsZero() || said[s.name][n] != pos {
				sum.Missing++
			}
		}
		s.mu.Lock()
		c := s.tally
		s.mu.Unlock()
		sum.Differ += c.Differ
		sum.Unchained += c.Unchained
		sum.Refused += c.Refused
		sum.cuts += c.cuts
		sum.moves += c.moves
		sum.again += c.again
		sum.unknown += c.unknown
		sum.left += c.left
	}
	return sum
}

// id is the ID of a message, which says whether others may be under way at the same time.
func (s *sender) id(n int) string {
	if s.wide == 1 {
		return fmt.Sprint("n", n)
	}
	return fmt.Sprint("w", n)
}

// run sends all messages, and leaves.
func (s *sender) run() {
	for next := 0; next < len(s.receipts) || len(s.waiting) > 0; {
		if s.line == nil && !s.connect() {
			continue
		}
		if next < len(s.receipts) && len(s.waiting) < s.wide {
			n := next
			next++
			s.waiting = append(s.waiting, n)
			if s.send(n); s.rnd.IntN(3) > 0 {
				continue // with the next one, if it may
			}
		}
		if s.line != nil && s.rnd.IntN(20) == 0 { // an old one again
			s.tally.again++
			s.send(next - 1 - s.rnd.IntN(min(next, 200)))
		}
		if s.line != nil && len(s.waiting) > 0 {
			s.read()
		}
	}
	for s.line == nil && !s.connect() {
	}
	s.line.goodbye()
	<-s.line.served
	for _, l := range s.left {
		if err, _ := l.end(); !errors.Is(err, chat.ErrTakenOver) && !l.broken {
			s.t.Errorf("a connection that was left standing ended with %v", err)
		}
	}
}

// connect logs in over a new connection, to either room, and sends again what has no receipt. It returns false if the
// connection was cut, or the login's outcome is unknown.
func (s *sender) connect() bool {
	slept := s.rnd.IntN(40) == 0
	if slept {
		time.Sleep(40 * time.Second) // so that the log has forgotten what was sent before
	}
	was := s.room
	s.room = s.rnd.IntN(2)
	if s.room != was {
		s.tally.moves++
	}
	l := &sendLine{replies: make(chan chat.Reply, 256), guest: &guest{
		t: s.t, in: make(chan chat.Request, 256), lost: make(chan error, 1), // smaller than others, for there are many
		closed: make(chan struct{}), served: make(chan struct{}),
	}}
	l.batch = func(b *chat.Batch) error { return s.deliver(l, b) }
	l.serve(context.Background(), s.rooms[s.room], &chat.ServeOptions{Linger: time.Hour, Rate: -1, MaxUnread: -1})
	s.line = l
	if s.rnd.IntN(10) == 0 && s.token != "" {
		s.dropAt("login")
	}
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	l.in <- chat.LoginRequest{Ref: "login", Name: s.name, Token: s.token, Hear: chat.SubscribeOptions{After: at}}
	if s.rnd.IntN(20) == 0 && s.token != "" {
		s.cut()
		return false
	}
	rep, ok := s.next()
	if !ok {
		return false
	}
	in, ok := rep.(chat.LoginReply)
	if !ok {
		s.refused(rep)
		s.cut()
		return false
	}
	s.token = in.Token
	for _, n := range slices.Clone(s.waiting) {
		s.tally.again++
		if s.send(n); s.line == nil {
			return false
		}
	}
	if sent := slices.IndexFunc(s.receipts, chat.Position.IsZero); slept && sent > 0 {
		s.tally.again++
		s.send(s.rnd.IntN(min(sent, 200)) + max(0, sent-200))
	}
	return s.line != nil
}

// send sends a message, and perhaps cuts the connection where nobody else would.
func (s *sender) send(n int) {
	req := chat.SendRequest{Ref: s.id(n), ID: s.id(n), Text: strconv.Itoa(n)}
	switch s.rnd.IntN(40) {
	case 0: // before it is read
		s.line.lose(io.ErrUnexpectedEOF)
		s.line.in <- req
		s.cut()
	case 1: // while it is carried out, or before, or after
		s.line.in <- req
		s.cut()
	case 2: // before its reply is read
		s.dropAt(req.Ref)
		s.line.in <- req
	case 3: // the connection is left standing, and the server has no word of it
		s.mu.Lock()
		s.line.gone = true
		s.mu.Unlock()
		s.line.in <- req
		s.left = append(s.left, s.line)
		s.tally.left++
		s.line = nil
	default:
		s.line.in <- req
	}
}

// read takes one reply, and perhaps cuts the connection after it.
func (s *sender) read() {
	rep, ok := s.next()
	if !ok {
		return
	}
	sent, ok := rep.(chat.SendReply)
	if !ok {
		s.refused(rep)
		if n := s.waiting[0]; s.wide == 1 {
			s.tally.again++
			s.send(n)
		}
		return
	}
	n, err := strconv.Atoi(sent.Receipt.ID[1:])
	switch {
	case err != nil || sent.Ref != sent.Receipt.ID:
		s.t.Errorf("a receipt for %+v", sent)
		return
	case s.receipts[n].IsZero():
		s.receipts[n] = sent.Receipt.Pos
		s.waiting = slices.DeleteFunc(s.waiting, func(m int) bool { return m == n })
	case s.receipts[n] != sent.Receipt.Pos:
		s.tally.Differ++
	}
	if s.rnd.IntN(40) == 0 {
		s.cut()
	}
}

// next waits for a reply. If the connection ends before there is one it returns false.
func (s *sender) next() (chat.Reply, bool) {
	select {
	case rep := <-s.line.replies:
		return rep, true
	case <-s.line.closed:
	}
	select {
	case rep := <-s.line.replies: // it came before
		return rep, true
	default:
		s.cut()
		return nil, false
	}
}

// refused counts a reply that is an error. Where the log does not know, the same is sent again.
func (s *sender) refused(rep chat.Reply) {
	if e, ok := rep.(chat.ErrorReply); ok && errors.Is(e.Err, chat.ErrUnknown) {
		s.tally.unknown++
		return
	}
	s.tally.Refused++
	s.t.Errorf("%s is told %+v", s.name, rep)
}

// cut ends the connection. Half of the time the client waits until the server has noticed.
func (s *sender) cut() {
	l := s.line
	s.tally.cuts++
	s.mu.Lock()
	l.gone = true
	s.mu.Unlock()
	select {
	case l.lost <- io.ErrUnexpectedEOF:
	default: // it is lost already
	}
	s.line = nil
	if s.rnd.IntN(2) == 0 {
		<-l.served
	}
}

// dropAt lets the connection break with the reply to ref.
func (s *sender) dropAt(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.drop = ref
}

// deliver is what the transport does with a batch.
func (s *sender) deliver(l *sendLine, b *chat.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.got = nil // it is long; the guest's own lock is needed, and nobody else looks at it
	if l.gone {
		return nil
	}
	for _, rep := range b.Replies() {
		in, isLogin := rep.(chat.LoginReply)
		sent, isSend := rep.(chat.SendReply)
		if isLogin && l.drop == "login" || isSend && l.drop == sent.Ref {
			l.gone, l.broken = true, true
			return io.ErrClosedPipe
		}
		if isLogin && in.Start != nil {
			if !s.at.IsZero() && (in.Start.At != s.at || !in.Start.Resumed) {
				s.tally.Unchained++
			}
			s.at = in.Start.At
		}
		l.replies <- rep
	}
	for _, e := range b.Events() {
		if e.Meta().Prev != s.at {
			s.tally.Unchained++
		}
		s.at = e.Meta().Pos
	}
	return nil
}
