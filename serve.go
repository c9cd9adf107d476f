package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ServeOptions configures [Room.Serve]. The zero value is ready for use.
type ServeOptions struct {
	// Spectators lets the connection hear the room without being logged in.
	Spectators bool

	// UserID becomes the [User].ID of whoever logs in over this connection.
	UserID string

	// Linger is how long the client's session outlives the connection; see [LoginOptions].
	Linger time.Duration

	// Token becomes the token of a session that logs in over this connection, as in [LoginOptions], for a program whose
	// clients have a secret already. Empty: one is made. What is no token, or another
	// session's, is an [ErrID] at the login.
	Token string

	// Source is who is counted for the connection, such as an address; see [Room.Admit]. Empty: it is not counted, or was
	// admitted before.
	Source string

	// Rate is how many requests a second are taken from the client, with a burst of twice as many; what is over is
	// refused. Zero means 20, negative no limit.
	Rate int

	// MaxUnread is how many bytes of events the client may fall behind before it is ended with a [SlowError]; a room looks
	// at it with each event. Zero means 1 MiB, negative as far as the room's window goes.
	MaxUnread int

	// LoginTimeout ends a connection that has not been logged in for so long, unless Spectators is set. Zero means one
	// minute, negative never.
	LoginTimeout time.Duration
}

// requestTimeout bounds how long one request waits for the log.
const requestTimeout = 10 * time.Second

// A conn is a client that is being served.
type conn struct {
	cursor
	opts      ServeOptions
	transport Transport
	trier     trier  // the same, or nil
	release   func() // when all is over
	bucket    bucket

	// Guarded by the room's mutex.
	session *Session
	timer   *time.Timer        // of LoginTimeout, while there is no session
	cancel  context.CancelFunc // of the request under way, or nil
	ended   bool               // what a request waits for is of no use any more
}

// Serve is one client's whole life: it reads the client's requests, carries them out, and delivers replies and events,
// until the client goes or is ended. ctx is the client's lifetime: when it ends, so does the connection. Serve returns
// when the transport is closed and, if the client was logged in, its leaving is under way.
//
// It returns nil if the client said goodbye. Else the reason, which is also what the transport's Close was told:
// [ErrLost], wrapping the transport's error; [ErrSlow] as a [SlowError]; [ErrKicked] as a [KickedError]; [ErrClosed],
// as a [ShutdownError] where the room was shut down; [ErrSource], [ErrAnonymous] or [ErrLoginTimeout] in a [LimitError];
// ctx's cause; what the room's log ended with.
func (r *Room) Serve(ctx context.Context, t Transport, o *ServeOptions) error {
	c, err := r.connect(t, o)
	if err != nil {
		t.Close(err)
		return err
	}
	defer c.release()
	unwatch := c.watch(ctx)
	c.fail(c.receive(ctx))
	err = r.exit(c)
	unwatch()
	// Nothing calls the transport after this call returned, and its Close is the last.
	_ = r.until(context.Background(), func() bool { return c.over && !c.owed })
	t.Close(err)
	if err == io.EOF {
		return nil
	}
	return err
}

// connect makes t one of the room's connections, until release is called.
func (r *Room) connect(t Transport, o *ServeOptions) (*conn, error) {
	c := &conn{transport: t}
	if o != nil {
		c.opts = *o
	}
	if c.opts.LoginTimeout == 0 {
		c.opts.LoginTimeout = time.Minute
	}
	if c.opts.Spectators {
		c.opts.LoginTimeout = -1
	}
	c.trier, _ = t.(trier)
	c.reader = c
	c.bound = int64(limit(c.opts.MaxUnread, defaultUnread))
	c.bucket.rate = limit(c.opts.Rate, 20)
	leave := func() {}
	if c.opts.Source != "" {
		var err error
		if leave, err = r.Admit(c.opts.Source); err != nil {
			return nil, err
		}
	}
	if err := r.enter(c); err != nil {
		leave()
		return nil, r.refused(err)
	}
	c.release = func() {
		leave()
		r.wg.Done()
	}
	return c, nil
}

