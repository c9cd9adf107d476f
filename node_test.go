package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A pausable is one process's way to a log. While the process is paused nothing of it runs: its calls do not get there, and
// it is told nothing, until it goes on.
type pausable struct {
	chat.Log

	mu     sync.Mutex // held while followers are told
	paused chan struct{}
	queue  []func() // what they are to be told
}

func (l *pausable) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = make(chan struct{})
}

// deafen lets its calls through, and it is told nothing.
func (l *pausable) deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = make(chan struct{})
	close(l.paused)
}

func (l *pausable) goOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, tell := range l.queue {
		tell()
	}
	select {
	case <-l.paused:
	default:
		close(l.paused)
	}
	l.paused, l.queue = nil, nil
}

// running waits until the process is.
func (l *pausable) running(ctx context.Context) error {
	l.mu.Lock()
	paused := l.paused
	l.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *pausable) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	if err := l.running(ctx); err != nil {
		return chat.Record{}, fmt.Errorf("%w: %w", chat.ErrUnknown, err)
	}
	return l.Log.Append(ctx, e)
}

func (l *pausable) Snapshot(ctx context.Context) (chat.Snapshot, error) {
	if err := l.running(ctx); err != nil {
		return chat.Snapshot{}, err
	}
	return l.Log.Snapshot(ctx)
}

func (l *pausable) Read(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
	if err := l.running(ctx); err != nil {
		return nil, err
	}
	return l.Log.Read(ctx, after, max)
}

func (l *pausable) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	return l.Log.Follow(after, func(recs []chat.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.paused == nil {
			apply(recs, err)
			return
		}
		recs = slices.Clone(recs)
		l.queue = append(l.queue, func() { apply(recs, err) })
	})
}

// A machine is a process with a node and a room.
type machine struct {
	log, beats *pausable
	node       *chat.Node
	room       *chat.Room
}

// newMachine starts one on two logs that it shares with others. Its heartbeats are due every five seconds from now.
func newMachine(t *testing.T, log, beats chat.Log) *machine {
	t.Helper()
	m := &machine{log: &pausable{Log: log}, beats: &pausable{Log: beats}}
	m.node = newNode(t, m.beats)
	t.Cleanup(func() { m.node.Close() })
	m.room = newRoom(t, &chat.RoomOptions{Log: m.log, Node: m.node})
	return m
}

// pause stops the machine; a machine that was killed is one that does not go on.
func (m *machine) pause() {
	m.log.pause()
	m.beats.pause()
}

func (m *machine) goOn() {
	m.log.goOn()
	m.beats.goOn()
}

// loginFor logs in with a linger.
func loginFor(t *testing.T, r *chat.Room, name string, linger time.Duration) *chat.Session {
	t.Helper()
	s, err := r.Login(context.Background(), name, &chat.LoginOptions{Linger: linger})
	if err != nil {
		t.Fatalf("login of %q: %v", name, err)
	}
	return s
}

// tale is words, with "*Ann" for who resumed.
func tale(events []chat.Event) string {
	var list []string
	for _, e := range events {
		if e, ok := e.(chat.Resumed); ok {
			list = append(list, "*"+e.User.Name)
			continue
		}
		list = append(list, words([]chat.Event{e}))
	}
	return strings.Join(list, " ")
}

// names lists who is in.
func names(r *chat.Room) string {
	var list []string
	for _, u := range r.Members() {
		list = append(list, u.Name)
	}
	return strings.Join(list, " ")
}

