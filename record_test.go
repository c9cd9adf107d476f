package chat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// wellFormed are records of each kind, as a log may hold them.
func wellFormed() []Record {
	joined := body{kind: kindJoined, session: "s", user: User{"Ann", "7"}, linger: time.Minute, node: "n", token: "\xff\x00"}
	said := body{kind: kindSaid, session: "s", user: User{"Ann", "7"}, join: 1, text: "héllo"}
	resumed := body{kind: kindResumed, session: "s", user: User{"Ann", "7"}, join: 1, node: "m", token: "t"}
	left := body{kind: kindLeft, session: "s", user: User{"Ann", "7"}, join: 1, reason: Kicked, text: "note"}
	return []Record{
		{Pos: Position{1, 1}, ID: "s", Key: "ann", Data: joined.encode()},
		{Pos: Position{1, 2}, ID: "s/1", Data: said.encode()},
		{Pos: Position{1, 3}, ID: "s~1", Key: "ann", Data: resumed.encode()},
		{Pos: Position{1, 4}, ID: "s!left", Key: "ann", Final: true, Data: left.encode()},
	}
}

func TestRecordOfEachKind(t *testing.T) {
	meta := func(seq uint64) Meta { return Meta{Pos: Position{1, seq}, Prev: Position{1, seq - 1}} }
	ann := User{"Ann", "7"}
	want := []Event{
		Joined{meta(1), ann}, Said{meta(2), ann, "1", "héllo"}, Resumed{meta(3), ann}, Left{meta(4), ann, Kicked, "note"},
	}
	var got []Event
	for _, rec := range wellFormed() {
		b, err := decode(rec)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, event(rec, b, Position{1, rec.Pos.Seq - 1}))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	// The form itself, since other nodes and later versions read it.
	if want, got := []byte("\x01\x02\x01s\x03Ann\x017\x01\x06h\xc3\xa9llo"), wellFormed()[1].Data; !bytes.Equal(want, got) {
		t.Errorf("a message is written %q, not %q", got, want)
	}
}

// A badRecord is one that no room writes. It comes after Ann joined at 1, in session s.
type badRecord struct {
	entry  Entry
	detail string
	why    string
}

// badRecords are those that cannot be read.
var badRecords = []badRecord{
	{Entry{ID: "s/2"}, "cut short", "no bytes at all"},
	{Entry{ID: "s/2", Data: []byte("\x02\x02\x01s\x03Ann\x017\x01\x02hi")}, "unknown version", "of a later version"},
	{Entry{ID: "s/2", Data: []byte("\x00\x02\x01s\x03Ann\x017\x01\x02hi")}, "unknown version", "of none"},
	{Entry{ID: "s/2", Data: []byte("\x01\x05\x01s\x03Ann\x017\x01\x02hi")}, "unknown kind", "a kind of the future"},
	{Entry{ID: "s/2", Data: []byte("\x01\x00\x01s\x03Ann\x017\x01\x02hi")}, "unknown kind", "no kind"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02h")}, "cut short", "the last byte is missing"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02hi!")}, "bytes after the end", "one byte more"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x81\x00s\x03Ann\x017\x01\x02hi")}, "bad number", "a number spelt longer than need be"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02" + strings.Repeat("\xff", 9) + "\x7f")}, "bad number", "a number over 64 bits"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}, "cut short", "a length of nearly all memory"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x00\x02hi")}, "join position out of range", "it joined nowhere"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x63\x02hi")}, "join position out of range", "it joined later"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02h\xff")}, "not valid UTF-8", "a text is UTF-8"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03An\xff\x017\x01\x02hi")}, "not valid UTF-8", "a name is UTF-8"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Ann\x01\xff\x01\x02hi")}, "not valid UTF-8", "a user's ID is UTF-8"},
	{Entry{ID: "s/2", Key: "ann", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02hi")}, "key does not fit the kind", "a message has no key"},
	{Entry{ID: "s!left", Key: "ann", Data: []byte("\x01\x03\x01s\x03Ann\x017\x01\x01\x00")}, "key does not fit the kind", "leaving is final"},
	{Entry{ID: "s!left", Key: "ann", Final: true, Data: []byte("\x01\x03\x01s\x03Ann\x017\x01\x63\x00")}, "unknown reason", "a reason of the future"},
	{Entry{ID: "y", Key: "yan", Data: []byte("\x01\x01\x01y\x03Yan\x00\x00" + strings.Repeat("\x80", 6) + "\x04\x00\x00")}, "linger out of range", "a linger that no duration holds"},
	{Entry{ID: "x/2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02hi")}, "ID is not of the session", "another session's ID"},
	{Entry{ID: "t", Data: []byte("\x01\x02\x00\x03Ann\x017\x01\x02hi")}, "ID is not of the session", "no session"},
	{Entry{ID: "s2", Data: []byte("\x01\x02\x01s\x03Ann\x017\x01\x02hi")}, "ID has no message part", "nothing after the session's id"},
}

