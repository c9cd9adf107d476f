package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A guest is a Transport whose other end is the test. Nothing of it blocks the test.
type guest struct {
	t      testing.TB
	in     chan chat.Request // what it has asked for; closing it is a goodbye
	lost   chan error        // what breaks the connection
	closed chan struct{}     // closed by Close
	served chan struct{}     // closed when Serve has returned
	err    error             // what Serve returned

	mu       sync.Mutex
	got      []any                     // replies and events, in the order of their coming
	causes   []error                   // what Close was told
	batch    func(b *chat.Batch) error // if not nil, what Deliver does besides
	quick    bool                      // batch doesn't wait: TryDeliver may call it
	tries    int                       // how often TryDeliver was called
	gate     chan struct{}             // Deliver waits for it while it is not nil
	inside   [2]int                    // how many calls of Receive and of Deliver are running
	returned bool                      // Serve has
}

// serve serves a new guest.
func serve(t testing.TB, r *chat.Room, o *chat.ServeOptions) *guest {
	c := newGuest(t)
	c.serve(context.Background(), r, o)
	return c
}

func newGuest(t testing.TB) *guest {
	return &guest{
		t: t, in: make(chan chat.Request, 10_000), lost: make(chan error, 1),
		closed: make(chan struct{}), served: make(chan struct{}),
	}
}

func (c *guest) serve(ctx context.Context, r *chat.Room, o *chat.ServeOptions) {
	go func() {
		defer close(c.served)
		err := r.Serve(ctx, c, o)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err, c.returned = err, true
		if c.inside != [2]int{} {
			c.t.Errorf("Serve returned with calls of the transport running: %v", c.inside)
		}
		if len(c.causes) == 0 {
			c.t.Error("Serve returned without a Close")
		}
	}()
}

func (c *guest) enter(i int, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside[i] += by; c.inside[i] > 1 {
		c.t.Errorf("clause T1: call %d runs beside itself", i)
	}
	if by > 0 && c.returned {
		c.t.Error("clause T7: a call after Serve has returned")
	}
}

func (c *guest) Receive() (chat.Request, error) {
	c.enter(0, 1)
	defer c.enter(0, -1)
	select {
	case err := <-c.lost:
		return nil, err
	default:
	}
	select {
	case req, ok := <-c.in:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case err := <-c.lost:
		return nil, err
	case <-c.closed:
		return nil, io.ErrClosedPipe
	}
}

func (c *guest) Deliver(b *chat.Batch) error {
	c.enter(1, 1)
	defer c.enter(1, -1)
	c.mu.Lock()
	gate, batch := c.gate, c.batch
	c.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-c.closed:
			return io.ErrClosedPipe
		}
	}
	if batch != nil {
		if err := batch(b); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(b)
	return nil
}

// TryDeliver takes two of three batches, unless there is something that it would wait for.
func (c *guest) TryDeliver(b *chat.Batch) bool {
	c.enter(1, 1)
	defer c.enter(1, -1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if len(c.causes) > 0 || c.gate != nil || c.tries%3 == 0 || c.batch != nil && !c.quick {
		return false
	}
	if c.batch != nil && c.batch(b) != nil {
		return false
	}
	c.keep(b)
	return true
}

func (c *guest) keep(b *chat.Batch) {
	for _, rep := range b.Replies() {
		c.got = append(c.got, rep)
	}
	for _, e := range b.Events() {
		c.got = append(c.got, e)
	}
}

func (c *guest) Close(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.returned {
		c.t.Error("clause T7: Close after Serve has returned")
	}
	if c.causes = append(c.causes, cause); len(c.causes) == 1 {
		close(c.closed)
	}
	return nil
}

// ask sends requests and waits until all that follows from them has happened.
func (c *guest) ask(reqs ...chat.Request) {
	for _, req := range reqs {
		c.in <- req
	}
	synctest.Wait()
}

// goodbye, lose: the client goes.
func (c *guest) goodbye()       { close(c.in) }
func (c *guest) lose(err error) { c.lost <- err }

// stall makes the client read nothing until the returned function is called.
func (c *guest) stall() (resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gate := make(chan struct{})
	c.gate = gate
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gate = nil
		close(gate)
	}
}

// all returns what was delivered.
func (c *guest) all() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// events returns the events that were delivered.
func (c *guest) events() []chat.Event {
	var events []chat.Event
	for _, v := range c.all() {
		if e, ok := v.(chat.Event); ok {
			events = append(events, e)
		}
	}
	return events
}

