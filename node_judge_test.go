package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A node that was judged does not let anybody in before the others can know its new name, or they would take who comes for
// a dead node's.
func TestNodeWithoutAName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: beats}
		a, b := newMachine(t, log, held), newMachine(t, log, beats)
		sub := subscribe(t, b.room, nil)
		ann := loginFor(t, b.room, "Ann", time.Hour)
		held.set(all(lostUnknown))
		time.Sleep(30 * time.Second) // judged, and every first heartbeat of a new name is lost
		for what, call := range map[string]func(ctx context.Context) error{
			"login": func(ctx context.Context) error {
				_, err := a.room.Login(ctx, "Bob", nil)
				return err
			},
			"resuming": func(ctx context.Context) error {
				_, err := a.room.Resume(ctx, ann.Token(), true)
				return err
			},
		} {
			short, cancel := context.WithTimeout(ctx, time.Second)
			if err := call(short); !errors.Is(err, chat.ErrFenced) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a %s on a node without a name: %v", what, err)
			}
			cancel()
		}
		early, g := serve(t, a.room, nil), serve(t, a.room, nil)
		early.ask(chat.LoginRequest{Name: "Bob"})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		diff(t, "over a connection, after the time that a request has", "[[fenced]]", early.gist())
		early.goodbye()
		g.ask(chat.LoginRequest{Name: "Cid"}) // waits
		begin, done := time.Now(), make(chan error, 1)
		go func() {
			_, err := a.room.Login(ctx, "Dan", nil)
			done <- err
		}()
		time.Sleep(4 * time.Second)
		held.set(nil)
		if err := <-done; err != nil || time.Since(begin) > 9*time.Second {
			t.Errorf("the login that waited: %v, after %v", err, time.Since(begin))
		}
		time.Sleep(time.Hour)
		g.goodbye()
		if events := tale(pending(sub)); events != "+Ann +Cid +Dan -Cid(goodbye)" && events != "+Ann +Dan +Cid -Cid(goodbye)" {
			t.Errorf("events: %s", events)
		}

		// Who waits when the room ends is told so.
		held.set(all(lostUnknown))
		time.Sleep(30 * time.Second)
		go func() {
			_, err := a.room.Login(ctx, "Eve", nil)
			done <- err
		}()
		synctest.Wait()
		a.room.Close()
		if err := <-done; !errors.Is(err, chat.ErrClosed) {
			t.Errorf("the login that waited for a room that ended: %v", err)
		}
	})
}

// A heartbeat of which a node does not know whether it landed is no sign of its life if it did not, and brings nobody back
// to life who was judged meanwhile.
func TestNodeHeartbeatOfUnknownOutcome(t *testing.T) {
	for _, row := range []struct {
		fate   fate
		judged bool
		why    string
	}{
		{landsUnknown, false, "they land: the others read them"},
		{lateUnknown, true, "they land when the node is judged already"},
		{lostUnknown, true, "they never land"},
		{full, true, "they are refused"},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
				held := &heldLog{MemoryLog: beats}
				a, b, c := newMachine(t, log, held), newMachine(t, log, beats), newMachine(t, log, beats)
				sub := subscribe(t, c.room, nil)
				ann, bob := loginFor(t, a.room, "Ann", 3*time.Minute), login(t, b.room, "Bob")
				name := a.node.Incarnation()
				held.set(all(row.fate))
				time.Sleep(time.Minute)
				held.release()
				time.Sleep(20 * time.Second)
				held.release()
				held.set(nil)
				time.Sleep(10 * time.Minute)
				want := "+Ann +Bob Bob:b Ann:a"
				if _, final := records(t, beats, name); (final == 1) != row.judged || final > 1 {
					t.Errorf("judged %d times", final)
				}
				if (a.node.Incarnation() != name) != row.judged {
					t.Errorf("judged: %v, and it has the same name: %v", row.judged, a.node.Incarnation() == name)
				}
				say(t, b.room, bob, "b")
				_, err := a.room.Send(context.Background(), ann, "a", nil)
				if row.judged {
					want = "+Ann +Bob -Ann(lost) Bob:b"
					if !errors.Is(err, chat.ErrSession) || !errors.Is(ann.Err(), chat.ErrFenced) {
						t.Errorf("a session of the judged node: %v; %v", err, ann.Err())
					}
					login(t, a.room, "Cid") // and stays
					want += " +Cid"
				} else if err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Minute)
				diff(t, "events", want, tale(pending(sub)))
			})
		})
	}
}

