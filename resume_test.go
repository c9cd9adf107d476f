package chat_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

func TestLingerAndResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRoom(t, nil)
		sub := subscribe(t, r, nil)
		o := &chat.ServeOptions{Linger: time.Minute}
		c := serve(t, r, o)
		c.ask(chat.LoginRequest{Name: "Ann"})
		in := c.last().(chat.LoginReply)
		c.ask(chat.SendRequest{ID: "1", Text: "one"})
		rcpt := c.last().(chat.SendReply).Receipt
		c.lose(io.ErrUnexpectedEOF)
		if err, _ := c.end(); !errors.Is(err, chat.ErrLost) {
			t.Errorf("Serve of a lost peer: %v", err)
		}
		time.Sleep(59 * time.Second)
		if len(r.Members()) != 1 {
			t.Fatal("gone before the linger was over")
		}
		if _, err := r.Resume(ctx, "not a token at all", false); !errors.Is(err, chat.ErrToken) {
			t.Errorf("a wrong token: %v", err)
		}

		c = serve(t, r, o)
		c.ask(chat.LoginRequest{Ref: "r", Token: in.Token, Hear: chat.SubscribeOptions{After: rcpt.Pos}})
		want := chat.LoginReply{
			Ref: "r", User: in.User, Pos: chat.Position{Epoch: in.Pos.Epoch, Seq: 3}, Token: in.Token,
			Start: &chat.Start{At: rcpt.Pos, Resumed: true},
		}
		diff(t, "the answer to a resuming", want, c.last())
		c.ask(chat.SendRequest{ID: "1", Text: "one"})
		diff(t, "the retry after the resume", rcpt, c.last().(chat.SendReply).Receipt)
		time.Sleep(time.Hour)

		c2 := serve(t, r, o)
		c2.ask(chat.LoginRequest{Token: in.Token})
		if err, told := c.end(); !errors.Is(err, chat.ErrTakenOver) || !errors.Is(told, chat.ErrTakenOver) {
			t.Errorf("the first connection after a second resumed: %v, told %v", err, told)
		}
		c2.lose(io.ErrUnexpectedEOF)
		c2.end()
		time.Sleep(time.Minute + time.Second)
		if _, err := r.Resume(ctx, in.Token, true); !errors.Is(err, chat.ErrToken) {
			t.Errorf("after the linger: %v", err)
		}
		u := in.User
		diff(t, "events", []chat.Event{
			chat.Joined{At: at(1), User: u}, chat.Said{At: at(2), User: u, Text: "one"}, chat.Resumed{At: at(3), User: u},
			chat.Resumed{At: at(4), User: u}, chat.Left{At: at(5), User: u, Reason: chat.Lost},
		}, []chat.Event{next(t, sub), next(t, sub), next(t, sub), next(t, sub), next(t, sub)})
	})
}

