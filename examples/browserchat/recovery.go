package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"

	"example.com/chat"
)

// A ticket is what a page comes back with after its connection broke: Socket.IO's pid, which the server gives it with its
// first connection and which stays the same from then on. Everything that the server has to know about the page follows
// from it and from the room's log: so nothing is kept for a page that is away, and it may come back to another process
// that serves the same log.
type ticket struct {
	secret string        // nobody else knows it
	start  chat.Position // where the page began to hear, for one that comes back before it heard anything
}

func newTicket(start chat.Position) ticket { return ticket{rand.Text(), start} }

// pid is the ticket as it stands on the wire.
func (t ticket) pid() string {
	start, err := t.start.MarshalText()
	if err != nil {
		panic(err) // a position always has a text
	}
	return t.secret + "." + string(start)
}

// parseTicket reads a pid. Whoever makes one up has a session that nobody ever logged in, no more.
func parseTicket(pid string) (t ticket, ok bool) {
	secret, start, ok := strings.Cut(pid, ".")
	if !ok || len(secret) != len(rand.Text()) || t.start.UnmarshalText([]byte(start)) != nil || t.start.IsZero() {
		return ticket{}, false
	}
	t.secret = secret
	return t, true
}

// The names that follow from a ticket's secret; none of them gives away another, nor the secret.
func (t ticket) sid() string    { return t.derive("sid") }     // of the socket; it is on the wire
func (t ticket) token() string  { return t.derive("token") }   // of the room's session
func (t ticket) userID() string { return t.derive("user id") } // everybody may see it

func (t ticket) derive(what string) string {
	sum := sha256.Sum256([]byte(what + "\x00" + t.secret))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16])
}

// A visit is one connection of a page's.
type visit struct {
	ticket
	after     chat.Position // it hears what follows
	recovered bool          // it was here before, and will have missed nothing
}

// arrive makes a visit of a connection: with the pid that the page has from an earlier one, and the offset of the last
// event that it has got, both empty for a page that is new. Who can't go on where it was begins anew.
func arrive(ctx context.Context, room *chat.Room, pid, offset string) (visit, error) {
	if t, ok := parseTicket(pid); ok {
		v := visit{ticket: t, after: t.start, recovered: true}
		if offset == "" || v.after.UnmarshalText([]byte(offset)) == nil && !v.after.IsZero() {
			switch ok, err := v.mayGoOn(ctx, room); {
			case err != nil:
				return visit{}, err
			case ok:
				return v, nil
			}
		}
	}
	head, err := end(ctx, room)
	if err != nil {
		return visit{}, err
	}
	return visit{ticket: newTicket(head), after: head}, nil
}

// mayGoOn reports whether the room has all that the page missed, and did not end its session meanwhile.
func (v visit) mayGoOn(ctx context.Context, room *chat.Room) (bool, error) {
	head, err := end(ctx, room)
	if err != nil {
		return false, err
	}
	missed, err := room.Subscribe(ctx, &chat.SubscribeOptions{After: v.after, MaxUnread: -1})
	switch {
	case errors.Is(err, chat.ErrTrimmed), errors.Is(err, chat.ErrEpoch), errors.Is(err, chat.ErrAhead):
		return false, nil
	case err != nil:
		return false, err
	}
	defer missed.Close()
	for at := v.after; at.Seq < head.Seq; {
		select {
		case e, ok := <-missed.Events():
			if !ok {
				return false, missed.Err()
			}
			if left, ok := e.(chat.Left); ok && left.User.ID == v.userID() && left.Reason != chat.Logout {
				return false, nil
			}
			at = e.Meta().Pos
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return true, nil
}

// end is the position of the room's last event.
func end(ctx context.Context, room *chat.Room) (chat.Position, error) {
	now, err := room.Subscribe(ctx, nil)
	if err != nil {
		return chat.Position{}, err
	}
	defer now.Close()
	return now.Start().At, nil
}
