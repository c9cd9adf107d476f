package chattest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
	"example.com/chat/chattest"
)

func ExamplePipe() {
	room, err := chat.NewRoom(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	transport, ann := chattest.Pipe()
	served := make(chan error)
	go func() { served <- room.Serve(context.Background(), transport, nil) }()

	for _, request := range []chat.Request{
		chat.LoginRequest{Name: "Ann"},
		chat.SendRequest{Text: "hello"},
	} {
		if err := ann.Send(request); err != nil {
			fmt.Println(err)
			return
		}
		for range 2 { // the answer, and then the event
			v, err := ann.Read()
			if err != nil {
				fmt.Println(err)
				return
			}
			switch v := v.(type) {
			case chat.LoginReply:
				fmt.Println("in as", v.User.Name)
			case chat.SendReply:
				fmt.Println("said at", v.Receipt.Pos.Seq)
			case chat.Joined:
				fmt.Println(v.User.Name, "came in")
			case chat.Said:
				fmt.Println(v.User.Name, "says", v.Text)
			}
		}
	}

	ann.Goodbye()
	fmt.Println("served:", <-served)
	if err := room.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// in as Ann
	// Ann came in
	// said at 2
	// Ann says hello
	// served: <nil>
}

// connect serves a pipe in a room of its own. served returns what Serve returned.
func connect(t *testing.T, o *chat.ServeOptions) (r *chat.Room, c *chattest.Client, served func() error) {
	t.Helper()
	r, err := chat.NewRoom(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport, c := chattest.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(context.Background(), transport, o) }()
	t.Cleanup(func() { r.Close() })
	return r, c, func() error { return <-ended }
}

// ask sends a request and returns its answer, the next thing that is read.
func ask(t *testing.T, c *chattest.Client, req chat.Request) any {
	t.Helper()
	if err := c.Send(req); err != nil {
		t.Fatalf("%#v: %v", req, err)
	}
	return read(t, c)
}

func read(t *testing.T, c *chattest.Client) any {
	t.Helper()
	v, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rest reads up to the end.
func rest(c *chattest.Client) (words []string, end error) {
	for {
		v, err := c.Read()
		if err != nil {
			return words, err
		}
		words = append(words, strings.TrimPrefix(fmt.Sprintf("%T", v), "chat."))
	}
}

func TestPipeEnds(t *testing.T) {
	broken := errors.New("reset by peer")
	for _, row := range []struct {
		why    string
		end    func(r *chat.Room, c *chattest.Client) error
		served error // what Serve's error is; nil for nil
		told   error
	}{
		{"a goodbye", func(_ *chat.Room, c *chattest.Client) error { c.Goodbye(); c.Goodbye(); return nil }, nil, io.EOF},
		{"a loss", func(_ *chat.Room, c *chattest.Client) error { c.Lose(broken); c.Lose(io.EOF); return nil }, broken, io.ErrClosedPipe},
		{"a loss for no reason", func(_ *chat.Room, c *chattest.Client) error { c.Lose(nil); return nil }, chat.ErrLost, io.ErrClosedPipe},
		{"one that is an EOF, and still no goodbye", func(_ *chat.Room, c *chattest.Client) error { c.Lose(io.EOF); return nil }, chat.ErrLost, io.ErrClosedPipe},
		{"a loss counts before a goodbye", func(_ *chat.Room, c *chattest.Client) error { c.Lose(broken); c.Goodbye(); return nil }, broken, io.ErrClosedPipe},
		{"a loss that says that the client was slow", func(_ *chat.Room, c *chattest.Client) error { c.Lose(chat.ErrSlow); return nil }, chat.ErrSlow, io.ErrClosedPipe},
		{"a kick", func(r *chat.Room, _ *chattest.Client) error { return r.Kick(context.Background(), "Ann", "enough") },
			chat.KickedError{Note: "enough"}, chat.KickedError{Note: "enough"}},
		{"a close", func(r *chat.Room, _ *chattest.Client) error { return r.Close() }, chat.ErrClosed, chat.ErrClosed},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, c, served := connect(t, nil)
				ask(t, c, chat.LoginRequest{Name: "Ann"})
				read(t, c) // her Joined
				if err := row.end(r, c); err != nil {
					t.Error(err)
				}
				if err := served(); !errors.Is(err, row.served) {
					t.Errorf("Serve: %v, not %v", err, row.served)
				}
				_, told := rest(c)
				if !errors.Is(told, row.told) {
					t.Errorf("Read: %v, not %v", told, row.told)
				}
				if err := c.Send(chat.SendRequest{Text: "?"}); err != io.ErrClosedPipe {
					t.Errorf("Send afterwards: %v", err)
				}
			})
		})
	}
}

// TestPipeBadInput shows that a client may say what makes no sense.
func TestPipeBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _ := connect(t, nil)
		var got []string
		for _, req := range []chat.Request{
			chat.BadRequest{Ref: "a"}, chat.SendRequest{Ref: "b", Text: "hi"}, chat.LoginRequest{Ref: "c", Name: "\u200b"}, chat.LoginRequest{Ref: "d", Name: "Ann"},
		} {
			switch rep := ask(t, c, req).(type) {
			case chat.ErrorReply:
				got = append(got, rep.Ref+" "+chat.Code(rep.Err))
			case chat.LoginReply:
				got = append(got, rep.Ref+" in")
			default:
				t.Errorf("%#v", rep)
			}
		}
		if d := cmp.Diff([]string{"a request", "b not_logged_in", "c name", "d in"}, got); d != "" {
			t.Errorf("answers (-want +got):\n%s", d)
		}
	})
}

// TestPipeStalls shows that a client which reads nothing holds the room's Deliver up, is told to be slow, and delays nobody.
func TestPipeStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, served := connect(t, &chat.ServeOptions{MaxUnread: 10_000})
		ask(t, c, chat.LoginRequest{Name: "Ann"})
		read(t, c)
		bob, err := r.Login(context.Background(), "Bob", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := r.Send(context.Background(), bob, strings.Repeat("x", 1000), nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := served(); !errors.Is(err, chat.ErrSlow) {
			t.Errorf("Serve: %v", err)
		}
		if words, told := rest(c); len(words) > 0 || !errors.Is(told, chat.ErrSlow) {
			t.Errorf("read %v, then %v", words, told)
		}
	})
}

// TestPipeUnreadAnswers shows that a client which reads no answers is not read either, and goes on when it does.
func TestPipeUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, served := connect(t, &chat.ServeOptions{Rate: -1})
		var sent atomic.Int32
		go func() {
			for c.Send(chat.BadRequest{}) == nil {
				sent.Add(1)
			}
		}()
		synctest.Wait()
		before := sent.Load()
		if before < 64 || before > 130 { // 64 wait, up to as many are being delivered
			t.Errorf("%d requests taken with no answer read", before)
		}
		for range 1000 {
			read(t, c)
		}
		synctest.Wait()
		if sent := sent.Load(); sent < 1000 {
			t.Errorf("%d requests, and 1000 answers", sent)
		}
		c.Lose(nil)
		if err := served(); !errors.Is(err, chat.ErrLost) {
			t.Error(err)
		}
	})
}