// unfitting are records that can be read, and do not fit what came before: of a log that does not keep its guards.
var unfitting = []badRecord{
	{Entry{ID: "x/2", Data: []byte("\x01\x02\x01x\x03Ann\x017\x01\x02hi")}, "said by nobody who is in", "it never joined"},
	{Entry{ID: "s/2", Data: []byte("\x01\x02\x01s\x03Eve\x017\x01\x02hi")}, "not as its session joined", "another author"},
	{Entry{ID: "x", Key: "ann", Data: []byte("\x01\x01\x01x\x03Ann\x00\x00\x00\x00\x00")}, "joined under a name that is held", "its guard was not kept"},
	{Entry{ID: "x!left", Key: "ann", Final: true, Data: []byte("\x01\x03\x01x\x03Ann\x00\x01\x01\x00")}, "not by the holder of the name", "its guard was not kept"},
	{Entry{ID: "s!left", Key: "ann", Final: true, Data: []byte("\x01\x03\x01s\x03Eve\x017\x01\x01\x00")}, "not as its session joined", "somebody else leaves"},
	{Entry{ID: "s2", Key: "eve", Data: []byte("\x01\x01\x01s\x03Eve\x00\x00\x00\x00\x00")}, "joined under a name that is held", "a session joins twice"},
}

// A room whose log gets a record that it cannot read stops there, and says where: it never skips one.
func TestBadRecordWhileFollowing(t *testing.T) {
	for _, row := range slices.Concat(badRecords, unfitting) {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			log := NewMemoryLog(nil)
			joined := wellFormed()[0]
			if _, err := log.Append(ctx, Entry{ID: joined.ID, Key: joined.Key, Data: joined.Data}); err != nil {
				t.Fatal(err)
			}
			r, err := NewRoom(&RoomOptions{Log: log})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			sub, err := r.Subscribe(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			bob, err := r.Login(ctx, "Bob", nil)
			if err != nil {
				t.Fatal(err)
			}
			if e := <-sub.Events(); e.Meta().Pos.Seq != 2 {
				t.Fatalf("%+v", e)
			}
			line := &idleTransport{closed: make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- r.Serve(ctx, line, &ServeOptions{Spectators: true}) }()
			synctest.Wait()

			bad, err := log.Append(ctx, row.entry)
			if err != nil {
				t.Fatal(err)
			}
			want := RecordError{bad.Pos, row.detail}
			for e := range sub.Events() {
				t.Errorf("%s: an event at or after the bad record: %+v", row.why, e)
			}
			check := func(what string, err error) {
				t.Helper()
				var got RecordError
				if !errors.Is(err, ErrRecord) || !errors.As(err, &got) || got != want {
					t.Errorf("%s: %s: %v, not %v", row.why, what, err, want)
				}
			}
			check("the subscription", sub.Err())
			<-bob.Done()
			check("the session", bob.Err())
			check("Serve", <-served)
			check("the transport", line.cause)
			_, err = r.Send(ctx, bob, "hi", nil)
			check("Send", err)
			_, err = r.Login(ctx, "Cid", nil)
			check("Login", err)
			_, err = r.Subscribe(ctx, nil)
			check("Subscribe", err)
			check("Kick", r.Kick(ctx, "Bob", ""))
			check("a later Serve", r.Serve(ctx, &idleTransport{closed: make(chan struct{})}, nil))

			// A whole record after it changes nothing.
			cid := body{kind: kindJoined, session: "c", user: User{Name: "Cid"}}
			if _, err := log.Append(ctx, Entry{ID: "c", Key: "cid", Data: cid.encode()}); err != nil {
				t.Fatal(err)
			}
			if n := len(r.Members()); n != 2 {
				t.Errorf("%s: %d members", row.why, n)
			}
			began := time.Now()
			if r.Close(); time.Since(began) > 0 {
				t.Errorf("%s: Close took %v", row.why, time.Since(began))
			}
		})
	}
}

// The same at open. What is older than the snapshot is read, but cannot be checked against what came before.
func TestBadRecordAtOpen(t *testing.T) {
	ctx := context.Background()
	for _, row := range badRecords {
		log := NewMemoryLog(nil)
		joined := wellFormed()[0]
		entries := []Entry{{ID: joined.ID, Key: joined.Key, Data: joined.Data}, row.entry}
		var bad Record
		for _, e := range entries {
			rec, err := log.Append(ctx, e)
			if err != nil {
				t.Fatal(err)
			}
			bad = rec
		}
		r, err := NewRoom(&RoomOptions{Log: log})
		if err == nil {
			r.Close()
		}
		var got RecordError
		if want := (RecordError{bad.Pos, row.detail}); !errors.As(err, &got) || got != want {
			t.Errorf("%s: NewRoom: %v, not %v", row.why, err, want)
		}
	}
}