// records counts the records of a log under a key, and how many of them are final.
func records(t *testing.T, l chat.Log, key string) (n, final int) {
	t.Helper()
	recs, err := l.Read(context.Background(), chat.Position{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range recs {
		if rec.Key == key {
			n++
			if rec.Final {
				final++
			}
		}
	}
	return n, final
}

// keys lists the keys of a log's records, each once.
func keys(t *testing.T, l chat.Log) []string {
	t.Helper()
	recs, err := l.Read(context.Background(), chat.Position{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, rec := range recs {
		if !slices.Contains(list, rec.Key) {
			list = append(list, rec.Key)
		}
	}
	return list
}

// A dead node's sessions leave once each, those that linger when they have done so since its last heartbeat, the others
// when it is judged; what is resumed meanwhile stays.
func TestNodeDies(t *testing.T) {
	for _, row := range []struct {
		b, c   time.Duration // when the other two start
		judged time.Duration // after the dead node's last heartbeat
		why    string
	}{
		{time.Second, 2 * time.Second, 11 * time.Second, "the second node's third heartbeat since"},
		{4 * time.Second, 3 * time.Second, 13 * time.Second, "the third node's"},
		{time.Second, time.Second, 11 * time.Second, "two survivors judge at the same time"},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
				began := time.Now()
				a := newMachine(t, log, beats)
				var b, c *machine
				for range 2 {
					if b == nil && (c != nil || row.b <= row.c) {
						time.Sleep(time.Until(began.Add(row.b)))
						b = newMachine(t, log, beats)
					} else {
						time.Sleep(time.Until(began.Add(row.c)))
						c = newMachine(t, log, beats)
					}
				}
				sb, sc := subscribe(t, b.room, nil), subscribe(t, c.room, nil)
				dead := a.node.Incarnation()

				lingers := []time.Duration{0, 3 * time.Second, 30 * time.Second, time.Minute}
				tokens := map[string]string{}
				for i := range 40 {
					name := fmt.Sprint("user", i)
					tokens[name] = loginFor(t, a.room, name, lingers[i%4]).Token()
				}
				login(t, b.room, "Bea")
				time.Sleep(time.Until(began.Add(12 * time.Second)))
				a.pause()
				last := began.Add(10 * time.Second) // its heartbeats were at 0, 5 and 10 s

				time.Sleep(time.Until(last.Add(row.judged)))
				synctest.Wait()
				if n := len(b.room.Members()); n != 21 {
					t.Errorf("judged, of 40 there are %d, and 20 that have lingered long enough are gone", n-1)
				}
				if _, final := records(t, beats, dead); final != 1 {
					t.Errorf("judged %d times", final)
				}
				// Two come back to the same session at once, on two nodes; one of them wins. Another one comes alone.
				won := make(chan error, 2)
				for _, m := range []*machine{b, c} {
					go func() {
						_, err := m.room.Resume(ctx, tokens["user2"], false)
						won <- err
					}()
				}
				if err, err2 := <-won, <-won; (err == nil) == (err2 == nil) || !errors.Is(errors.Join(err, err2), chat.ErrConnected) {
					t.Errorf("two resume at once: %v, %v", err, err2)
				}
				if _, err := c.room.Resume(ctx, tokens["user3"], false); err != nil {
					t.Errorf("a resuming: %v", err)
				}
				if _, err := c.room.Resume(ctx, tokens["user4"], true); !errors.Is(err, chat.ErrToken) {
					t.Errorf("a resuming of one that is gone: %v", err)
				}
				time.Sleep(time.Hour)

				events := pending(sb)
				diff(t, "what the third node saw, against the second", events, pending(sc))
				left := map[string]int{}
				for _, e := range events {
					e, ok := e.(chat.Left)
					if !ok {
						continue
					}
					left[e.User.Name]++
					var i int
					if _, err := fmt.Sscanf(e.User.Name, "user%d", &i); err != nil || e.Reason != chat.Lost {
						t.Errorf("%+v", e)
					}
					if want := max(lingers[i%4], row.judged); e.At.Time.Sub(last) != want {
						t.Errorf("%s, who lingers for %v, left %v after the last heartbeat, not %v", e.User.Name, lingers[i%4], e.At.Time.Sub(last), want)
					}
				}
				for name, n := range left {
					if n != 1 {
						t.Errorf("%s left %d times", name, n)
					}
				}
				if names := names(c.room); len(left) != 38 || names != "user2 user3 Bea" {
					t.Errorf("%d left, and there are %s", len(left), names)
				}
			})
		})
	}
}

// A node that is closed is not waited for: what its room handed over others adopt at once.
func TestNodeCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		a, b := newMachine(t, log, beats), newMachine(t, log, beats)
		sub := subscribe(t, b.room, nil)
		ann := loginFor(t, a.room, "Ann", time.Minute)
		loginFor(t, a.room, "Bob", time.Minute)
		login(t, a.room, "Cid")
		time.Sleep(7 * time.Second)
		if err := a.room.Shutdown(ctx, &chat.ShutdownOptions{HandOver: true}); err != nil {
			t.Error(err)
		}
		if _, err := b.room.Resume(ctx, ann.Token(), false); !errors.Is(err, chat.ErrConnected) {
			t.Errorf("handed over, and nobody may know yet: %v", err)
		}
		if err := a.node.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := b.room.Resume(ctx, ann.Token(), false); err != nil {
			t.Errorf("the node is closed: %v", err)
		}
		if err := a.node.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
		time.Sleep(time.Minute - 2*time.Second) // the last heartbeat was two seconds before the end
		diff(t, "events", "+Ann +Bob +Cid -Cid(shutdown) *Ann -Bob(lost)", tale(pending(sub)))
	})
}