// A judgement that is late, so that a heartbeat comes before it, is none.
func TestNodeJudgedTooLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: beats}
		a, b := newMachine(t, log, beats), newMachine(t, log, held)
		name := a.node.Incarnation()
		login(t, a.room, "Ann")
		held.set(only(isLeft, hold))
		a.pause()
		time.Sleep(16 * time.Second)
		if held.held() == 0 {
			t.Error("no judgement is under way")
		}
		a.goOn()
		time.Sleep(5 * time.Second)
		held.release()
		held.set(nil)
		time.Sleep(time.Hour)
		diff(t, "members", "Ann", names(b.room))
		if a.node.Incarnation() != name {
			t.Error("it was judged")
		}
	})
}

// The first heartbeat of a name, landing so late that its node had given the name up, brings nobody back: also not a node
// that has died since.
func TestNodeFirstHeartbeatLandsLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: beats}
		a, b := newMachine(t, log, held), newMachine(t, log, beats)
		held.set(all(lostUnknown))
		time.Sleep(17 * time.Second) // judged, and the first heartbeat of the next name is lost
		held.set(all(lateUnknown))
		time.Sleep(5 * time.Second)
		held.set(nil)
		time.Sleep(5 * time.Second) // it has a name again
		ann := loginFor(t, a.room, "Ann", time.Hour)
		a.pause()
		time.Sleep(time.Minute) // judged again
		held.release()
		c := newMachine(t, log, beats)
		synctest.Wait()
		if _, err := c.room.Resume(context.Background(), ann.Token(), false); err != nil { // it knows that she is away
			t.Error(err)
		}
		time.Sleep(time.Minute)
		diff(t, "members", "Ann", names(b.room))
		n, final := 0, 0
		for _, key := range keys(t, beats) {
			if all, ends := records(t, beats, key); ends > 1 {
				t.Errorf("%s has %d records, of which %d end it", key, all, ends)
			} else if ends == 1 {
				final++
			} else {
				n++
			}
		}
		if n != 2 || final != 3 { // B and C; A's two names and the one that it gave up
			t.Errorf("%d names live, %d are dead", n, final)
		}
	})
}

// What was on its way to the room's log when its node was judged lands under a name that is dead: it is ended here, and
// adopted there.
func TestNodeJudgedDuringALogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		way, held := &heldLog{MemoryLog: beats}, &heldLog{MemoryLog: log}
		a, b := newMachine(t, held, way), newMachine(t, log, beats)
		sub := subscribe(t, b.room, nil)
		g := serve(t, a.room, &chat.ServeOptions{Linger: time.Minute, LoginTimeout: -1})
		held.set(only(isJoin, hold))
		way.set(all(lostUnknown))
		sessions := make(chan *chat.Session, 2)
		for name, linger := range map[string]time.Duration{"Ann": time.Minute, "Bob": 0} {
			go func() {
				s, err := a.room.Login(ctx, name, &chat.LoginOptions{Linger: linger})
				if err != nil {
					t.Error(err)
				}
				sessions <- s
			}()
		}
		time.Sleep(5 * time.Second)
		g.ask(chat.LoginRequest{Name: "Cid"})
		time.Sleep(6 * time.Second) // judged
		way.set(nil)
		time.Sleep(2 * time.Second)
		held.release()
		held.set(nil)
		for range 2 {
			s := <-sessions
			<-s.Done()
			if !errors.Is(s.Err(), chat.ErrFenced) {
				t.Errorf("%s: %v", s.User().Name, s.Err())
			}
			synctest.Wait() // B has asked whose they were
			if _, err := b.room.Resume(ctx, s.Token(), false); s.User().Name == "Ann" && err != nil {
				t.Errorf("Ann on B: %v", err)
			}
		}
		if err, _ := g.end(); !errors.Is(err, chat.ErrFenced) {
			t.Errorf("the connection: %v", err)
		}
		time.Sleep(time.Hour)
		left := map[string]int{}
		for _, e := range pending(sub) {
			if e, ok := e.(chat.Left); ok && e.Reason == chat.Lost {
				left[e.User.Name]++
			}
		}
		diff(t, "who left", map[string]int{"Bob": 1, "Cid": 1}, left)
	})
}

