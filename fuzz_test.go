package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
)

// FuzzPosition reads any text as a position: there is one spelling of each, and what is none changes nothing.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{"5eed-7", "0-0", "ffffffffffffffff-18446744073709551615", "05EED-07", "-", "1-", "-1", "1--1", "+1-1", "1-1_0", "1-18446744073709551616"} {
		f.Add(text, uint64(len(text)), uint64(7))
	}
	f.Fuzz(func(t *testing.T, text string, epoch, seq uint64) {
		kept := Position{1, 2}
		p := kept
		switch err := p.UnmarshalText([]byte(text)); {
		case err != nil && (!errors.Is(err, ErrRequest) || p != kept || len(err.Error()) > 400):
			t.Errorf("%q: %v, %v", text, p, err)
		case err == nil && p.String() != text:
			t.Errorf("%q is read as %v", text, p)
		}
		want := Position{epoch, seq}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Position
		if err := json.Unmarshal(b, &got); err != nil || got != want || string(b) != `"`+want.String()+`"` {
			t.Errorf("%v is written as %s, and read as %v, %v", want, b, got, err)
		}
	})
}

// FuzzToken tries anything as a token: it is good for nothing but the session that it belongs to, and tells nothing of
// others.
func FuzzToken(f *testing.F) {
	f.Add("KJ5XG2LTNZXXI4TFMFWGY6LB4A", "KJ5XG2LTNZXXI4TFMFWGY6LB4B")
	f.Add("", "a")
	f.Add("0123456789abcde", "0123456789abcdef")
	f.Add("0123456789abcdef", "0123456789abcdef\x00")
	f.Add(strings.Repeat("\xff", 16), strings.Repeat("\xff", 1000))
	f.Fuzz(func(t *testing.T, token, other string) {
		ctx := context.Background()
		l := NewMemoryLog(nil)
		r, err := NewRoom(&RoomOptions{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		node, err := NewRoom(&RoomOptions{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		bob, err := r.Login(ctx, "Bob", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, takeOver := range []bool{false, true} {
			if s, err := r.Resume(ctx, token, takeOver); s != nil || !errors.Is(err, ErrToken) {
				t.Fatalf("%q resumes %v, %v", token, s, err)
			}
		}
		ann, err := r.Login(ctx, "Ann", &LoginOptions{Token: token})
		if token != "" && len(token) < minToken || !utf8.ValidString(token) {
			if !errors.Is(err, ErrID) {
				t.Fatalf("the token %q: %v", token, err)
			}
			return
		}
		if err != nil || token != "" && ann.Token() != token {
			t.Fatalf("%q: %v", token, err)
		}
		token = ann.Token()
		if _, err := r.Login(ctx, "Cid", &LoginOptions{Token: token}); !errors.Is(err, ErrID) {
			t.Errorf("a second session of a token: %v", err)
		}
		if _, err := r.Resume(ctx, token, false); !errors.Is(err, ErrConnected) {
			t.Errorf("without taking over: %v", err)
		}
		if other != token {
			if s, err := node.Resume(ctx, other, true); s != nil || !errors.Is(err, ErrToken) {
				t.Errorf("%q resumes the session of %q: %v", other, token, err)
			}
		}
		back, err := node.Resume(ctx, token, true)
		if err != nil || back.User() != ann.User() || back.Token() != token || !errors.Is(ann.Err(), ErrTakenOver) || bob.Err() != nil {
			t.Fatalf("resumed: %v; the first is %v, Bob is %v", err, ann.Err(), bob.Err())
		}
		if err := node.Logout(ctx, back); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resume(ctx, token, true); !errors.Is(err, ErrToken) {
			t.Errorf("after the logout: %v", err)
		}
		recs, err := l.Read(ctx, Position{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			if strings.Contains(string(rec.Data), token) {
				t.Errorf("the log holds the token: %q", rec.Data)
			}
		}
	})
}

// FuzzMessageID sends with any two IDs: each is taken or refused as it should be, and one is never taken for the other,
// whatever node, or resumed session, looks.
func FuzzMessageID(f *testing.F) {
	f.Add("1", "2")
	f.Add("", "~!")
	f.Add("a b", "\x7f")
	f.Add("a/b", "a")
	f.Add("!left", "/")
	f.Add(strings.Repeat("x", 64), strings.Repeat("x", 65))
	f.Add("é", "\x00")
	f.Fuzz(func(t *testing.T, id, other string) {
		ctx := context.Background()
		l := NewMemoryLog(nil)
		r, err := NewRoom(&RoomOptions{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s, err := r.Login(ctx, "Ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		receipts := map[string]Receipt{}
		send := func(r *Room, s *Session, id string) {
			t.Helper()
			rcpt, err := r.Send(ctx, s, "text", &SendOptions{ID: id})
			good := len(id) <= 64
			for _, c := range []byte(id) {
				good = good && '!' <= c && c <= '~'
			}
			if !good {
				if !errors.Is(err, ErrID) || rcpt != (Receipt{}) {
					t.Errorf("%q is taken: %v, %v", id, rcpt, err)
				}
				return
			}
			was, again := receipts[id]
			if err != nil || id != "" && rcpt.ID != id || rcpt.ID == "" || again && rcpt != was {
				t.Errorf("%q gives %v, %v; before %v", id, rcpt, err, was)
			}
			for _, known := range receipts {
				if known.ID != rcpt.ID && known.Pos == rcpt.Pos {
					t.Errorf("%q has the receipt of another: %v", id, known)
				}
			}
			receipts[rcpt.ID] = rcpt
		}
		for range 2 {
			send(r, s, id)
			send(r, s, other)
		}
		node, err := NewRoom(&RoomOptions{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		if s, err = node.Resume(ctx, s.Token(), true); err != nil {
			t.Fatal(err)
		}
		send(node, s, other)
		send(node, s, id)
		sub, err := node.Subscribe(ctx, &SubscribeOptions{Last: 100})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		for range node.Stats().Events {
			if said, ok := (<-sub.Events()).(Said); ok {
				if receipts[said.ID] != (Receipt{said.ID, said.At.Pos}) {
					t.Errorf("%+v, and the receipt is %v", said, receipts[said.ID])
				}
				delete(receipts, said.ID)
			}
		}
		if len(receipts) > 0 {
			t.Errorf("receipts without a message: %v", receipts)
		}
	})
}

// FuzzRequests lets a stranger ask for anything, in the text of chat.v1, a line a frame. Each request gets one answer, in
// order; what the stranger hears has no gap from where it was told; and others notice nothing but what a member may do. In
// the text "e- stands for the log's epoch, and "T" for the token of a session that is away.
func FuzzRequests(f *testing.F) {
	const in = `{"op":"login","ref":"1","name":"Ann"}` + "\n"
	for _, hear := range []string{`"after":"e-0"`, `"after":"e-3","last":2`, `"after":"e-4"`, `"after":"e-99"`, `"after":"e-99","fresh":true`, `"after":"1-1"`,
		`"last":0`, `"last":9223372036854775807`, `"last":-1`, `"fresh":true`, `"after":"e-1","fresh":true,"last":99`} {
		f.Add(`{"op":"subscribe",`+hear+"}\n", true)
		f.Add(`{"op":"login","name":"Ann",`+hear+"}\n"+`{"op":"send","text":"hi"}`, false)
		f.Add(`{"op":"login","token":"T",`+hear+"}\n"+`{"op":"send","id":"1","text":"hi"}`, false)
	}
	f.Add(in+`{"op":"send","ref":"2","id":"m","text":"a"}`+"\n"+`{"op":"send","id":"m","text":"b"}`+"\n"+`{"op":"logout"}`+"\n"+in, false)
	f.Add(in+`{"op":"logout"}`+"\n"+`{"op":"subscribe"}`+"\n"+in+`{"op":"login","token":"T"}`, true)
	f.Add(`{"op":"login","token":"t"}`+"\n"+`{"op":"login","name":"BOB"}`+"\n"+`{"op":"login","name":"\u200b"}`, false)
	f.Fuzz(func(t *testing.T, text string, spectators bool) {
		if len(text) > 4000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runRequests(t, text, spectators) })
	})
}

func runRequests(t *testing.T, text string, spectators bool) {
	ctx := context.Background()
	r, err := NewRoom(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bob, err := r.Login(ctx, "Bob", nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := r.Subscribe(ctx, &SubscribeOptions{Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	var witnessed []Event
	read := make(chan struct{})
	go func() {
		defer close(read)
		for e := range sub.Events() {
			witnessed = append(witnessed, e)
		}
	}()
	c := newAsker()
	served := make(chan error, 1)
	o := &ServeOptions{Spectators: spectators, Rate: -1, Linger: 1e12}
	away := newAsker()
	go func() { served <- r.Serve(ctx, away, o) }()
	away.in <- LoginRequest{Name: "Away"}
	synctest.Wait()
	token := away.replies[0].(LoginReply).Token
	away.lose <- io.ErrUnexpectedEOF
	<-served
	if _, err := r.Send(ctx, bob, "hi", nil); err != nil {
		t.Fatal(err)
	}

	go func() { served <- r.Serve(ctx, c, o) }()
	synctest.Wait()
	asked := 0
	for line := range strings.SplitSeq(strings.ToValidUTF8(text, "?"), "\n") {
		line = strings.ReplaceAll(line, `"e-`, fmt.Sprintf(`"%x-`, sub.Start().At.Epoch))
		line = strings.ReplaceAll(line, `"T"`, `"`+token+`"`)
		req := decodeRequest([]byte(line))
		c.in <- req
		asked++
		if _, err := r.Send(ctx, bob, fmt.Sprint(asked), nil); err != nil {
			t.Fatalf("another member, after %s: %v", line, err)
		}
		synctest.Wait()
		if len(c.replies) != asked {
			t.Fatalf("%d answers to %d requests, the last of which is %s", len(c.replies), asked, line)
		}
		rep := c.replies[asked-1]
		var got struct{ Reply, Ref, Code string }
		if err := json.Unmarshal(appendReply(nil, rep), &got); err != nil || got.Ref != refOf(req) || got.Reply == "" || got.Code == "internal" {
			t.Fatalf("%s is answered with %s (%v)", line, appendReply(nil, rep), err)
		}
	}
	close(c.in)
	if err := <-served; err != nil {
		t.Fatalf("Serve: %v", err)
	}
	for _, problem := range c.problems {
		t.Error(problem)
	}
	synctest.Wait()
	r.Close()
	<-read
	last := sub.Start().At
	hers := map[string]bool{"Bob": true, "Away": true}
	for _, e := range witnessed {
		if e.Meta().Prev != last {
			t.Fatalf("%+v comes after %v", e, last)
		}
		last = e.Meta().Pos
		if e, ok := e.(Joined); ok {
			shown, _, err := Nickname(e.User.Name)
			if err != nil || shown != e.User.Name || len(shown) > 64 {
				t.Errorf("%q is in: %v", e.User.Name, err)
			}
			hers[shown] = true
		}
		if e, ok := e.(Said); ok && !hers[e.User.Name] {
			t.Errorf("said by nobody who is in: %+v", e)
		}
	}
	if d := gocmp.Diff(c.events, within(witnessed, c.events)); d != "" {
		t.Errorf("what the stranger heard (-stranger +others):\n%s", d)
	}
}

// within returns the events of all that stand where those of some do.
func within(all, some []Event) []Event {
	at := map[Position]Event{}
	for _, e := range all {
		at[e.Meta().Pos] = e
	}
	var list []Event
	for _, e := range some {
		list = append(list, at[e.Meta().Pos])
	}
	return list
}

// An asker is a transport whose other end checks what it is told.
type asker struct {
	in     chan Request
	lose   chan error
	closed chan struct{}
	once   sync.Once

	// Deliver's, and to be read when nothing is under way.
	replies  []Reply
	events   []Event
	at       Position // of the last event, or where hearing began
	problems []string
}

func newAsker() *asker {
	return &asker{in: make(chan Request), lose: make(chan error), closed: make(chan struct{})}
}

func (c *asker) Receive() (Request, error) {
	select {
	case req, ok := <-c.in:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case err := <-c.lose:
		return nil, err
	case <-c.closed:
		return nil, io.ErrClosedPipe
	}
}

func (c *asker) Deliver(b *Batch) error {
	for _, rep := range b.Replies() {
		c.replies = append(c.replies, rep)
		switch rep := rep.(type) {
		case LoginReply:
			if rep.Start != nil {
				c.at = rep.Start.At
			}
		case SubscribeReply:
			c.at = rep.Start.At
		}
	}
	for _, e := range b.Events() {
		if e.Meta().Prev != c.at {
			c.problems = append(c.problems, fmt.Sprintf("the stranger hears %+v after %v", e, c.at))
		}
		c.at = e.Meta().Pos
		c.events = append(c.events, e)
	}
	return nil
}

func (c *asker) Close(error) error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