// last returns the newest reply.
func (c *guest) last() chat.Reply {
	all := c.all()
	for i := len(all) - 1; i >= 0; i-- {
		if rep, ok := all[i].(chat.Reply); ok {
			return rep
		}
	}
	c.t.Error("no reply")
	return nil
}

// end waits for Serve and returns its error, and the cause that Close was told first.
func (c *guest) end() (err, cause error) {
	<-c.served
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err, c.causes[0]
}

// gist is a short form of what was delivered: replies in brackets, events as words.
func (c *guest) gist() string {
	var list []string
	for _, v := range c.all() {
		switch v := v.(type) {
		case chat.Event:
			list = append(list, words([]chat.Event{v}))
		case chat.LoginReply:
			s := fmt.Sprintf("[in %s@%d", v.User.Name, v.Pos.Seq)
			if v.Start != nil {
				s += fmt.Sprintf(" from %d", v.Start.At.Seq)
			}
			list = append(list, s+"]")
		case chat.SendReply:
			word := "sent"
			if v.Receipt.ID == "" {
				word = "out"
			}
			list = append(list, fmt.Sprintf("[%s@%d]", word, v.Receipt.Pos.Seq))
		case chat.SubscribeReply:
			list = append(list, fmt.Sprintf("[hears from %d]", v.Start.At.Seq))
		case chat.ErrorReply:
			list = append(list, "["+chat.Code(v.Err)+"]")
		}
	}
	return fmt.Sprint(list)
}

func TestServeConversation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		c := serve(t, r, nil)
		c.ask(
			chat.LoginRequest{Ref: "a", Name: "Ann"},
			chat.SendRequest{Ref: "b", Text: "hi"},
			chat.LogoutRequest{Ref: "c"},
			chat.SendRequest{Ref: "d", Text: "more"},
			chat.LoginRequest{Ref: "e", Name: "Bob"},
		)
		diff(t, "delivered one at a time or joined, replies first", true, len(c.all()) > 0)
		c.goodbye()
		if err, cause := c.end(); err != nil || cause != io.EOF {
			t.Errorf("Serve after goodbye: %v, the transport was told %v", err, cause)
		}
		synctest.Wait()
		if m := r.Members(); len(m) != 0 {
			t.Errorf("still in: %v", m)
		}
	})
}

// TestServeReplies shows each request's answer, one at a time.
func TestServeReplies(t *testing.T) {
	for _, row := range []struct {
		why  string
		o    chat.ServeOptions
		reqs []chat.Request
		want string
	}{
		{
			"a login is answered before its own Joined", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}},
			"[[in Ann@2 from 1] +Ann]",
		},
		{
			"with history, from there", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann", Hear: chat.SubscribeOptions{Last: 5}}},
			"[[in Ann@2 from 0] +Zoe +Ann]",
		},
		{
			"a spectator hears, then logs in without a second start", chat.ServeOptions{Spectators: true},
			[]chat.Request{chat.SubscribeRequest{}, chat.LoginRequest{Name: "Ann"}},
			"[[hears from 1] [in Ann@2] +Ann]",
		},
		{
			"and hears on after a logout", chat.ServeOptions{Spectators: true},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.LogoutRequest{}, chat.LoginRequest{Name: "Ann"}},
			"[[in Ann@2 from 1] +Ann [out@3] -Ann(logout) [in Ann@4] +Ann]",
		},
		{
			"who is no spectator hears of the own leaving, and then nothing until the next login", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.LogoutRequest{}, nil, chat.LoginRequest{Name: "Ann"}},
			"[[in Ann@2 from 1] +Ann [out@3] -Ann(logout) [in Ann@5 from 4] +Ann]",
		},
		{
			"nobody subscribes who is not let", chat.ServeOptions{},
			[]chat.Request{chat.SubscribeRequest{}},
			"[[not_logged_in]]",
		},
		{
			"who is logged in is not told otherwise", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.SubscribeRequest{}},
			"[[in Ann@2 from 1] +Ann [subscribed]]",
		},
		{
			"a second subscription", chat.ServeOptions{Spectators: true},
			[]chat.Request{chat.SubscribeRequest{}, chat.SubscribeRequest{}},
			"[[hears from 1] [subscribed]]",
		},
		{
			"a login that asks for history, but hears already", chat.ServeOptions{Spectators: true},
			[]chat.Request{chat.SubscribeRequest{}, chat.LoginRequest{Name: "Ann", Hear: chat.SubscribeOptions{Last: 1}}},
			"[[hears from 1] [subscribed]]",
		},
		{
			"a second login", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.LoginRequest{Name: "Bob"}},
			"[[in Ann@2 from 1] +Ann [logged_in]]",
		},
		{
			"a message is answered before it is delivered", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.SendRequest{Text: "hi"}},
			"[[in Ann@2 from 1] +Ann [sent@3] Ann:hi]",
		},
		{
			"its retry has the same answer, and there is no second event", chat.ServeOptions{},
			[]chat.Request{chat.LoginRequest{Name: "Ann"}, chat.SendRequest{ID: "1", Text: "hi"}, chat.SendRequest{ID: "1", Text: "hi"}},
			"[[in Ann@2 from 1] +Ann [sent@3] Ann:hi [sent@3]]",
		},
		{
			"out of turn, and malformed", chat.ServeOptions{},
			[]chat.Request{
				chat.SendRequest{Text: "hi"}, chat.LogoutRequest{}, chat.BadRequest{}, chat.BadRequest{Err: io.ErrNoProgress},
				chat.BadRequest{Err: chat.ErrTextTooLong}, chat.LoginRequest{Name: "zoe"}, chat.LoginRequest{Name: "\u200b"},
			},
			"[[not_logged_in] [not_logged_in] [request] [request] [text_too_long] [name_taken] [name]]",
		},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoom(t, nil)
				zoe := login(t, r, "Zoe")
				c := serve(t, r, &row.o)
				synctest.Wait()
				for _, req := range row.reqs {
					if req == nil {
						say(t, r, zoe, "unheard")
						continue
					}
					c.ask(req)
				}
				diff(t, "delivered", row.want, c.gist())
			})
		})
	}
}