// The same for a record that the log has trimmed and that stands in its snapshot alone.
func TestBadRecordInSnapshot(t *testing.T) {
	ctx := context.Background()
	log := NewMemoryLog(&MemoryLogOptions{MaxRecords: 1})
	bad, err := log.Append(ctx, Entry{ID: "x", Key: "ann", Data: []byte("\x02")})
	if err != nil {
		t.Fatal(err)
	}
	cid := body{kind: kindJoined, session: "c", user: User{Name: "Cid"}}
	if _, err := log.Append(ctx, Entry{ID: "c", Key: "cid", Data: cid.encode()}); err != nil {
		t.Fatal(err)
	}
	r, err := NewRoom(&RoomOptions{Log: log})
	if err == nil {
		r.Close()
	}
	var got RecordError
	if want := (RecordError{bad.Pos, "unknown version"}); !errors.As(err, &got) || got != want {
		t.Errorf("NewRoom: %v, not %v", err, want)
	}
}

// An idleTransport is a client that says nothing.
type idleTransport struct {
	closed chan struct{}
	cause  error // the first; to be read when Serve has returned
	once   sync.Once
}

func (t *idleTransport) Receive() (Request, error) {
	<-t.closed
	return nil, io.ErrClosedPipe
}

func (t *idleTransport) Deliver(*Batch) error { return nil }

func (t *idleTransport) Close(cause error) error {
	t.once.Do(func() {
		t.cause = cause
		close(t.closed)
	})
	return nil
}

// FuzzRecord decodes anything that a log may give.
func FuzzRecord(f *testing.F) {
	for _, rec := range wellFormed() {
		f.Add(rec.Pos.Seq, rec.ID, rec.Key, rec.Final, rec.Data)
	}
	for _, row := range slices.Concat(badRecords, unfitting) {
		f.Add(uint64(2), row.entry.ID, row.entry.Key, row.entry.Final, row.entry.Data)
	}
	f.Fuzz(func(t *testing.T, seq uint64, id, key string, final bool, data []byte) {
		rec := Record{Pos: Position{1, seq}, ID: id, Key: key, Final: final, Data: data}
		kept := bytes.Clone(data)
		b, err := decode(rec)
		if !bytes.Equal(kept, data) {
			t.Fatalf("decoding changed %q to %q", kept, data)
		}
		if err != nil {
			var e RecordError
			if !errors.As(err, &e) || e.Pos != rec.Pos || e.Detail == "" || b != (body{}) {
				t.Fatalf("%+v and %#v, not a RecordError at %v", b, err, rec.Pos)
			}
			return
		}
		if again := b.encode(); !bytes.Equal(again, data) {
			t.Fatalf("%+v was %q and is written as %q: one record has two spellings", b, data, again)
		}
		switch e := event(rec, b, Position{}).(type) {
		case Said:
			if key != "" || final || !utf8.ValidString(e.Text+e.User.Name) || b.session+"/"+e.ID != id {
				t.Fatalf("%+v of %+v", e, rec)
			}
		case Left:
			if key == "" || !final || e.Reason < Logout || e.Reason > Shutdown {
				t.Fatalf("%+v of %+v", e, rec)
			}
		case Joined, Resumed:
			if key == "" || final {
				t.Fatalf("%+v of %+v", e, rec)
			}
		}
	})
}

// FuzzRecordBody is the other way round: what a room writes, it reads as it was.
func FuzzRecordBody(f *testing.F) {
	f.Add(byte(0), "s", "Ann", "7", uint64(1), int64(1000), "node", "token", "text", byte(0))
	f.Add(byte(2), "s", "Ann", "", uint64(1<<63), int64(1<<62), "", "\xff", "", byte(3))
	f.Fuzz(func(t *testing.T, kind byte, session, name, uid string, join uint64, linger int64, node, token, text string, reason byte) {
		valid := func(s string) string { return strings.ToValidUTF8(s, "?") }
		b := body{kind: kindJoined + kind%4, session: "s" + session, user: User{valid(name), valid(uid)}}
		rec := Record{Pos: Position{1, 1<<64 - 1}, ID: b.session + "/1", Key: "k"}
		if b.kind != kindJoined {
			b.join = max(1, join%(1<<64-1))
		}
		switch b.kind {
		case kindJoined, kindResumed:
			b.linger = time.Duration(max(linger, 0)) / time.Millisecond * time.Millisecond
			b.node, b.token = node, token
		case kindSaid:
			rec.Key, b.text = "", valid(text)
		case kindLeft:
			rec.Final, b.text, b.reason = true, valid(text), Logout+Reason(reason)%(Shutdown-Logout+1)
		}
		rec.Data = b.encode()
		got, err := decode(rec)
		if err != nil || got != b {
			t.Fatalf("%+v is read as %+v, %v", b, got, err)
		}
	})
}
