package chat

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Session is somebody's being in a room, from [Room.Login] to their [Left]. It is a capability: who holds it can speak
// and leave as that user, and it cannot be made from what travels on a wire. Its methods may be called from any
// goroutine.
type Session struct {
	room *Room
	id   string
	key  string // of the name
	user User
	done chan struct{} // closed when it has ended

	token  string // empty for a session that was taken in as an orphan
	linger time.Duration

	// Guarded by the room's mutex.
	join      uint64      // the sequence of its Joined; 0 before it is in the log
	last      uint64      // the sequence of the last record under key: what it guards with
	abandoned bool        // nobody waits for the login any more: leave as soon as it lands
	conn      *conn       // the connection that logged it in, while it is served
	adopted   bool        // it was another node's, which died
	timer     *time.Timer // of the linger, while it is away
	leaving   *leaving
	gone      bool  // its Left is in the log
	err       error // why it ended
}

// User returns the user, with the name as it is shown.
func (s *Session) User() User { return s.user }

// Token returns the secret by which the user comes back to the session after the connection is gone, by [Room.Resume] or
// a [LoginRequest]. It is good for the session's life, any number of times, on every node of the room. Only its hash
// stands in the log.
func (s *Session) Token() string { return s.token }

// Done returns a channel that is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns nil while the session lasts, and then why it ended: [ErrSession] if it left of itself or its connection
// was lost, [ErrSlow], a [KickedError], [ErrTakenOver], [ErrFenced], [ErrClosed], or what the room's log ended with.
func (s *Session) Err() error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.err
}

// LoginOptions configures [Room.Login].
type LoginOptions struct {
	// ID is the importing program's own name for the user, such as an account number: [User].ID. It may be empty, and is
	// at most 256 bytes.
	ID string

	// Linger is how long the session outlives its connection, where [Room.Serve] logged it in or [Room.Resume] takes it
	// up, so that a client that was lost can come back to it. Zero means not at all. Others see nothing of it. It counts
	// in milliseconds.
	Linger time.Duration

	// Token becomes the session's, at least 16 bytes of UTF-8 that nobody can guess, and that no other session in the
	// room has. Empty: one is made.
	Token string
}

// Login takes name for a new session. A nil error means that its [Joined] is in the log, and that no other member has a
// name that the room's policy takes for the same. If ctx ends first, the login may still land; the room then ends it
// with a [Left].
//
// Errors: [ErrName] or what else the policy says; [ErrNameTaken]; [ErrNameTooLong], [ErrRoomFull] in a [LimitError];
// [ErrID] for the ID or token in the options; [ErrClosed]; [ErrUnknown]; [ErrFull] and other errors of the log;
// [ErrFenced] if ctx ends while the room's [Node], having been judged, has no new name yet.
func (r *Room) Login(ctx context.Context, name string, o *LoginOptions) (*Session, error) {
	var opts LoginOptions
	if o != nil {
		opts = *o
	}
	s, err := r.login(ctx, name, opts, nil, nil)
	return s, r.refused(err)
}

