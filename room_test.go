package chat_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// newRoom opens a room that the test closes.
func newRoom(t testing.TB, o *chat.RoomOptions) *chat.Room {
	t.Helper()
	r, err := chat.NewRoom(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// next returns the next event of s, without what differs from run to run.
func next(t testing.TB, s *chat.Subscription) chat.Event {
	t.Helper()
	e, ok := <-s.Events()
	if !ok {
		t.Fatalf("the subscription ended: %v", s.Err())
	}
	return plain(e)
}

// plain removes the time, the epoch and a made ID.
func plain(e chat.Event) chat.Event {
	at := chat.Meta{Pos: chat.Position{Seq: e.Meta().Pos.Seq}, Prev: chat.Position{Seq: e.Meta().Prev.Seq}}
	switch e := e.(type) {
	case chat.Joined:
		e.At = at
		return e
	case chat.Said:
		e.At = at
		e.ID = ""
		return e
	case chat.Left:
		e.At = at
		return e
	case chat.Resumed:
		e.At = at
		return e
	}
	panic("not an event")
}

func at(seq uint64) chat.Meta {
	return chat.Meta{Pos: chat.Position{Seq: seq}, Prev: chat.Position{Seq: seq - 1}}
}

func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRoom(t, nil)
		sub, err := r.Subscribe(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		ann, err := r.Login(ctx, "Ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Login(ctx, "ann", nil); !errors.Is(err, chat.ErrNameTaken) {
			t.Errorf("a second login: %v", err)
		}
		rcpt, err := r.Send(ctx, ann, "hello", &chat.SendOptions{ID: "1"})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := r.Send(ctx, ann, "hello", &chat.SendOptions{ID: "1"}); again != rcpt || err != nil {
			t.Errorf("the retry: %v, %v; the first: %v", again, err, rcpt)
		}
		if err := r.Logout(ctx, ann); err != nil {
			t.Fatal(err)
		}
		user := chat.User{Name: "Ann"}
		want := []chat.Event{
			chat.Joined{At: at(1), User: user},
			chat.Said{At: at(2), User: user, Text: "hello"},
			chat.Left{At: at(3), User: user, Reason: chat.Logout},
		}
		got := []chat.Event{next(t, sub), next(t, sub), next(t, sub)}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		r.Close()
		if _, ok := <-sub.Events(); ok || !errors.Is(sub.Err(), chat.ErrClosed) {
			t.Errorf("after Close: %v, %v", ok, sub.Err())
		}
	})
}

// A pipe is a Transport whose client is the test.
type pipe struct {
	requests chan chat.Request
	replies  chan chat.Reply
	events   chan chat.Event
	closed   chan struct{}
	cause    error
	err      error // what Receive returns at the end of requests
}

func newPipe() *pipe {
	return &pipe{requests: make(chan chat.Request), replies: make(chan chat.Reply, 100), events: make(chan chat.Event, 100), closed: make(chan struct{}), err: io.EOF}
}

func (p *pipe) Receive() (chat.Request, error) {
	select {
	case req, ok := <-p.requests:
		if !ok {
			return nil, p.err
		}
		return req, nil
	case <-p.closed:
		return nil, io.ErrClosedPipe
	}
}

func (p *pipe) Deliver(b *chat.Batch) error {
	for _, rep := range b.Replies() {
		select {
		case p.replies <- rep:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	for _, e := range b.Events() {
		select {
		case p.events <- e:
		case <-p.closed:
			return io.ErrClosedPipe
		}
	}
	return nil
}

func (p *pipe) Close(cause error) error {
	select {
	case <-p.closed:
	default:
		p.cause = cause
		close(p.closed)
	}
	return nil
}

func TestServeConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, nil)
		p := newPipe()
		done := make(chan error)
		go func() { done <- r.Serve(context.Background(), p, nil) }()
		p.requests <- chat.LoginRequest{Ref: "a", Name: "Ann"}
		rep := (<-p.replies).(chat.LoginReply)
		if rep.Ref != "a" || rep.User.Name != "Ann" || rep.Start == nil || len(rep.Start.Roster) != 0 {
			t.Errorf("login reply: %+v", rep)
		}
		if e := plain(<-p.events); e != (chat.Joined{At: at(1), User: chat.User{Name: "Ann"}}) {
			t.Errorf("own join: %+v", e)
		}
		p.requests <- chat.SendRequest{Ref: "b", Text: "hi"}
		if rep := (<-p.replies).(chat.SendReply); rep.Ref != "b" || rep.Receipt.Pos.Seq != 2 {
			t.Errorf("send reply: %+v", rep)
		}
		close(p.requests)
		if err := <-done; err != nil {
			t.Errorf("Serve after goodbye: %v", err)
		}
		synctest.Wait()
		if m := r.Members(); len(m) != 0 {
			t.Errorf("still in: %v", m)
		}
	})
}