func newNode(t testing.TB, log chat.Log) *chat.Node {
	t.Helper()
	n, err := chat.NewNode(log, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A haltable log answers nothing while it is halted, as for a process that is paused.
type haltable struct {
	chat.Log
	halted atomic.Pointer[chan struct{}] // nil: not halted
}

func (l *haltable) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	if halted := l.halted.Load(); halted != nil {
		select {
		case <-*halted:
		case <-ctx.Done():
			return chat.Record{}, errors.Join(chat.ErrUnknown, ctx.Err())
		}
	}
	return l.Log.Append(ctx, e)
}

func TestNodeAdoptionAndFencing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, nodes := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		flaky := &haltable{Log: nodes}
		na, nb := newNode(t, flaky), newNode(t, nodes)
		a, b := newRoom(t, &chat.RoomOptions{Log: log, Node: na}), newRoom(t, &chat.RoomOptions{Log: log, Node: nb})
		before := na.Incarnation()

		stays, _ := a.Login(ctx, "Stays", &chat.LoginOptions{Linger: time.Minute})
		if _, err := a.Login(ctx, "Goes", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if d := cmp.Diff([]chat.User{{Name: "Stays"}, {Name: "Goes"}}, b.Members()); d != "" {
			t.Errorf("while both nodes live:\n%s", d)
		}
		if _, err := b.Resume(ctx, stays.Token(), false); !errors.Is(err, chat.ErrConnected) {
			t.Errorf("resuming what a live node holds: %v", err)
		}

		halted := make(chan struct{})
		flaky.halted.Store(&halted)
		time.Sleep(25 * time.Second)
		if d := cmp.Diff([]chat.User{{Name: "Stays"}}, b.Members()); d != "" {
			t.Errorf("after node A was judged (-want +got):\n%s", d)
		}
		if _, err := b.Resume(ctx, stays.Token(), false); err != nil {
			t.Errorf("resuming on B what A held: %v", err)
		}
		if _, err := a.Send(ctx, stays, "still here?", nil); !errors.Is(err, chat.ErrSession) {
			t.Errorf("A speaks for a session that moved: %v", err)
		}
		flaky.halted.Store(nil)
		close(halted)
		time.Sleep(10 * time.Second)
		if na.Incarnation() == before {
			t.Error("a node that was judged goes on under its old name")
		}
		if err := stays.Err(); !errors.Is(err, chat.ErrFenced) {
			t.Errorf("the session that moved: %v", err)
		}
		if _, err := a.Login(ctx, "New", nil); err != nil {
			t.Errorf("the node's next incarnation: %v", err)
		}
		a.Close()
		b.Close()
		na.Close()
		nb.Close()
	})
}

// TestTokenOfAConnection shows that a program may choose the token of whoever logs in over a connection, as often as they
// do, and that it is good for as long as a session lasts.
func TestTokenOfAConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		o := &chat.ServeOptions{Token: "a secret that the client has", Linger: time.Minute}
		c := serve(t, r, o)
		for range 2 {
			c.ask(chat.LoginRequest{Name: "Ann"})
			if in, ok := c.last().(chat.LoginReply); !ok || in.Token != o.Token {
				t.Fatalf("a login: %v", c.last())
			}
			c.ask(chat.LogoutRequest{})
		}
		if _, err := r.Resume(context.Background(), o.Token, false); !errors.Is(err, chat.ErrToken) {
			t.Errorf("after the logout: %v", err)
		}
		c.ask(chat.LoginRequest{Name: "Ann"})
		c.lose(io.ErrUnexpectedEOF)
		c.end()
		other := serve(t, r, o)
		other.ask(chat.LoginRequest{Name: "Bob"})
		if rep, ok := other.last().(chat.ErrorReply); !ok || !errors.Is(rep.Err, chat.ErrID) {
			t.Errorf("a second session of that token: %v", other.last())
		}
		other.ask(chat.LoginRequest{Token: o.Token})
		if in, ok := other.last().(chat.LoginReply); !ok || in.User.Name != "Ann" {
			t.Errorf("resuming: %v", other.last())
		}
		short := serve(t, r, &chat.ServeOptions{Token: "short"})
		short.ask(chat.LoginRequest{Name: "Cid"})
		if rep, ok := short.last().(chat.ErrorReply); !ok || !errors.Is(rep.Err, chat.ErrID) {
			t.Errorf("a token that is too short: %v", short.last())
		}
	})
}

// TestTokenChosenTwice shows two logins at the same instant that were given one token: it is the later one's, and stays so
// when the first is gone.
func TestTokenChosenTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := newHeldLog(nil)
		r := newRoom(t, &chat.RoomOptions{Log: l})
		l.set(all(hold))
		const token = "a secret that two of us have"
		var in [2]*chat.Session
		var wg sync.WaitGroup
		for i, name := range []string{"Ann", "Bob"} {
			wg.Go(func() {
				s, err := r.Login(ctx, name, &chat.LoginOptions{Token: token})
				if err != nil {
					t.Error(err)
				}
				in[i] = s
			})
			synctest.Wait()
		}
		l.set(nil)
		l.release()
		wg.Wait()
		if err := r.Logout(ctx, in[0]); err != nil {
			t.Fatal(err)
		}
		if s, err := r.Resume(ctx, token, true); err != nil || s.User().Name != "Bob" {
			t.Errorf("resuming when the first is gone: %v", err)
		}
	})
}