// login is Login, for the connection c if that is not nil; then is as in [Room.append].
func (r *Room) login(
	ctx context.Context, name string, opts LoginOptions, c *conn, then func(s *Session, pos Position, at uint64),
) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opts.Token == "" {
		opts.Token = newToken()
	}
	if len(opts.ID) > 256 || !utf8.ValidString(opts.ID) || len(opts.Token) < minToken || !utf8.ValidString(opts.Token) {
		return nil, ErrID
	}
	shown, key, err := r.name(name)
	if err != nil {
		return nil, err
	}
	s := &Session{
		room: r,
		id:   rand.Text(),
		key:  key,
		user: User{Name: shown, ID: opts.ID},
		done: make(chan struct{}),
		conn: c,

		token:  opts.Token,
		linger: max(0, opts.Linger),
	}
	hash := tokenHash(s.token)
	if err := r.named(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if err = r.refusal(); err == nil && len(r.fold.members)+r.joining >= r.opts.MaxMembers {
		err = LimitError{Limit: ErrRoomFull, Max: r.opts.MaxMembers}
	}
	if err == nil && r.fold.tokens[hash] != nil {
		err = ErrID // telling more would tell that the token is good
	}
	if err != nil {
		r.mu.Unlock()
		return nil, err
	}
	r.joining++
	r.sessions[s.id] = s
	// The guard is what makes one holder of a name (promise 4).
	b := body{kind: kindJoined, session: s.id, user: s.user, linger: s.linger, node: r.nodeID(), token: hash}
	e := Entry{ID: s.id, Key: key, Guard: Guard{Key: key}, Data: b.encode()}
	call := r.enroll(e.ID, func(pos Position, at uint64) {
		r.joining--
		if then != nil {
			then(s, pos, at)
		}
	})
	r.mu.Unlock()
	pos, isNew, err := r.append(ctx, e, call)

	r.mu.Lock()
	defer r.mu.Unlock()
	if !isNew {
		r.joining--
	}
	switch {
	case isNew: // even if the log said "unknown": the room has seen it
		return s, nil
	case errors.Is(err, ErrUnknown): // it may still land
		s.abandoned, s.conn = true, nil
		if s.join != 0 { // it just has
			r.leave(s, Lost, "", nil)
		} else {
			r.goLocked(func() { r.settle(s, e) })
		}
	case err == nil: // it landed, but the room no longer reads
		if err = r.refusal(); err == nil {
			err = fmt.Errorf("%w: the log returned a record that it did not show", ErrRecord)
		}
		s.finish(err)
		s.join, s.last = pos.Seq, pos.Seq
		r.mu.Unlock()
		r.undo(ctx, s)
		r.mu.Lock()
	default:
		s.finish(err)
	}
	if errors.Is(err, ErrConflict) {
		err = ErrNameTaken
	}
	return nil, err
}

// settle finds out what became of a login whose caller is gone, by appending it again. If it lands, applied ends it
// (promise 11).
func (r *Room) settle(s *Session, e Entry) {
	r.retry(s.done, func() bool {
		r.mu.Lock()
		c := r.enroll(e.ID, nil)
		r.mu.Unlock()
		_, _, err := r.append(r.ctx, e, c)
		if err != nil && !errors.Is(err, ErrUnknown) {
			r.mu.Lock()
			s.finish(err)
			r.mu.Unlock()
		}
		return err == nil || !errors.Is(err, ErrUnknown)
	})
}

// undo ends a login, or a resuming, that landed when the room had ended. Nobody can do so later, and nobody else has s.
func (r *Room) undo(ctx context.Context, s *Session) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if _, err := r.log.Append(ctx, leftEntry(s.key, s.last, s.id, s.user, s.join, Shutdown, "")); err != nil {
		r.opts.Logger.Warn("chat: a session's end is not in the log", "user", s.user.Name, "err", err)
	}
}

// retry calls try until it returns true, with pauses; until done is closed, or the room ends.
func (r *Room) retry(done <-chan struct{}, try func() bool) {
	for wait := 50 * time.Millisecond; !try(); wait = min(2*wait, 5*time.Second) {
		select {
		case <-time.After(wait):
		case <-done:
			return
		case <-r.ctx.Done():
			return
		}
	}
}

// name applies the room's policy, between two looks at the length.
func (r *Room) name(name string) (shown, key string, err error) {
	tooLong := LimitError{Limit: ErrNameTooLong, Max: r.opts.MaxName}
	if len(name) > r.opts.MaxName {
		return "", "", tooLong
	}
	shown, key, err = r.opts.Names(name)
	switch {
	case err != nil:
		if Code(err) == "internal" {
			err = fmt.Errorf("%w: %w", ErrName, err)
		}
		return "", "", err
	case len(shown) > r.opts.MaxName || len(key) > maxEntryKey:
		return "", "", tooLong
	case shown == "" || key == "" || !utf8.ValidString(shown) || !utf8.ValidString(key):
		return "", "", NameError{"nothing is left of it"}
	}
	return shown, key, nil
}

// SendOptions configures [Room.Send].
type SendOptions struct {
	// ID is what a retry is recognised by: sending again with the same ID gives the same receipt, and one event, for the
	// last 256 IDs of the session. 1 to 64 printable ASCII characters; empty: one is made.
	ID string
}

// A Receipt says where a message stands.
type Receipt struct {
	ID  string
	Pos Position
}