// watch ends the connection when ctx ends, until unwatch is called, which waits for a call that is under way.
func (c *conn) watch(ctx context.Context) (unwatch func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.fail(context.Cause(ctx))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// A trier is a [Transport] with the method of T8.
type trier interface{ TryDeliver(b *Batch) bool }

// Admit counts a connection from source, as one of at most [RoomOptions].MaxPerSource, until release is called. An
// adapter that can refuse a client before it makes a connection of it calls Admit then, and leaves Source empty in
// [ServeOptions]. There is no limit for the empty source. Calling release twice is harmless.
//
// Errors: [ErrSource] and [ErrAnonymous] in a [LimitError], and [ErrClosed].
func (r *Room) Admit(source string) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.refusal()
	if err == nil && source != "" && r.sources[source] >= r.opts.MaxPerSource {
		err = LimitError{Limit: ErrSource, Max: r.opts.MaxPerSource, RetryAfter: admitRetry}
	}
	if err == nil {
		err = r.crowded()
	}
	if err != nil {
		r.stats.refused[Code(err)]++
		return nil, err
	}
	r.sources[source]++
	released := false
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if released {
			return
		}
		released = true
		if r.sources[source]--; r.sources[source] == 0 {
			delete(r.sources, source)
		}
	}, nil
}

// admitRetry is when a client that was not let in may try again.
const admitRetry = 10 * time.Second

// crowded refuses one more connection that is not logged in. The room's mutex is held.
func (r *Room) crowded() error {
	if r.anonymous >= r.opts.MaxAnonymous {
		return LimitError{Limit: ErrAnonymous, Max: r.opts.MaxAnonymous, RetryAfter: admitRetry}
	}
	return nil
}

// enter makes c one of the room's connections.
func (r *Room) enter(c *conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmp.Or(r.refusal(), r.crowded()); err != nil {
		return err
	}
	r.wg.Add(1)
	r.conns[c] = struct{}{}
	r.attach(&c.cursor)
	c.nameless()
	return nil
}

// exit ends the session and takes c out of the room; it returns why c ended.
func (r *Room) exit(c *conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := c.session; s != nil {
		c.session, s.conn = nil, nil
		if reason := reasonOf(c.err); reason == Lost || reason == Slow {
			r.away(s, s.linger, reason)
		} else {
			r.leave(s, reason, "", nil)
		}
	} else {
		c.named()
	}
	r.detach(&c.cursor)
	delete(r.conns, c)
	r.change()
	return c.err
}

// reasonOf is the reason of a Left for what ended a connection.
func reasonOf(err error) Reason {
	switch {
	case err == io.EOF: // not one that is wrapped: a connection cut short
		return Goodbye
	case errors.Is(err, ErrSlow):
		return Slow
	case errors.Is(err, ErrClosed):
		return Shutdown
	}
	return Lost
}

// nameless begins a time without a session. The room's mutex is held.
func (c *conn) nameless() {
	c.room.anonymous++
	if d := c.opts.LoginTimeout; d > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(d, func() {
			c.room.mu.Lock()
			defer c.room.mu.Unlock()
			if c.timer == timer {
				c.room.end(&c.cursor, LimitError{Limit: ErrLoginTimeout, Max: int(d / time.Second), RetryAfter: admitRetry})
			}
		})
		c.timer = timer
	}
}