// TestServeEnds shows why a client's connection ends: what Serve returns, what the client is told, and what the others
// see.
func TestServeEnds(t *testing.T) {
	broken := errors.New("reset by peer")
	for _, row := range []struct {
		why    string
		end    func(t *testing.T, r *chat.Room, c *guest, cancel context.CancelCauseFunc)
		err    error // what Serve's error is; nil for nil
		reason chat.Reason
	}{
		{"a goodbye", func(_ *testing.T, _ *chat.Room, c *guest, _ context.CancelCauseFunc) { c.goodbye() }, nil, chat.Goodbye},
		{"a loss", func(_ *testing.T, _ *chat.Room, c *guest, _ context.CancelCauseFunc) { c.lose(broken) }, broken, chat.Lost},
		{
			"a connection cut in the middle of a frame: an EOF, but no goodbye",
			func(_ *testing.T, _ *chat.Room, c *guest, _ context.CancelCauseFunc) {
				c.lose(fmt.Errorf("reading a frame: %w", io.EOF))
			}, chat.ErrLost, chat.Lost,
		},
		{
			"a write that fails with EOF",
			func(t *testing.T, r *chat.Room, c *guest, _ context.CancelCauseFunc) {
				c.mu.Lock()
				c.batch = func(*chat.Batch) error { return io.EOF }
				c.mu.Unlock()
				c.ask(chat.SendRequest{Text: "hi"})
			}, chat.ErrLost, chat.Lost,
		},
		{
			"a write that took too long",
			func(t *testing.T, r *chat.Room, c *guest, _ context.CancelCauseFunc) {
				c.mu.Lock()
				c.batch = func(*chat.Batch) error { return fmt.Errorf("5 s: %w", chat.ErrSlow) }
				c.mu.Unlock()
				c.ask(chat.SendRequest{Text: "hi"})
			}, chat.ErrSlow, chat.Slow,
		},
		{"the end of its context", func(_ *testing.T, _ *chat.Room, _ *guest, cancel context.CancelCauseFunc) { cancel(broken) }, broken, chat.Lost},
		{
			"a kick", func(t *testing.T, r *chat.Room, _ *guest, _ context.CancelCauseFunc) {
				if err := r.Kick(context.Background(), "ANN", "enough"); err != nil {
					t.Error(err)
				}
			}, chat.KickedError{Note: "enough"}, chat.Kicked,
		},
		{
			"a shutdown", func(t *testing.T, r *chat.Room, _ *guest, _ context.CancelCauseFunc) {
				if err := r.Shutdown(context.Background(), &chat.ShutdownOptions{RetryAfter: time.Minute}); err != nil {
					t.Error(err)
				}
			}, chat.ShutdownError{RetryAfter: time.Minute}, chat.Shutdown,
		},
		{"a close", func(_ *testing.T, r *chat.Room, _ *guest, _ context.CancelCauseFunc) { r.Close() }, chat.ErrClosed, chat.Shutdown},
	} {
		t.Run(row.why, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := chat.NewMemoryLog(nil)
				r := newRoom(t, &chat.RoomOptions{Log: l})
				other := newRoom(t, &chat.RoomOptions{Log: l})
				sub := subscribe(t, other, nil)
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				c := newGuest(t)
				c.serve(ctx, r, nil)
				c.ask(chat.LoginRequest{Name: "Ann"})
				row.end(t, r, c, cancel)
				err, cause := c.end()
				if !errors.Is(err, row.err) || row.err == nil && cause != io.EOF || row.err != nil && err != cause {
					t.Errorf("Serve returned %v, the client was told %v", err, cause)
				}
				synctest.Wait()
				events := pending(sub)
				if left, ok := events[len(events)-1].(chat.Left); !ok || left.Reason != row.reason || len(other.Members()) != 0 {
					t.Errorf("the others saw %s, and have %v", words(events), other.Members())
				}
			})
		})
	}
}

