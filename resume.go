package chat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"
)

// minToken is the shortest token that a program may choose, in bytes.
const minToken = 16

// newToken returns 130 bits that nobody can guess.
func newToken() string { return rand.Text() }

// tokenHash is what stands in the log.
func tokenHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return string(h[:])
}

// Resume takes up the session of a token, see [Session.Token]: the same user, the same message IDs remembered. A nil error
// means that its [Resumed] is in the log, and that whatever held the session before is ended: a [Session] of this room
// with [ErrTakenOver], one of another node as soon as that has read it.
//
// A session that is connected is resumed only with takeOver, which ends that connection with [ErrTakenOver]; without,
// that is an [ErrConnected]. A session that a program holds, or another node that is alive, counts as connected.
//
// Errors: [ErrToken] if there is no such session, or it has left; [ErrConnected]; [ErrClosed]; ctx.Err() if ctx had ended
// before; [ErrUnknown]; those of the log; [ErrFenced] as for [Room.Login]. Where the outcome is unknown and the Resumed
// lands after all, the session is away again.
func (r *Room) Resume(ctx context.Context, token string, takeOver bool) (*Session, error) {
	s, err := r.resume(ctx, token, takeOver, nil, nil)
	return s, r.refused(err)
}

// resume is Resume, for the connection c if that is not nil; then is as in [Room.login].
func (r *Room) resume(
	ctx context.Context, token string, takeOver bool, c *conn, then func(s *Session, pos Position, at uint64),
) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hash := tokenHash(token)
	current := false
	for {
		if err := r.named(ctx); err != nil {
			return nil, err
		}
		r.mu.Lock()
		m := r.fold.tokens[hash]
		err := r.refusal()
		switch {
		case err != nil:
		case m == nil && !current: // it may stand in the log, and this room be behind
			r.mu.Unlock()
			if err := r.catchUp(ctx); err != nil {
				return nil, err
			}
			current = true
			continue
		case m == nil:
			err = ErrToken
		case !takeOver && r.connected(m):
			err = ErrConnected
		}
		if err != nil {
			r.mu.Unlock()
			return nil, err
		}
		last := m.last
		s := &Session{
			room: r, id: m.session, key: m.key, user: m.user, token: token, linger: m.linger,
			done: make(chan struct{}), conn: c, join: m.join,
		}
		b := body{
			kind: kindResumed, session: s.id, user: s.user, join: m.join, linger: m.linger, node: r.nodeID(), token: hash,
		}
		e := Entry{ID: s.id + "!resumed-" + rand.Text(), Key: s.key, Guard: Guard{s.key, last}, Data: b.encode()}
		call := r.enroll(e.ID, func(pos Position, at uint64) {
			s.last = pos.Seq
			r.sessions[s.id] = s
			if then != nil {
				then(s, pos, at)
			}
			if r.closed { // Close has ended all others
				r.endSession(s)
			}
		})
		r.mu.Unlock()
		pos, isNew, err := r.append(ctx, e, call)
		switch {
		case isNew:
			return s, nil
		case err == nil: // it landed, but the room no longer reads
			if !r.handsOver(s) {
				s.last = pos.Seq
				r.undo(ctx, s)
			}
			return nil, ErrClosed
		case !errors.Is(err, ErrConflict):
			return nil, err
		}
		// It has left, or resumed elsewhere. Look again once this room has seen that.
		err = r.seen(ctx, func() bool { return r.fold.tokens[hash] != m || m.last != last || r.refusal() != nil })
		if err != nil {
			return nil, err
		}
	}
}

// connected reports whether a member is, as far as this room can know. The room's mutex is held.
func (r *Room) connected(m *member) bool {
	s := r.sessions[m.session]
	return s == nil || s.timer == nil
}

// away begins the linger of a session whose connection is gone; if it is not resumed by then it leaves for reason
// (promise 6). The room's mutex is held.
func (r *Room) away(s *Session, linger time.Duration, reason Reason) {
	if linger <= 0 {
		r.leave(s, reason, "", nil)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(linger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.timer == timer && s.err == nil {
			r.leave(s, reason, "", nil)
		}
	})
	s.timer = timer
}

// orphan makes a session out of a member that nobody holds: it was another node's, which is dead, or its resuming had no
// caller left. It is away since then. The room's mutex is held.
func (r *Room) orphan(m *member, since time.Time) {
	if r.sessions[m.session] != nil || r.dead {
		return
	}
	s := &Session{
		room: r, id: m.session, key: m.key, user: m.user, linger: m.linger,
		done: make(chan struct{}), join: m.join, last: m.last, adopted: m.node != r.nodeID(),
	}
	switch {
	case !r.closing:
		r.sessions[s.id] = s
		r.away(s, m.linger-time.Since(since), Lost)
	case !s.adopted && !(r.handOver && s.linger > 0): // nobody else will
		r.sessions[s.id] = s
		r.leave(s, Shutdown, "", nil)
	}
}
