package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// uniform reports how a sample of durations from [0, spread) is not uniform. It is Pearson's chi-square over 20 equal
// parts, so with 19 degrees of freedom: a uniform sample is over 100 with a probability below 1e-11. Of 250 or more some are
// in each tenth, but for a probability of 4e-11.
func uniform(sample []time.Duration, spread time.Duration) error {
	const parts, bound = 20, 100.0
	var counts [parts]float64
	for _, d := range sample {
		if d < 0 || d >= spread {
			return fmt.Errorf("%v is not within [0, %v)", d, spread)
		}
		counts[int(d*parts/spread)]++
	}
	want := float64(len(sample)) / parts
	chi2 := 0.0
	for _, n := range counts {
		chi2 += (n - want) * (n - want) / want
	}
	for i := 0; i < parts; i += 2 {
		if counts[i]+counts[i+1] == 0 {
			return fmt.Errorf("a tenth is empty: %v", counts)
		}
	}
	if chi2 > bound {
		return fmt.Errorf("chi-square is %.1f: %v", chi2, counts)
	}
	return nil
}

// densest returns how many of times are within one second of each other at most.
func densest(times []time.Duration) int {
	times = slices.Sorted(slices.Values(times))
	most, first := 0, 0
	for i, d := range times {
		for times[first] <= d-time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// raceDetector reports whether this is a test under -race.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A returner is a client that is told to come back.
type returner struct {
	name   string
	linger time.Duration
	guest  *guest // its connection
	in     chat.LoginReply
	heard  []chat.Event
	closed time.Duration // when its first connection was closed
	wait   time.Duration // what it was told
	back   time.Duration // when it was there again
	anew   bool          // its session had ended
}

// connect logs in, and returns the answer.
func (c *returner) connect(t *testing.T, r *chat.Room, req chat.LoginRequest) chat.Reply {
	replies := make(chan chat.Reply, 10)
	c.guest = newGuest(t)
	c.guest.batch = func(b *chat.Batch) error {
		for _, rep := range b.Replies() {
			replies <- rep
		}
		return nil
	}
	c.guest.serve(context.Background(), r, &chat.ServeOptions{Linger: c.linger})
	c.guest.in <- req
	return <-replies
}

// comeBack waits for the end of the connection, then as it was told to, and takes up its session in another room. If it
// has ended it logs in anew.
func (c *returner) comeBack(t *testing.T, r *chat.Room, down time.Time) {
	<-c.guest.closed
	c.closed = time.Since(down)
	_, cause := c.guest.end()
	told, ok := cause.(chat.ShutdownError)
	if !ok {
		t.Errorf("%s: told %v", c.name, cause)
		return
	}
	c.wait, c.heard = told.RetryAfter, c.guest.events()
	time.Sleep(c.wait)
	c.back = time.Since(down)
	hear := chat.SubscribeOptions{After: c.heard[len(c.heard)-1].Meta().Pos}
	rep := c.connect(t, r, chat.LoginRequest{Token: c.in.Token, Hear: hear})
	if e, ok := rep.(chat.ErrorReply); ok && errors.Is(e.Err, chat.ErrToken) {
		c.anew = true
		c.guest.goodbye()
		<-c.guest.served
		rep = c.connect(t, r, chat.LoginRequest{Name: c.name, Hear: hear})
	}
	in, ok := rep.(chat.LoginReply)
	if !ok || !in.Start.Resumed || in.Start.At != hear.After || in.User.Name != c.name || c.anew == (in.Token == c.in.Token) {
		t.Errorf("%s: answered %+v", c.name, rep)
	}
}

// TestPromise12AThousandComeBackSpread shows a shutdown with hand-over: a thousand connections are closed in the same
// instant, each told when to come back. The times are uniform over the spread that was asked for, so that clients which
// do as they are told arrive at the other node evenly. Those who linger take up their sessions there and have missed
// nothing; the others have left.
func TestPromise12AThousandComeBackSpread(t *testing.T) {
	const (
		after  = 2 * time.Second
		spread = 30 * time.Second
		linger = 2 * time.Minute
	)
	// Within a second come 33 on average, or 8. More than allowed come within any with a probability below 1e-11, by the
	// bound of Chernoff for one second, times the seconds that begin with a client.
	clients, allowed := 1000, 90
	if testing.Short() || raceDetector() {
		clients, allowed = 250, 40
	}
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, nodes := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		na, nb := newNode(t, nodes), newNode(t, nodes)
		a, b := newRoom(t, &chat.RoomOptions{Log: log, Node: na}), newRoom(t, &chat.RoomOptions{Log: log, Node: nb})
		witness := subscribe(t, b, &chat.SubscribeOptions{MaxUnread: -1})
		host := login(t, b, "Host")
		all := make([]*returner, clients)
		for i := range all {
			c := &returner{name: fmt.Sprint("c", i), linger: linger}
			if i%10 == 0 {
				c.linger = 0
			}
			c.in = c.connect(t, a, chat.LoginRequest{Name: c.name}).(chat.LoginReply)
			all[i] = c
		}
		say(t, b, host, "before")
		synctest.Wait()

		down := time.Now()
		back, lost := all[:clients-5], all[clients-5:] // who does not come back was to linger, but for one
		var wg sync.WaitGroup
		for _, c := range back {
			wg.Go(func() { c.comeBack(t, b, down) })
		}
		if err := a.Shutdown(ctx, &chat.ShutdownOptions{RetryAfter: after, Spread: spread, HandOver: true}); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if d := time.Since(down); d != 0 {
			t.Errorf("the shutdown took %v", d)
		}
		if err := na.Close(); err != nil {
			t.Error(err)
		}
		for i := range 40 {
			say(t, b, host, fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		wg.Wait()
		synctest.Wait()

		var waits, arrivals []time.Duration
		for _, c := range back {
			waits, arrivals = append(waits, c.wait-after), append(arrivals, c.back)
			if c.closed != 0 || c.back != c.wait || c.anew != (c.linger == 0) {
				t.Errorf("%s: closed after %v, told to wait %v, back after %v, anew: %v", c.name, c.closed, c.wait, c.back, c.anew)
			}
		}
		if err := uniform(waits, spread); err != nil {
			t.Errorf("retry_after is not uniform: %v", err)
		}
		t.Logf("of %d at most %d come back within a second", len(arrivals), densest(arrivals))
		if n := densest(arrivals); n > allowed {
			t.Errorf("%d come back within a second", n)
		}

		truth := pending(witness)
		for _, c := range back {
			heard := append(c.heard, c.guest.events()...)
			i := slices.IndexFunc(truth, func(e chat.Event) bool { return e.Meta().Pos == c.in.Pos })
			if !slices.Equal(heard, truth[i:]) {
				t.Errorf("%s has heard %d events, not the %d there are, or others", c.name, len(heard), len(truth[i:]))
			}
		}
		count := make(map[string]int)
		for _, e := range truth {
			switch e := e.(type) {
			case chat.Joined:
				count["joined"]++
			case chat.Resumed:
				count["resumed"]++
			case chat.Left:
				count["left for "+e.Reason.String()]++
			}
		}
		short := clients / 10 // those without a linger
		diff(t, "what others saw", map[string]int{
			"joined": 1 + clients + short, "resumed": clients - short - len(lost), "left for shutdown": short,
		}, count)

		// Who does not come back is gone when the linger is over.
		time.Sleep(linger)
		gone := pending(witness)
		for _, e := range gone {
			if left, ok := e.(chat.Left); !ok || left.Reason != chat.Lost || !slices.ContainsFunc(lost, func(c *returner) bool { return c.name == left.User.Name }) {
				t.Errorf("after the linger: %+v", e)
			}
		}
		if len(gone) != len(lost) || len(b.Members()) != 1+clients-len(lost) {
			t.Errorf("%d left after the linger, %d are in", len(gone), len(b.Members()))
		}
		b.Close()
		if err := nb.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPromise12ShutdownWithoutHandOver shows that everybody leaves then, whether they linger or not, and that all are told
// the same where no spread is asked for.
func TestPromise12ShutdownWithoutHandOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := chat.NewMemoryLog(nil)
		a, b := newRoom(t, &chat.RoomOptions{Log: log}), newRoom(t, &chat.RoomOptions{Log: log})
		witness := subscribe(t, b, nil)
		var all []*returner
		for i := range 20 {
			c := &returner{name: fmt.Sprint("c", i), linger: time.Duration(i%2) * time.Hour}
			c.in = c.connect(t, a, chat.LoginRequest{Name: c.name}).(chat.LoginReply)
			all = append(all, c)
		}
		watching := serve(t, a, &chat.ServeOptions{Spectators: true})
		watching.ask(chat.SubscribeRequest{})
		pending(witness)
		if err := a.Shutdown(context.Background(), nil); err != nil {
			t.Error(err)
		}
		var want, left []string
		for _, c := range all {
			want = append(want, "-"+c.name+"(shutdown)")
		}
		for _, e := range pending(witness) {
			left = append(left, words([]chat.Event{e}))
		}
		slices.Sort(want)
		slices.Sort(left)
		diff(t, "what the other node saw", want, left)
		down := chat.ShutdownError{RetryAfter: time.Second}
		for _, c := range all {
			if err, cause := c.guest.end(); err != down || cause != down {
				t.Errorf("%s: Serve returned %v, told %v", c.name, err, cause)
			}
			if _, err := b.Resume(context.Background(), c.in.Token, true); !errors.Is(err, chat.ErrToken) {
				t.Errorf("%s resumes: %v", c.name, err)
			}
		}
		if _, cause := watching.end(); cause != down {
			t.Errorf("a spectator is told %v", cause)
		}
	})
}

// A wsReturner is a client of chat.v1 that comes back as its close code says.
type wsReturner struct {
	*wsClient
	name, token string
	at          chat.Position
}

// login logs in and hears up to what the login did; more is put into the request as it is.
func (c *wsReturner) login(more string) {
	c.t.Helper()
	c.send(`{"op":"login",` + more + `}`)
	var in wsReply
	if err := json.Unmarshal([]byte(c.next()), &in); err != nil || in.Start == nil || in.User.Name != c.name {
		c.t.Fatalf("%s: answered %+v (%v)", c.name, in, err)
	}
	if !c.at.IsZero() && (!in.Start.Resumed || in.Start.At != c.at) {
		c.t.Errorf("%s: it was at %v, and begins with %+v", c.name, c.at, in.Start)
	}
	c.token, c.at = in.Token, in.Start.At
	for c.at != in.Pos {
		c.hear()
	}
}

// hear takes one event.
func (c *wsReturner) hear() chat.Event {
	c.t.Helper()
	e := decodeEvent(c.t, c.next())
	if e.Meta().Prev != c.at {
		c.t.Errorf("%s: %+v comes after %v", c.name, e, c.at)
	}
	c.at = e.Meta().Pos
	return e
}

// closed hears the rest, and returns what the close frame says.
func (c *wsReturner) closed() (code int, reason string, retryAfter time.Duration) {
	c.t.Helper()
	for f := range c.frames {
		c.at = decodeEvent(c.t, f).Meta().Pos
	}
	if _, err := fmt.Sscanf(c.ended(), "close %d %s", &code, &reason); err != nil {
		c.t.Fatalf("%s: ended with %s", c.name, c.ended())
	}
	var r struct {
		Code  string
		After int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal([]byte(reason), &r); err != nil {
		c.t.Errorf("%s: the reason %s: %v", c.name, reason, err)
	}
	return code, reason, time.Duration(r.After) * time.Millisecond
}

// TestSpreadWebSocket is the same in frames: each close frame has a time of its own, in milliseconds, and the session is
// taken up at another server.
func TestSpreadWebSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const after, spread = 1500 * time.Millisecond, 10 * time.Second
		log := chat.NewMemoryLog(nil)
		o := &chat.WebSocketOptions{Serve: chat.ServeOptions{Linger: time.Minute}}
		a, b := serveWS(t, &chat.RoomOptions{Log: log}, o, nil), serveWS(t, &chat.RoomOptions{Log: log}, o, nil)
		sub := b.follow()
		var all []*wsReturner
		for i := range 20 {
			c := &wsReturner{wsClient: a.dial(), name: fmt.Sprint("c", i)}
			c.login(`"name":"` + c.name + `"`)
			all = append(all, c)
		}
		pending(sub)
		down := time.Now()
		if err := a.room.Shutdown(context.Background(), &chat.ShutdownOptions{RetryAfter: after, Spread: spread, HandOver: true}); err != nil {
			t.Error(err)
		}
		told := make(map[time.Duration]bool)
		var last time.Duration
		var wg sync.WaitGroup
		for _, c := range all {
			code, reason, wait := c.closed()
			if code != 4000 || wait < after || wait > after+spread || reason != fmt.Sprintf(`{"code":"shutdown","retry_after_ms":%d}`, wait.Milliseconds()) {
				t.Errorf("%s: close %d %s", c.name, code, reason)
			}
			told[wait], last = true, max(last, wait)
			wg.Go(func() {
				time.Sleep(wait)
				c.wsClient = b.dial()
				c.login(`"token":"` + c.token + `","after":"` + c.at.String() + `"`)
			})
		}
		if d := time.Since(down); d != 0 {
			t.Errorf("the frames were there after %v", d)
		}
		wg.Wait()
		if d := time.Since(down); d != last {
			t.Errorf("all are back after %v; the last was told %v", d, last)
		}
		if len(told) < 10 { // of 20 out of 10,000: the others the same with a probability below 1e-30
			t.Errorf("only %d times were told: %v", len(told), told)
		}
		for _, e := range pending(sub) {
			if _, ok := e.(chat.Resumed); !ok {
				t.Errorf("others saw %+v", e)
			}
		}
	})
}