// A node that was paused, and judged, can say nothing for those who went on elsewhere; the others' connections end, and it
// begins anew.
func TestNodePaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		a, b := newMachine(t, log, beats), newMachine(t, log, beats)
		sub := subscribe(t, b.room, nil)
		o := &chat.ServeOptions{Linger: time.Minute}
		ann, bob, spectator := serve(t, a.room, o), serve(t, a.room, o), serve(t, a.room, &chat.ServeOptions{Spectators: true})
		ann.ask(chat.LoginRequest{Name: "Ann"})
		bob.ask(chat.LoginRequest{Name: "Bob"})
		spectator.ask(chat.SubscribeRequest{})
		token := ann.last().(chat.LoginReply).Token
		cid, dan := loginFor(t, a.room, "Cid", time.Minute), login(t, a.room, "Dan")
		before := a.node.Incarnation()
		time.Sleep(time.Second)
		a.pause()
		said := make(chan error, 4)
		for _, s := range []*chat.Session{cid, cid, dan, dan} { // on their way when the pause began
			go func() {
				_, err := a.room.Send(ctx, s, "from "+s.User().Name+" on A", nil)
				said <- err
			}()
		}
		ann.ask(chat.SendRequest{Text: "from Ann on A"})
		time.Sleep(30 * time.Second)
		for _, token := range []string{token, cid.Token()} {
			s, err := b.room.Resume(ctx, token, false)
			if err != nil {
				t.Fatal(err)
			}
			say(t, b.room, s, "from "+s.User().Name+" on B")
		}
		a.goOn()
		synctest.Wait()
		for range 4 {
			if err := <-said; !errors.Is(err, chat.ErrSession) {
				t.Errorf("sent on A by somebody who is not there any more: %v", err)
			}
		}
		for _, row := range []struct {
			g    *guest
			want error
			why  string
		}{
			{ann, chat.ErrTakenOver, "she is on B"},
			{bob, chat.ErrFenced, "the node was judged, and he is still in"},
		} {
			if err, cause := row.g.end(); !errors.Is(err, row.want) || !errors.Is(cause, row.want) {
				t.Errorf("a connection of A: %v, %v, not %v: %s", err, cause, row.want, row.why)
			}
		}
		if !errors.Is(cid.Err(), chat.ErrTakenOver) || !errors.Is(dan.Err(), chat.ErrFenced) {
			t.Errorf("Cid: %v; Dan: %v", cid.Err(), dan.Err())
		}
		if a.node.Incarnation() == before {
			t.Error("the node goes on under the name that was judged")
		}

		// Bob comes back where he was; somebody new logs in there, without a linger, right away.
		bob = serve(t, a.room, o)
		bob.ask(chat.LoginRequest{Name: "Eve"})
		login(t, a.room, "Fay")
		time.Sleep(time.Hour)
		bob.goodbye()
		synctest.Wait()
		spectator.goodbye()
		const want = "+Ann +Bob +Cid +Dan -Dan(lost) *Ann Ann:from Ann on B *Cid Cid:from Cid on B +Eve +Fay -Bob(lost) -Eve(goodbye)"
		diff(t, "events", want, tale(pending(sub)))
		diff(t, "as a spectator on A saw it", want, "+Ann +Bob "+tale(spectator.events()))
		diff(t, "on A", "Ann Cid Fay", names(a.room))
	})
}

// A process that dies and starts again is another node. Its users may come back to it at once, if they say that they know
// better than the others that their connections are gone.
func TestNodeRestarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		a, b := newMachine(t, log, beats), newMachine(t, log, beats)
		sub := subscribe(t, b.room, nil)
		ann := loginFor(t, a.room, "Ann", 20*time.Second)
		loginFor(t, a.room, "Bob", 20*time.Second)
		a.pause() // for good
		again := newMachine(t, log, beats)
		if _, err := again.room.Resume(ctx, ann.Token(), false); !errors.Is(err, chat.ErrConnected) {
			t.Errorf("at once, without taking over: %v", err)
		}
		ann, err := again.room.Resume(ctx, ann.Token(), true)
		if err != nil {
			t.Fatalf("at once: %v", err)
		}
		if _, err := again.room.Login(ctx, "bob", nil); !errors.Is(err, chat.ErrNameTaken) {
			t.Errorf("a name that the dead node holds: %v", err)
		}
		time.Sleep(20*time.Second - time.Millisecond)
		diff(t, "within the linger", "Ann Bob", names(again.room))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		login(t, again.room, "Bob")
		say(t, again.room, ann, "back")
		time.Sleep(time.Hour)
		diff(t, "events", "+Ann +Bob *Ann -Bob(lost) +Bob Ann:back", tale(pending(sub)))
	})
}

