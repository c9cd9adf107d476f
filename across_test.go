package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// Two rooms on one log are two nodes in miniature: what is promised of one room is promised across them. Here each has its
// own way to the log, so that one can be slow, or behind, while the other is not.
func twoRooms(t *testing.T) (a, b *chat.Room, la, lb *pausable) {
	t.Helper()
	log := chat.NewMemoryLog(nil)
	la, lb = &pausable{Log: &slowLog{Log: log}}, &pausable{Log: &slowLog{Log: log}}
	return newRoom(t, &chat.RoomOptions{Log: la}), newRoom(t, &chat.RoomOptions{Log: lb}), la, lb
}

func TestPromise01AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, la, lb := twoRooms(t)
		la.Log.(*slowLog).set(3*time.Millisecond, 0)
		lb.Log.(*slowLog).set(time.Millisecond, time.Millisecond)
		rooms := []*chat.Room{a, b}
		subs := []*chat.Subscription{subscribe(t, a, nil), subscribe(t, b, nil)}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				r := rooms[i%2]
				s := login(t, r, fmt.Sprint("user", i))
				for n := range 50 {
					say(t, r, s, fmt.Sprint(n))
				}
				if err := r.Logout(context.Background(), s); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		lb.pause() // falls behind for a while
		time.Sleep(20 * time.Millisecond)
		lb.goOn()
		wg.Wait()
		events := pending(subs[0])
		if err := chain(subs[0].Start().At, events); err != nil || len(events) != 8*52 {
			t.Errorf("%d events of %d; %v", len(events), 8*52, err)
		}
		diff(t, "what the other room saw", events, pending(subs[1]))
		next := map[string]int{}
		for _, e := range events { // and of each author in the order of sending
			if e, ok := e.(chat.Said); ok {
				if e.Text != fmt.Sprint(next[e.User.Name]) {
					t.Errorf("%s says %s, and %d is next", e.User.Name, e.Text, next[e.User.Name])
				}
				next[e.User.Name]++
			}
		}
	})
}

func TestPromise02AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, _, lb := twoRooms(t)
		rooms := []*chat.Room{a, b}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				for n := range 20 {
					r := rooms[(i+n)%2]
					s := login(t, r, fmt.Sprint("user", i))
					time.Sleep(time.Duration(i+1) * time.Millisecond)
					if err := r.Logout(context.Background(), s); err != nil {
						t.Error(err)
					}
					// The next login is in the other room, which may not have read of this yet.
				}
				login(t, rooms[i%2], fmt.Sprint("last", i))
			})
		}
		rosters := map[uint64][]chat.User{} // by position
		var subs []*chat.Subscription
		for n := range 40 {
			time.Sleep(3 * time.Millisecond)
			s := subscribe(t, rooms[n%2], nil)
			subs = append(subs, s)
			if n == 10 {
				lb.pause()
			}
			if n == 14 {
				lb.goOn()
			}
		}
		wg.Wait()
		synctest.Wait()
		want := a.Members()
		diff(t, "the roster of the other room", want, b.Members())
		for _, s := range subs {
			start := s.Start()
			if seen, ok := rosters[start.At.Seq]; ok {
				diff(t, fmt.Sprint("two rosters at ", start.At.Seq), seen, start.Roster)
			}
			rosters[start.At.Seq] = start.Roster
			events := pending(s)
			if err := chain(start.At, events); err != nil {
				t.Error(err)
			}
			diff(t, fmt.Sprint("the roster at ", start.At.Seq, " and what followed"), want, roll(t, start.Roster, events))
		}
	})
}

func TestPromise04AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		a, b, la, lb := twoRooms(t)
		sub := subscribe(t, b, nil)
		for round := range 20 { // all at once
			if round%2 == 0 { // one of the two is slower
				la.Log.(*slowLog).set(time.Millisecond, 0)
			} else {
				la.Log.(*slowLog).set(0, 0)
			}
			won := make(chan *chat.Session, 20)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					s, err := []*chat.Room{a, b}[i%2].Login(ctx, []string{"Ann", "ann", "ＡＮＮ"}[i%3], nil)
					if err == nil {
						won <- s
					} else if !errors.Is(err, chat.ErrNameTaken) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				t.Fatalf("%d hold one name", len(won))
			}
			s := <-won
			if err := a.Logout(ctx, s); errors.Is(err, chat.ErrSession) {
				err = b.Logout(ctx, s)
				if err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
		}
		roll(t, nil, pending(sub))

		lb.deafen() // its fold is behind, and the guard decides
		ann := login(t, a, "Ann")
		if _, err := b.Login(ctx, "ann", nil); !errors.Is(err, chat.ErrNameTaken) || len(b.Members()) != 0 {
			t.Errorf("a login in a room that has not read of the holder: %v; it has %v", err, b.Members())
		}
		lb.goOn()
		if err := a.Logout(ctx, ann); err != nil {
			t.Error(err)
		}
		login(t, b, "ann")
	})
}