// TestLogoutReplyAfterUnknown shows that a logout is answered also where its Left lands between two tries.
func TestLogoutReplyAfterUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l})
		c := serve(t, r, nil)
		c.ask(chat.LoginRequest{Name: "Ann"})
		l.set(once(isLeft, lateUnknown))
		c.ask(chat.LogoutRequest{})
		l.release()
		synctest.Wait()
		diff(t, "delivered", "[[in Ann@1 from 0] +Ann [out@2] -Ann(logout)]", c.gist())
	})
}

// TestShutdownDoesNotLetWhoLoggedOutHear shows that a connection that has yet to read up to its logout is not given what
// came after it, also when the room shuts down.
func TestShutdownDoesNotLetWhoLoggedOutHear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		zoe := login(t, r, "Zoe")
		c := serve(t, r, nil)
		c.ask(chat.LoginRequest{Name: "Ann"})
		resume := c.stall()
		say(t, r, zoe, "first")
		synctest.Wait() // it is being delivered
		c.ask(chat.LogoutRequest{})
		say(t, r, zoe, "not for Ann")
		done := make(chan error, 1)
		go func() { done <- r.Shutdown(context.Background(), nil) }()
		synctest.Wait()
		resume()
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		diff(t, "delivered", "[[in Ann@2 from 1] +Ann Zoe:first [out@4] -Ann(logout)]", c.gist())
	})
}

// TestShutdownEndsWhoAsksToHear shows that a connection which asks to hear the room while it shuts down ends with it.
func TestShutdownEndsWhoAsksToHear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		c := serve(t, r, &chat.ServeOptions{Spectators: true})
		resume := c.stall()
		c.ask(chat.BadRequest{}) // its answer is being delivered
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- r.Shutdown(ctx, nil) }()
		synctest.Wait()
		c.ask(chat.SubscribeRequest{})
		resume()
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if _, cause := c.end(); cause != (chat.ShutdownError{RetryAfter: time.Second}) {
			t.Errorf("ended with %v", cause)
		}
	})
}

// TestMaxSubscribersIsHeld shows that logins at the same time do not pass the limit on those who hear.
func TestMaxSubscribersIsHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l, MaxSubscribers: 2})
		l.set(only(isJoin, hold))
		var clients []*guest
		for i := range 5 {
			c := serve(t, r, nil)
			c.ask(chat.LoginRequest{Name: fmt.Sprint("n", i)})
			clients = append(clients, c)
		}
		l.release()
		synctest.Wait()
		in := 0
		for _, c := range clients {
			if _, ok := c.last().(chat.LoginReply); ok {
				in++
			}
		}
		if st := r.Stats(); in != 2 || st.Subscribers != 2 || st.Members != 2 {
			t.Errorf("%d are in; %+v", in, st)
		}
		// Who was refused, or left, holds no place.
		l.set(nil)
		clients[0].goodbye()
		clients[1].goodbye()
		synctest.Wait()
		for _, c := range clients[2:4] {
			c.ask(chat.LoginRequest{Name: fmt.Sprint("m", c.t.Name(), len(c.all()))})
		}
		for _, c := range clients {
			c.lose(io.ErrUnexpectedEOF)
		}
		synctest.Wait()
		if st := r.Stats(); st.Subscribers != 0 || st.Members != 0 || st.Connections != 0 {
			t.Errorf("after all are gone: %+v", st)
		}
	})
}