// named ends that time. The room's mutex is held.
func (c *conn) named() {
	c.room.anonymous--
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// left is told that the connection's session has ended. The room's mutex is held.
func (c *conn) left(s *Session) {
	if c.session != s {
		return
	}
	c.session = nil
	c.nameless()
	if !c.opts.Spectators && c.hearing && c.stop == noStop {
		c.stop, c.stopErr = c.room.window.head(), nil // it hears of its own leaving, and no more
		c.room.urge(&c.cursor)
	}
}

// fail ends the connection; the first reason counts, and is what the transport is told.
func (c *conn) fail(err error) {
	r := c.room
	r.mu.Lock()
	c.halt(err)
	err = c.err
	r.mu.Unlock()
	c.transport.Close(err)
}

func (c *conn) try(b *Batch) bool {
	if c.trier == nil {
		return false
	}
	for _, rep := range b.replies {
		if _, ok := rep.(laterReply); ok { // it may take long
			return false
		}
	}
	return c.trier.TryDeliver(b)
}

func (c *conn) deliver(b *Batch) error {
	for i, rep := range b.replies {
		if later, ok := rep.(laterReply); ok {
			b.replies[i] = later()
		}
	}
	err := c.transport.Deliver(b)
	if err == nil {
		return nil
	}
	if err = c.lost(err); errors.Is(err, ErrLost) { // what it said before may still be there to read, a goodbye too
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.room.until(ctx, func() bool { return c.slot < 0 })
	}
	return err
}

func (c *conn) interrupt(err error) { c.transport.Close(err) }

func (c *conn) end(err error) {
	c.room.mu.Lock()
	c.ended = true
	cancel := c.cancel
	c.room.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	c.transport.Close(err)
}

// lost is why a connection ends whose transport returned err.
func (c *conn) lost(err error) error {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.err == nil && errors.Is(err, ErrSlow) {
		r.slow(&c.cursor)
	}
	if c.err != nil {
		return c.err
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// A laterReply is made when the room's mutex is not held.
type laterReply func() Reply

func (laterReply) reply() {}

// receive carries out the client's requests until there are no more, and returns why.
func (c *conn) receive(ctx context.Context) error {
	for {
		if err := c.waitForReplies(); err != nil {
			return err
		}
		req, err := c.transport.Receive()
		if err == io.EOF {
			return err
		}
		if err != nil {
			return c.lost(err)
		}
		apart(func() { c.handle(ctx, req) })
	}
}

// apart runs f in a goroutine of its own, whose stack goes with it: a request needs twice as much as a connection should
// keep that waits for the next one.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// waitForReplies waits while a client that sends does not read what it is answered.
func (c *conn) waitForReplies() error {
	r := c.room
	r.mu.Lock()
	for len(c.replies) >= maxReplies && c.err == nil {
		if c.drained == nil {
			c.drained = make(chan struct{})
		}
		drained := c.drained
		r.mu.Unlock()
		<-drained
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	return c.err
}

// handle carries out one request.
func (c *conn) handle(ctx context.Context, req Request) {
	if wait, ok := c.bucket.take(time.Now()); !ok {
		c.refuse(refOf(req), LimitError{Limit: ErrRate, Max: c.bucket.rate, RetryAfter: wait})
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errRequestTimeout)
	defer cancel()
	c.underWay(cancel)
	defer c.underWay(nil)
	var err error
	switch req := req.(type) {
	case LoginRequest:
		err = c.login(ctx, req)
	case SendRequest:
		err = c.send(ctx, req)
	case LogoutRequest:
		err = c.logout(ctx, req)
	case SubscribeRequest:
		err = c.subscribe(ctx, req)
	case BadRequest:
		err = req.Err
		if err == nil || Code(err) == "internal" {
			err = fmt.Errorf("%w: %v", ErrRequest, err)
		}
	default:
		err = fmt.Errorf("%w: %T is not a request", ErrRequest, req)
	}
	if err != nil {
		c.refuse(refOf(req), err)
	}
}

// underWay says how the request that is carried out now can be cancelled; nil: there is none.
func (c *conn) underWay(cancel context.CancelFunc) {
	c.room.mu.Lock()
	c.cancel = cancel
	ended := c.ended
	c.room.mu.Unlock()
	if ended && cancel != nil {
		cancel()
	}
}

var errRequestTimeout = errors.New("chat: the log did not answer in time")

func refOf(req Request) string {
	switch req := req.(type) {
	case LoginRequest:
		return req.Ref
	case SendRequest:
		return req.Ref
	case LogoutRequest:
		return req.Ref
	case SubscribeRequest:
		return req.Ref
	case BadRequest:
		return req.Ref
	}
	return ""
}

// refuse answers with an error and counts it; nobody else sees it (promise 14).
func (c *conn) refuse(ref string, err error) {
	c.room.refused(err)
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.reply(ErrorReply{ref, err})
}

func (c *conn) login(ctx context.Context, req LoginRequest) error {
	r := c.room
	given := !req.Hear.After.IsZero() || req.Hear.Last > 0
	var start uint64
	var resumed bool
	if err := r.reach(ctx, req.Hear.After); err != nil {
		return err
	}
	var err error
	r.mu.Lock()
	listening := c.hearing && c.stop == noStop
	switch {
	case c.session != nil:
		err = ErrLoggedIn
	case listening && given:
		err = ErrHearing
	case !listening:
		if start, resumed, err = r.locate(req.Hear); err == nil {
			err = r.reserve(&c.cursor)
		}
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unreserve(&c.cursor)
	}()
	in := func(s *Session, pos Position, at uint64) {
		c.session = s
		c.named()
		rep := LoginReply{Ref: req.Ref, User: s.user, Pos: pos, Token: s.token}
		if listening {
			c.reply(rep)
			return
		}
		if !given {
			start = at
		}
		r.unhear(&c.cursor) // what it was about to hear of an earlier session
		begin := r.begin(&c.cursor, start, resumed)
		c.reply(laterReply(func() Reply {
			s := begin()
			rep.Start = &s
			return rep
		}))
	}
	if req.Token != "" {
		_, err = r.resume(ctx, req.Token, true, c, in)
	} else {
		_, err = r.login(ctx, req.Name, LoginOptions{ID: c.opts.UserID, Linger: c.opts.Linger, Token: c.opts.Token}, c, in)
	}
	return err
}

func (c *conn) send(ctx context.Context, req SendRequest) error {
	c.room.mu.Lock()
	s := c.session
	c.room.mu.Unlock()
	if s == nil {
		return ErrNotLoggedIn
	}
	_, err := c.room.send(ctx, s, req.Text, SendOptions{ID: req.ID}, func(rcpt Receipt) {
		c.reply(SendReply{req.Ref, rcpt})
	})
	return err
}

func (c *conn) logout(ctx context.Context, req LogoutRequest) error {
	r := c.room
	r.mu.Lock()
	s := c.session
	if s == nil || s.leaving != nil {
		r.mu.Unlock()
		return ErrNotLoggedIn
	}
	late := false
	l := r.leave(s, Logout, "", func(pos Position) {
		if !late {
			c.reply(SendReply{req.Ref, Receipt{Pos: pos}})
		}
	})
	r.mu.Unlock()
	err := l.wait(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	late = err != nil
	return err
}

func (c *conn) subscribe(ctx context.Context, req SubscribeRequest) error {
	r := c.room
	if err := r.reach(ctx, req.Hear.After); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case c.session != nil || c.opts.Spectators && c.hearing:
		return ErrHearing
	case !c.opts.Spectators:
		return ErrNotLoggedIn
	case r.refusal() != nil: // it would forget where a shutdown ends it
		return r.refusal()
	}
	at, resumed, err := r.locate(req.Hear)
	if err == nil {
		err = r.reserve(&c.cursor)
	}
	if err != nil {
		return err
	}
	defer r.unreserve(&c.cursor)
	start := r.begin(&c.cursor, at, resumed)
	c.reply(laterReply(func() Reply { return SubscribeReply{req.Ref, start()} }))
	return nil
}