func TestPromise05AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		for round := range 60 {
			a, b, la, lb := twoRooms(t)
			sub := subscribe(t, b, nil)
			la.Log.(*slowLog).set(time.Duration(round%3)*time.Millisecond, 0)
			lb.Log.(*slowLog).set(time.Duration(round%5)*time.Millisecond, 0)
			g := serve(t, a, &chat.ServeOptions{Linger: time.Duration(round%4) * time.Millisecond})
			g.ask(chat.LoginRequest{Name: "Ann"})
			time.Sleep(time.Second)
			token := g.last().(chat.LoginReply).Token
			ends := []func(){
				func() { g.ask(chat.LogoutRequest{}) },
				func() { a.Kick(ctx, "Ann", "from a") },
				func() { b.Kick(ctx, "Ann", "from b") },
				func() { b.Resume(ctx, token, true) },
				func() { g.lose(io.ErrUnexpectedEOF) },
				func() { a.Shutdown(ctx, nil) },
			}
			var wg sync.WaitGroup
			for i, end := range ends {
				if round&(1<<i) != 0 || i == 5 {
					wg.Go(func() {
						time.Sleep(time.Duration((round+i)%3) * time.Millisecond)
						end()
					})
				}
			}
			wg.Wait()
			time.Sleep(time.Second)
			b.Kick(ctx, "Ann", "if she had gone on there")
			left := 0
			events := pending(sub)
			for _, e := range events {
				if _, ok := e.(chat.Left); ok {
					left++
				}
			}
			if left != 1 {
				t.Errorf("round %d: %s", round, tale(events))
			}
			a.Close()
			b.Close()
		}
	})
}

func TestPromise07AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log := chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: log}
		a, b := newRoom(t, &chat.RoomOptions{Log: held}), newRoom(t, &chat.RoomOptions{Log: log})
		sub := subscribe(t, b, nil)
		ann := login(t, a, "Ann")
		sure, never, open := map[string]chat.Position{}, map[string]bool{}, map[string]bool{}
		fates := []fate{pass, landsUnknown, lostUnknown, lateUnknown, full}
		for i := range 50 {
			text := fmt.Sprint(i)
			held.set(all(fates[i%5]))
			rcpt, err := a.Send(ctx, ann, text, &chat.SendOptions{ID: text})
			switch {
			case err == nil:
				sure[text] = rcpt.Pos
			case errors.Is(err, chat.ErrUnknown):
				open[text] = true
			default:
				never[text] = true
			}
		}
		held.set(nil)
		for text := range open { // sending again settles it, also while the first try is still on its way
			if text == "3" || text == "2" {
				continue
			}
			rcpt, err := a.Send(ctx, ann, text, &chat.SendOptions{ID: text})
			if err != nil {
				t.Errorf("settling %s: %v", text, err)
			}
			sure[text] = rcpt.Pos
		}
		held.release()
		if err := b.Kick(ctx, "Ann", ""); err != nil {
			t.Error(err)
		}
		if _, err := a.Send(ctx, ann, "after", nil); !errors.Is(err, chat.ErrSession) {
			t.Errorf("after a kick in the other room: %v", err)
		}
		for _, text := range []string{"2", "4"} { // never landed, and never will
			if _, err := a.Send(ctx, ann, text, &chat.SendOptions{ID: text}); !errors.Is(err, chat.ErrSession) {
				t.Errorf("sending %s again when the session has ended: %v", text, err)
			}
		}
		rcpt, err := a.Send(ctx, ann, "3", &chat.SendOptions{ID: "3"}) // landed late
		if err != nil {
			t.Errorf("settling what landed late, when the session has ended: %v", err)
		}
		sure["3"] = rcpt.Pos
		seen := map[string]chat.Position{}
		for _, e := range pending(sub) {
			if e, ok := e.(chat.Said); ok {
				if _, twice := seen[e.Text]; twice || never[e.Text] {
					t.Errorf("%s: twice %v, refused %v", e.Text, twice, never[e.Text])
				}
				seen[e.Text] = e.At.Pos
			}
		}
		diff(t, "what the other room saw, against the receipts", sure, seen)
	})
}

// A forgetfulLog forgets the IDs of its records when it is told to, and keeps the records, as clause A1 allows.
type forgetfulLog struct {
	chat.Log
	times atomic.Int64 // that it forgot
}

func (l *forgetfulLog) recall(recs []chat.Record) []chat.Record {
	recs = slices.Clone(recs)
	for i := range recs {
		recs[i].ID, _, _ = strings.Cut(recs[i].ID, "#")
	}
	return recs
}

func (l *forgetfulLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	e.ID += fmt.Sprint("#", l.times.Load())
	rec, err := l.Log.Append(ctx, e)
	return l.recall([]chat.Record{rec})[0], err
}

func (l *forgetfulLog) Snapshot(ctx context.Context) (chat.Snapshot, error) {
	s, err := l.Log.Snapshot(ctx)
	s.Records = l.recall(s.Records)
	return s, err
}

func (l *forgetfulLog) Read(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
	recs, err := l.Log.Read(ctx, after, max)
	return l.recall(recs), err
}