// TestCloseCodesAcrossNodes shows the close codes that come from another node: a kick, a session that is taken over
// there, and a node that was taken for dead. What each client does next, as PROTOCOL.md says, gives what it should.
func TestCloseCodesAcrossNodes(t *testing.T) {
	for _, tt := range []struct {
		why    string
		linger time.Duration
		end    func(t *testing.T, w *twoServers)
		close  string
		next   string // what its token gives then, at either server; empty: its session
		seen   string // by others, up to then
	}{
		{"a kick", time.Minute, func(t *testing.T, w *twoServers) {
			if err := w.b.room.Kick(context.Background(), "ann", "no\"spam\""); err != nil {
				t.Error(err)
			}
		}, `close 4500 {"code":"kicked","note":"no\"spam\""}`, "token", "-Ann(kicked)"},
		{"taken over", time.Minute, func(t *testing.T, w *twoServers) {
			if _, err := w.b.room.Resume(context.Background(), w.ann.token, true); err != nil {
				t.Error(err)
			}
		}, `close 4502 {"code":"taken_over"}`, "", ""},
		{"fenced, while nobody ended the session", time.Minute, func(_ *testing.T, w *twoServers) { w.pause() }, `close 4006 {"code":"fenced"}`, "", ""},
		{"fenced, without a linger", 0, func(_ *testing.T, w *twoServers) { w.pause() }, `close 4006 {"code":"fenced"}`, "token", "-Ann(lost)"},
		{"a record that cannot be read", time.Minute, func(t *testing.T, w *twoServers) {
			if _, err := w.log.Append(context.Background(), chat.Entry{ID: "x", Key: "x", Data: []byte{99}}); err != nil {
				t.Error(err)
			}
		}, `close 4005 {"code":"record"}`, "record", ""},
		{"the node's process is shut down, and hands over", time.Minute, func(t *testing.T, w *twoServers) {
			if err := w.a.room.Shutdown(context.Background(), &chat.ShutdownOptions{HandOver: true}); err != nil {
				t.Error(err)
			}
		}, `close 4000 {"code":"shutdown","retry_after_ms":1000}`, "", ""},
		{"the node's process is closed", time.Minute, func(t *testing.T, w *twoServers) { w.a.room.Close() },
			`close 4001 {"code":"closed"}`, "token", "-Ann(shutdown)"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newTwoServers(t, tt.linger)
				tt.end(t, w)
				code, reason, _ := w.ann.closed()
				if got := fmt.Sprintf("close %d %s", code, reason); got != tt.close {
					t.Errorf("%s\nwant %s", got, tt.close)
				}
				time.Sleep(time.Second)
				diff(t, "what others saw", tt.seen, words(pending(w.sub)))
				for _, s := range []*wsServer{w.b, w.a} {
					c, resp, err := s.tryDial()
					if err != nil { // the room has ended
						if resp == nil || resp.StatusCode != 503 || s == w.b && tt.next != "record" {
							t.Errorf("dial: %v", err)
						}
						continue
					}
					if w.ann.wsClient = c; tt.next == "" {
						w.ann.login(`"token":"` + w.ann.token + `","after":"` + w.ann.at.String() + `"`)
						continue
					}
					c.send(`{"op":"login","token":"` + w.ann.token + `"}`)
					if got := c.next(); !strings.HasPrefix(got, `{"reply":"error","code":"`+tt.next+`"`) {
						t.Errorf("its token gives %s", got)
					}
				}
			})
		})
	}
}