// Nobody is judged by the clock: while the nodes' log is out of reach for all, all live.
func TestNodesLogOutOfReach(t *testing.T) {
	for _, row := range []struct {
		fate fate
		why  string
	}{
		{hold, "nothing comes back, and it all lands in the end"},
		{lateUnknown, "unknown at once, and it all lands in the end"},
		{lostUnknown, "nothing lands"},
		{landsUnknown, "all lands, and nobody is told so"},
		{full, "all is refused"},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				log, beats := chat.NewMemoryLog(nil), newHeldLog(nil)
				var machines []*machine
				var before, after []string
				for i := range 3 {
					machines = append(machines, newMachine(t, log, beats))
					before = append(before, machines[i].node.Incarnation())
					login(t, machines[i].room, fmt.Sprint("user", i))
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute)
				beats.set(all(row.fate))
				time.Sleep(time.Hour)
				beats.release()
				time.Sleep(7 * time.Second)
				beats.release()
				beats.set(nil)
				time.Sleep(time.Hour)
				for i, m := range machines {
					after = append(after, m.node.Incarnation())
					diff(t, fmt.Sprint("members, on node ", i), "user0 user1 user2", names(m.room))
				}
				diff(t, "incarnations", before, after)
				machines[0].pause() // and who dies is still noticed
				time.Sleep(20 * time.Second)
				diff(t, "when one has died", "user1 user2", names(machines[1].room))
			})
		})
	}
}

// A slowLog is one that takes its time for each append: before it lands, or before its caller, who has it told last of all,
// hears of it.
type slowLog struct {
	chat.Log
	before, after atomic.Int64 // nanoseconds
}

func (l *slowLog) set(before, after time.Duration) {
	l.before.Store(int64(before))
	l.after.Store(int64(after))
}

func (l *slowLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	wait := func(d *atomic.Int64) error {
		select {
		case <-time.After(time.Duration(d.Load())):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", chat.ErrUnknown, ctx.Err())
		}
	}
	if err := wait(&l.before); err != nil {
		return chat.Record{}, err
	}
	rec, err := l.Log.Append(context.WithoutCancel(ctx), e)
	if err != nil {
		return rec, err
	}
	return rec, wait(&l.after)
}

// A node that is slow is not dead, as long as its heartbeats come.
func TestNodeIsSlow(t *testing.T) {
	for _, row := range []struct {
		before, after time.Duration
		why           string
	}{
		{4 * time.Second, 0, "it writes slowly"},
		{0, 4 * time.Second, "it reads slowly"},
		{2 * time.Second, 2900 * time.Millisecond, "both"},
		{2 * time.Second, 9 * time.Second, "it writes in time, and never hears that it did"},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
				slow := &slowLog{Log: beats}
				a, b := newMachine(t, log, slow), newMachine(t, log, beats)
				before := a.node.Incarnation() + b.node.Incarnation()
				login(t, a.room, "Ann")
				login(t, b.room, "Bob")
				slow.set(row.before, row.after)
				time.Sleep(time.Hour)
				diff(t, "after an hour", "Ann Bob", names(a.room))
				diff(t, "incarnations", before, a.node.Incarnation()+b.node.Incarnation())
				slow.set(0, 0)
			})
		})
	}
}

// Heartbeats that come close to each other, one being slow and the next not, are not two in the time of one.
func TestNodeDoesNotJudgeInHaste(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		slowA, slowB := &slowLog{Log: beats}, &slowLog{Log: beats}
		began := time.Now()
		till := func(d time.Duration) { time.Sleep(time.Until(began.Add(d))) }
		a := newMachine(t, log, slowA)
		till(30 * time.Millisecond)
		b := newMachine(t, log, slowB)
		name := b.node.Incarnation()
		login(t, b.room, "Bob")
		till(11 * time.Second)
		slowA.set(4900*time.Millisecond, 0)
		till(16 * time.Second) // its heartbeat is under way since 15 s, and lands at 19.9 s; those of 20 and 25 s land at once
		slowA.set(0, 0)
		slowB.set(4990*time.Millisecond, 0) // its last was at 15.03 s; that of 20.03 s lands at 25.02 s
		till(24 * time.Second)
		slowB.set(0, 0)
		time.Sleep(time.Hour)
		diff(t, "members", "Bob", names(a.room))
		if b.node.Incarnation() != name {
			t.Error("judged, and it was never late")
		}
	})
}