func (l *forgetfulLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	return l.Log.Follow(after, func(recs []chat.Record, err error) { apply(l.recall(recs), err) })
}

func TestPromise08AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		held := newHeldLog(nil)
		log := &forgetfulLog{Log: held}
		a, b := newRoom(t, &chat.RoomOptions{Log: log}), newRoom(t, &chat.RoomOptions{Log: log})
		sub := subscribe(t, b, nil)
		first := loginFor(t, a, "Ann", time.Hour)
		var receipts []chat.Receipt
		send := func(r *chat.Room, s *chat.Session, id string) chat.Receipt {
			rcpt, err := r.Send(ctx, s, "text of "+id, &chat.SendOptions{ID: id})
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			return rcpt
		}
		for i := range 255 {
			receipts = append(receipts, send(a, first, fmt.Sprint(i)))
		}
		held.set(once(isSaid, landsUnknown))
		receipts = append(receipts, send(a, first, "255"))
		held.set(once(isSaid, lateUnknown)) // lands when she is somewhere else: then it must not
		if _, err := a.Send(ctx, first, "late", &chat.SendOptions{ID: "late"}); !errors.Is(err, chat.ErrUnknown) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		log.times.Add(1) // what is recognised from here on, the rooms recognise
		second, err := b.Resume(ctx, first.Token(), true)
		if err != nil {
			t.Fatal(err)
		}
		held.release()
		c := newRoom(t, &chat.RoomOptions{Log: log}) // and one that opens only now
		third := second
		for i, want := range receipts {
			diff(t, fmt.Sprint("a retry of ", i, " in the other room"), want, send(b, second, fmt.Sprint(i)))
			if i == 127 {
				if third, err = c.Resume(ctx, first.Token(), true); err != nil {
					t.Fatal(err)
				}
				for i, want := range receipts {
					diff(t, fmt.Sprint("a retry of ", i, " in the third room"), want, send(c, third, fmt.Sprint(i)))
				}
				break
			}
		}
		late := send(c, third, "late")
		events := pending(sub)
		said := slices.DeleteFunc(events, func(e chat.Event) bool { _, ok := e.(chat.Said); return !ok })
		if len(said) != 257 || said[256].Meta().Pos != late.Pos {
			t.Errorf("%d messages, of 257", len(said))
		}
	})
}

func TestPromise10AcrossRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxRecords: 40})
		lb := &pausable{Log: log}
		a, b := newRoom(t, &chat.RoomOptions{Log: log}), newRoom(t, &chat.RoomOptions{Log: lb})
		sub := subscribe(t, a, nil)
		ann, bob := login(t, a, "Ann"), login(t, b, "Bob")
		for i := range 20 {
			say(t, a, ann, fmt.Sprint("a", i))
			say(t, b, bob, fmt.Sprint("b", i))
		}
		events := pending(sub)
		for i, e := range events { // what was read in one room is gone on from in the other
			s, err := b.Subscribe(ctx, &chat.SubscribeOptions{After: e.Meta().Pos})
			if err != nil {
				t.Errorf("after %v: %v", e.Meta().Pos, err)
				continue
			}
			if !s.Start().Resumed {
				t.Errorf("after %v: not resumed", e.Meta().Pos)
			}
			if got, want := pending(s), events[i+1:]; len(got) != len(want) || len(got) > 0 {
				diff(t, fmt.Sprint("after ", e.Meta().Pos), want, got)
			}
			s.Close()
		}
		// A room that opened later, and a position that its log has trimmed.
		c := newRoom(t, &chat.RoomOptions{Log: log})
		if _, err := c.Subscribe(ctx, &chat.SubscribeOptions{After: events[0].Meta().Pos}); !errors.Is(err, chat.ErrTrimmed) {
			t.Errorf("trimmed: %v", err)
		}
		last := events[len(events)-1].Meta().Pos
		for _, r := range []*chat.Room{a, b, c} {
			if _, err := r.Subscribe(ctx, &chat.SubscribeOptions{After: chat.Position{Epoch: last.Epoch, Seq: last.Seq + 1}}); !errors.Is(err, chat.ErrAhead) {
				t.Errorf("ahead of the log: %v", err)
			}
			if _, err := r.Subscribe(ctx, &chat.SubscribeOptions{After: chat.Position{Epoch: last.Epoch + 1, Seq: 1}}); !errors.Is(err, chat.ErrEpoch) {
				t.Errorf("another epoch: %v", err)
			}
		}
		// A room that is behind does not say that there is no such position: it looks first.
		lb.deafen()
		pos := say(t, a, ann, "news").Pos
		done := make(chan error, 1)
		go func() {
			s, err := b.Subscribe(ctx, &chat.SubscribeOptions{After: pos})
			if err == nil {
				s.Close()
			}
			done <- err
		}()
		synctest.Wait()
		lb.goOn()
		if err := <-done; err != nil {
			t.Errorf("after what the other room had read: %v", err)
		}
	})
}