// Send says text as the session's user. A nil error means that the [Said] is in the log at the receipt's position, and
// that every subscription of this room has it. Any other error than [ErrUnknown] means that it is not and never will be.
// [ErrUnknown] comes only from a log out of reach, or with ctx.Err() if ctx ended during the call: sending again with
// the same ID settles it, also when the session has ended.
//
// Errors: [ErrSession]; [ErrText]; [ErrTextTooLong] in a [LimitError]; [ErrID]; [ErrClosed]; ctx.Err() if ctx had ended
// before; [ErrUnknown]; [ErrFull] and other errors of the log.
func (r *Room) Send(ctx context.Context, s *Session, text string, o *SendOptions) (Receipt, error) {
	var opts SendOptions
	if o != nil {
		opts = *o
	}
	rcpt, err := r.send(ctx, s, text, opts, nil)
	return rcpt, r.refused(err)
}

// send is Send (promises 7 and 8). done, if it is not nil, is called with the receipt, the room's mutex held: in the same
// step as the fold if the message is new.
func (r *Room) send(ctx context.Context, s *Session, text string, opts SendOptions, done func(Receipt)) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	if s == nil || s.room != r {
		return Receipt{}, ErrSession
	}
	if len(text) > r.opts.MaxText {
		return Receipt{}, LimitError{Limit: ErrTextTooLong, Max: r.opts.MaxText}
	}
	if strings.TrimSpace(text) == "" || !utf8.ValidString(text) {
		return Receipt{}, ErrText
	}
	if !validID(opts.ID) {
		return Receipt{}, ErrID
	}
	made := opts.ID == ""
	if made {
		opts.ID = strconv.FormatUint(mathrand.Uint64(), 36)
	}
	for {
		r.mu.Lock()
		if !made {
			if seq, ok := r.fold.sent(s.id, opts.ID); ok {
				rcpt := Receipt{opts.ID, Position{r.window.last().Epoch, seq}}
				if done != nil {
					done(rcpt)
				}
				r.mu.Unlock()
				return rcpt, nil
			}
		}
		err := r.refusal()
		guard, join := Guard{s.key, s.last}, s.join
		ended := s.err != nil
		switch {
		case err != nil:
		case made && (ended || s.leaving != nil):
			err = ErrSession
		case ended: // what was sent before may have landed, but nothing will
			guard.Seq = math.MaxUint64
		case s.leaving != nil:
			r.mu.Unlock()
			if err := r.seen(ctx, func() bool { return s.err != nil }); err != nil {
				return Receipt{}, err
			}
			continue
		}
		if err != nil {
			r.mu.Unlock()
			return Receipt{}, err
		}
		e := Entry{ID: s.id + "/" + opts.ID, Guard: guard}
		c := r.enroll(e.ID, func(pos Position, _ uint64) {
			if done != nil {
				done(Receipt{opts.ID, pos})
			}
		})
		r.mu.Unlock()

		b := body{kind: kindSaid, session: s.id, user: s.user, join: join, text: text} // the session's user (promise 3)
		e.Data = b.encode()
		pos, isNew, err := r.append(ctx, e, c)
		switch {
		case err == nil:
			if !isNew && done != nil {
				r.mu.Lock()
				done(Receipt{opts.ID, pos})
				r.mu.Unlock()
			}
			return Receipt{opts.ID, pos}, nil
		case !errors.Is(err, ErrConflict):
			return Receipt{}, err
		case ended:
			return Receipt{}, ErrSession
		}
		// The session's last record is not the one that it knew of. Look again once this room has seen why.
		err = r.seen(ctx, func() bool {
			return s.err != nil || s.leaving != nil || s.last != guard.Seq || r.failed != nil
		})
		if err != nil {
			return Receipt{}, err
		}
	}
}