// A node that is told no more, since what it had to read is trimmed, reads the log anew, and misses nobody's death
// meanwhile, its own included.
func TestNodeIsTrimmedOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, beats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
		held := &heldLog{MemoryLog: beats}
		a := newMachine(t, log, held)
		c := newMachine(t, log, beats)
		time.Sleep(time.Second)
		judge := newNode(t, beats) // it has no room that could end anybody
		t.Cleanup(func() { judge.Close() })
		login(t, a.room, "Ann")
		login(t, c.room, "Cid")
		name := a.node.Incarnation()
		for range 10 {
			held.end(chat.ErrTrimmed)
			time.Sleep(time.Minute)
		}
		diff(t, "all live", "Ann Cid", names(a.room))

		c.pause() // it was at 0, 5, 10 …, now the second after
		time.Sleep(8 * time.Second)
		held.unread(true) // at 9
		held.end(chat.ErrTrimmed)
		time.Sleep(3 * time.Second)
		diff(t, "C was judged at 11, and A cannot know", "Ann Cid", names(a.room))
		held.unread(false)
		time.Sleep(3 * time.Second)
		diff(t, "it reads again", "Ann", names(a.room))
		if a.node.Incarnation() != name {
			t.Error("it has another name, and nobody judged it")
		}

		bob := loginFor(t, a.room, "Bob", time.Minute)
		held.unread(true)
		held.end(chat.ErrTrimmed)
		time.Sleep(30 * time.Second)
		diff(t, "A was judged, and cannot know", "Ann Bob", names(a.room))
		held.unread(false)
		time.Sleep(11 * time.Second)
		if a.node.Incarnation() == name || !errors.Is(bob.Err(), chat.ErrFenced) {
			t.Errorf("it was judged: its name is the same, %v; a session: %v", a.node.Incarnation() == name, bob.Err())
		}
		diff(t, "and it lets go", "Bob", names(a.room))
	})
}

// What a node that cannot start leaves behind is nothing.
func TestNewNodeBounds(t *testing.T) {
	for _, row := range []struct {
		spoil func(l *heldLog)
		took  time.Duration
		want  error
		why   string
	}{
		{func(l *heldLog) { l.stuck = true }, 10 * time.Second, context.DeadlineExceeded, "the log does not answer"},
		{func(l *heldLog) { l.set(all(hold)) }, 10 * time.Second, chat.ErrUnknown, "it does not take the first heartbeat"},
		{func(l *heldLog) { l.set(all(full)) }, 0, chat.ErrFull, "it refuses the first heartbeat"},
		{func(l *heldLog) { l.MemoryLog.Close() }, 0, chat.ErrClosed, "it has ended"},
		{func(l *heldLog) { l.short = 2 }, 0, nil, "it is trimmed while it is read"},
	} {
		t.Run(strings.ReplaceAll(row.why, " ", "_"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newHeldLog(nil)
				row.spoil(l)
				begin := time.Now()
				n, err := chat.NewNode(l, nil)
				if !errors.Is(err, row.want) || time.Since(begin) != row.took {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
				if err == nil {
					n.Close()
				}
				l.release()
			})
		})
	}
}

// A node's logger is told what nobody else is.
func TestNodeLogs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var text strings.Builder
		l := newHeldLog(nil)
		n, err := chat.NewNode(l, &chat.NodeOptions{
			Interval: time.Second, Misses: 2,
			Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == "time" || a.Key == "node" {
					return slog.Attr{}
				}
				return a
			}})),
		})
		if err != nil {
			t.Fatal(err)
		}
		other := newNode(t, l.MemoryLog)
		time.Sleep(500 * time.Millisecond)
		l.set(all(full))
		time.Sleep(time.Second)
		l.set(nil)
		other.Close()
		way := &pausable{Log: l.MemoryLog}
		dead := newNode(t, way)
		way.pause()
		time.Sleep(4 * time.Second)
		l.end(io.ErrClosedPipe)
		time.Sleep(time.Second)
		n.Close()
		way.goOn()
		dead.Close()
		const want = "level=WARN msg=\"chat: a heartbeat is not in the log\" err=\"chat: log is full\"\n" +
			"level=WARN msg=\"chat: a node is dead\"\n" +
			"level=ERROR msg=\"chat: the nodes' log has ended\" err=\"io: read/write on closed pipe\"\n"
		diff(t, "what was logged", want, text.String())
	})
}