// The end of a session that nobody came back to, on its way while somebody does, is none.
func TestLeftMeetsResumed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: log}
		a, b, c := newMachine(t, log, beats), newMachine(t, log, beats), newMachine(t, held, beats)
		sub := subscribe(t, c.room, nil)
		ann := loginFor(t, a.room, "Ann", time.Minute)
		a.pause()
		time.Sleep(30 * time.Second)
		held.set(only(isLeft, hold))
		b.log.pause() // or it would end her at the same time
		time.Sleep(time.Minute)
		if held.held() != 1 {
			t.Errorf("%d ends are under way", held.held())
		}
		d := newMachine(t, log, beats)
		s, err := d.room.Resume(context.Background(), ann.Token(), true)
		if err != nil {
			t.Fatal(err)
		}
		held.release()
		held.set(nil)
		b.log.goOn()
		time.Sleep(time.Hour)
		say(t, d.room, s, "here")
		diff(t, "events", "+Ann *Ann Ann:here", tale(pending(sub)))
	})
}

// A room that opens on a log with sessions of nodes that died long ago ends them, or gives them back, whether somebody has
// judged those nodes or nobody was left to do so.
func TestRoomOpensAmongTheDead(t *testing.T) {
	for _, judged := range []bool{false, true} {
		t.Run(fmt.Sprint("judged_", judged), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
				a, b := newMachine(t, log, beats), newMachine(t, log, beats)
				ann := loginFor(t, a.room, "Ann", time.Minute)
				loginFor(t, b.room, "Bob", time.Minute)
				login(t, a.room, "Cid")
				a.pause()
				b.pause()
				time.Sleep(24 * time.Hour)
				var node *chat.Node
				if judged { // by one that has no room
					node = newNode(t, beats)
					defer node.Close()
					time.Sleep(time.Minute)
				}
				c := newMachine(t, log, beats)
				sub := subscribe(t, c.room, &chat.SubscribeOptions{Last: 100})
				wait := 10 * time.Second // three heartbeats of its own, the first of which it began with
				if judged {
					wait = 0
				}
				time.Sleep(wait - time.Millisecond)
				if !judged {
					diff(t, "before they are judged", "Ann Bob Cid", names(c.room))
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
				diff(t, "judged", "Ann Bob", names(c.room))
				if _, err := c.room.Resume(ctx, ann.Token(), false); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				diff(t, "events", "+Ann +Bob +Cid -Cid(lost) *Ann -Bob(lost)", tale(pending(sub)))
			})
		})
	}
}

// Who moved from a paused node to one that died then is adopted by the third; and the first, when it goes on, changes
// nothing.
func TestNodeAfterNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		a, b, c := newMachine(t, log, beats), newMachine(t, log, beats), newMachine(t, log, beats)
		sub := subscribe(t, c.room, nil)
		g := serve(t, a.room, &chat.ServeOptions{Linger: time.Minute})
		g.ask(chat.LoginRequest{Name: "Ann"})
		token := g.last().(chat.LoginReply).Token
		bob := loginFor(t, a.room, "Bob", time.Minute)
		a.pause()
		ann, err := b.room.Resume(ctx, token, true) // she is faster than the nodes
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.room.Send(ctx, ann, "on B", &chat.SendOptions{ID: "1"}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.room.Resume(ctx, bob.Token(), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // A is judged
		diff(t, "while B lives", "Ann Bob", names(c.room))
		b.pause()                    // for good; its last heartbeat is now
		time.Sleep(30 * time.Second) // B is judged
		on, err := c.room.Resume(ctx, token, false)
		if err != nil {
			t.Fatalf("on C: %v", err)
		}
		if _, err := c.room.Send(ctx, on, "on B", &chat.SendOptions{ID: "1"}); err != nil {
			t.Errorf("a retry on C of what was sent on B: %v", err)
		}
		say(t, c.room, on, "on C")
		a.goOn()
		if err, _ := g.end(); !errors.Is(err, chat.ErrTakenOver) {
			t.Errorf("the connection of A: %v", err)
		}
		time.Sleep(time.Hour)
		diff(t, "events", "+Ann +Bob *Ann Ann:on B *Bob *Ann Ann:on C -Bob(lost)", tale(pending(sub)))
		diff(t, "on A", "Ann", names(a.room))
	})
}

// A death in the middle of a shutdown is for others to see to.
func TestNodeDiesDuringShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: log}
		a, b, c := newMachine(t, log, beats), newMachine(t, held, beats), newMachine(t, log, beats)
		sub := subscribe(t, c.room, nil)
		loginFor(t, a.room, "Ann", time.Hour)
		login(t, b.room, "Bob")
		a.pause()
		held.set(only(isLeft, hold)) // so that the shutdown takes a while
		done := make(chan error, 1)
		go func() { done <- b.room.Shutdown(context.Background(), nil) }()
		time.Sleep(time.Minute) // A is judged
		held.release()
		begin := time.Now()
		if err := <-done; err != nil || time.Since(begin) > time.Second {
			t.Errorf("Shutdown: %v, %v after the last Left", err, time.Since(begin))
		}
		time.Sleep(time.Hour)
		diff(t, "events", "+Ann +Bob -Bob(shutdown) -Ann(lost)", tale(pending(sub)))
	})
}