// validID reports whether id may stand in SendOptions.
func validID(id string) bool {
	if len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// Logout ends the session with a [Left]; a nil error means that it is in the log. A session that has left already, or
// is leaving for another reason, is an [ErrSession]; one that is resumed meanwhile an [ErrTakenOver]. If ctx ends first
// the error is an [ErrUnknown] and wraps ctx.Err(); the room goes on trying until the session has left. If the room ends
// first, it is an [ErrUnknown] too.
func (r *Room) Logout(ctx context.Context, s *Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s == nil || s.room != r {
		return r.refused(ErrSession)
	}
	r.mu.Lock()
	if s.leaving != nil || s.err != nil || s.join == 0 {
		r.mu.Unlock()
		return r.refused(ErrSession)
	}
	l := r.leave(s, Logout, "", nil)
	r.mu.Unlock()
	return l.wait(ctx)
}

// A leaving is the one way out of a session: the first reason counts, and the room carries it through (promise 5).
type leaving struct {
	session *Session
	reason  Reason
	note    string
	then    func(pos Position) // run in the same step as the fold, with the mutex held; may be nil
}

// wait waits for the session's Left to be in the log. If it was resumed instead, that is an ErrTakenOver.
func (l *leaving) wait(ctx context.Context) error {
	select {
	case <-l.session.done:
		switch err := l.session.Err(); {
		case l.session.gone:
			return nil
		case errors.Is(err, ErrTakenOver):
			return err
		default: // the room ended first
			return fmt.Errorf("%w: %v", ErrUnknown, err)
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// leave begins to end s, if nobody did before, and returns how it ends. then, which may be nil, runs when it has left. The
// room's mutex is held.
func (r *Room) leave(s *Session, reason Reason, note string, then func(pos Position)) *leaving {
	if s.leaving != nil {
		return s.leaving
	}
	l := &leaving{s, reason, note, then}
	s.leaving = l
	switch {
	case s.err != nil:
	case r.dead:
		s.finish(ErrClosed)
	case s.join == 0:
		s.abandoned = true // applied begins
	default:
		c := r.enroll(s.id+leftID, nil) // at once, so that Shutdown waits for it
		r.goLocked(func() { r.carryOut(l, c) })
	}
	return l
}

// carryOut appends the Left of a session, and tries again until it is known to be there, or the room ends. c is what the
// first try was enrolled as.
func (r *Room) carryOut(l *leaving, c *call) {
	s := l.session
	r.retry(s.done, func() bool {
		r.mu.Lock()
		e := leftEntry(s.key, s.last, s.id, s.user, s.join, l.reason, l.note)
		if c == nil {
			c = r.enroll(e.ID, nil)
		}
		r.mu.Unlock()
		_, _, err := r.append(r.ctx, e, c)
		c = nil
		if errors.Is(err, ErrConflict) {
			// Somebody else ended it, or it has resumed elsewhere: look again once this room has seen that.
			return r.until(r.ctx, func() bool { return s.err != nil || s.last != e.Guard.Seq }) != nil
		}
		if err != nil {
			r.opts.Logger.Warn("chat: a session's end is not in the log yet", "user", s.user.Name, "err", err)
		}
		return err == nil
	})
}

// leftID follows the session's id in the ID of its Left.
const leftID = "!left"

// leftEntry is the entry that ends a session whose last record stands at last.
func leftEntry(key string, last uint64, id string, user User, join uint64, reason Reason, note string) Entry {
	b := body{kind: kindLeft, session: id, user: user, join: join, reason: reason, text: note}
	return Entry{ID: id + leftID, Key: key, Final: true, Guard: Guard{key, last}, Data: b.encode()}
}

// applied is told of each record of the session. The room's mutex is held.
func (s *Session) applied(rec Record, b body) {
	switch b.kind {
	case kindJoined:
		s.join, s.last = rec.Pos.Seq, rec.Pos.Seq
		if s.abandoned {
			l := s.leaving
			s.leaving = nil
			if l == nil {
				l = &leaving{reason: Lost}
			}
			s.room.leave(s, l.reason, l.note, l.then)
		}
	case kindResumed: // every resuming makes a session of its own
		s.end(ErrTakenOver)
	case kindLeft:
		err := ErrSession
		switch b.reason {
		case Kicked:
			err = KickedError{b.text}
		case Slow:
			err = ErrSlow
		case Shutdown:
			err = ErrClosed
		}
		s.gone = true
		if s.leaving != nil && s.leaving.then != nil {
			s.leaving.then(rec.Pos)
		}
		switch {
		case b.reason == Kicked:
			s.end(err)
		case b.reason == Lost && s.leaving == nil && !s.adopted: // another node took this one for dead
			s.end(ErrFenced)
		default:
			s.finish(err)
		}
	}
}

// end is finish, and ends the connection too. The room's mutex is held.
func (s *Session) end(err error) {
	if s.conn != nil {
		s.room.end(&s.conn.cursor, err)
	}
	s.finish(err)
}

// finish is the session's end. The room's mutex is held.
func (s *Session) finish(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.conn != nil {
		s.conn.left(s)
	}
	if s.room.sessions[s.id] == s {
		delete(s.room.sessions, s.id)
	}
	close(s.done)
	s.room.change()
}

// cut shortens s to at most n bytes, between two characters.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