// twoServers are two nodes with a client, Ann, at the first.
type twoServers struct {
	t    *testing.T
	log  *chat.MemoryLog
	beat *haltable // where the first one's heartbeats go
	a, b *wsServer
	ann  *wsReturner
	sub  *chat.Subscription // at the second
}

func newTwoServers(t *testing.T, linger time.Duration) *twoServers {
	nodes := chat.NewMemoryLog(nil)
	w := &twoServers{t: t, log: chat.NewMemoryLog(nil), beat: &haltable{Log: nodes}}
	na, nb := newNode(t, w.beat), newNode(t, nodes)
	t.Cleanup(func() { // after the rooms were closed
		if err := errors.Join(na.Close(), nb.Close()); err != nil {
			t.Error(err)
		}
	})
	o := &chat.WebSocketOptions{Serve: chat.ServeOptions{Linger: linger}}
	w.a, w.b = serveWS(t, &chat.RoomOptions{Log: w.log, Node: na}, o, nil), serveWS(t, &chat.RoomOptions{Log: w.log, Node: nb}, o, nil)
	w.ann = &wsReturner{wsClient: w.a.dial(), name: "Ann"}
	w.ann.login(`"name":"Ann"`)
	synctest.Wait() // the other server has read of it too
	w.sub = w.b.follow()
	return w
}

// pause keeps the first node's heartbeats from the log until it is judged, and lets it go on then.
func (w *twoServers) pause() {
	halted := make(chan struct{})
	w.beat.halted.Store(&halted)
	time.Sleep(25 * time.Second)
	w.beat.halted.Store(nil)
	close(halted)
	time.Sleep(6 * time.Second)
}
