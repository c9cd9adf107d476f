package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// events returns what the page has received since it was last asked, without the lists of users: they are state, and
// come as often as the state is due.
func (p *page) events() []string {
	return slices.DeleteFunc(p.take(), func(e string) bool { return strings.HasPrefix(e, `["updateUserList",`) })
}

// cut cuts the connection, and returns the events that came before, and answers.
func (p *page) cut() []string {
	p.stop()
	<-p.done
	return p.now()
}

// now returns what has come so far, and not been looked at, without waiting for more.
func (p *page) now() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := slices.DeleteFunc(p.got, func(e string) bool {
		return strings.HasPrefix(e, `["updateUserList",`) || e == "end"
	})
	p.got = nil
	return got
}

// A talk is what happens in a room while a page is there, or not: sixty events, of each kind.
type talk struct {
	t    *testing.T
	room *chat.Room
	host *chat.Session
	cid  *chat.Session // nil: not in
	said int
}

func newTalk(s *site) *talk {
	s.t.Helper()
	host, err := s.room.Login(context.Background(), "host", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &talk{t: s.t, room: s.room, host: host}
}

const talkLength = 60

// next lets one more event happen.
func (k *talk) next() {
	k.t.Helper()
	var err error
	switch k.said++; {
	case k.said%5 != 0:
		_, err = k.room.Send(context.Background(), k.host, fmt.Sprint("word ", k.said), nil)
	case k.cid == nil:
		k.cid, err = k.room.Login(context.Background(), "cid", nil)
	default:
		err = k.room.Logout(context.Background(), k.cid)
		k.cid = nil
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// Whenever the connection is cut, the page that comes back has heard exactly what one has heard that never went: nothing
// missing, nothing twice. It is the same user, and nobody sees that it was away.
func TestRecoveryAtEveryIndex(t *testing.T) {
	for k := range talkLength + 1 {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, looksOn string) {
				bubble(t, func(s *site) {
					talk := newTalk(s)
					stays := s.page("stays", looksOn)
					goes := s.member("goes", acts)
					if got := stays.events(); len(got) != 1 {
						s.t.Fatalf("a login: %v", got)
					}
					heard := goes.events()
					for range k {
						talk.next()
					}
					heard = append(heard, goes.events()...)
					heard = append(heard, goes.cut()...)
					for range (talkLength - k) / 2 {
						talk.next()
					}
					time.Sleep(time.Minute)
					again := goes.back([]string{acts, looksOn}[k%2], s.dial)
					if again.pid != goes.pid || again.socket != goes.socket {
						s.t.Errorf("not recovered: was %s, %s; is %s, %s", goes.pid, goes.socket, again.pid, again.socket)
					}
					for talk.said < talkLength {
						talk.next()
					}
					again.emit(`["message",{"message":"still here"}]`)
					heard = append(heard, again.events()...)
					want := stays.events()
					if len(want) != talkLength+1 || want[talkLength] != `["recevied","goes","still here"]` {
						s.t.Errorf("the page that stays received %d events, the last %s", len(want), want[len(want)-1])
					}
					if diff := cmp.Diff(want, heard); diff != "" {
						s.t.Errorf("the page that came back against the one that stayed:\n%s", diff)
					}
				})
			})
		})
	}
}

// Who comes back gets the list of users anew, also where nothing was missed.
func TestRecoveryBringsTheList(t *testing.T) {
	onEach(t, func(t *testing.T, acts, _ string) {
		bubble(t, func(s *site) {
			a := s.member("a", acts)
			a.cut()
			a.back(acts, s.dial).want("a member", `["updateUserList",[{"username":"a"}]]`)
			b := s.page("b", acts)
			b.cut()
			b.back(acts, s.dial).want("a spectator", `["updateUserList",[{"username":"a"}]]`)
		})
	})
}

// What users complain of in the official server's recovery.
func TestRecoveryComplaints(t *testing.T) {
	for _, test := range []struct {
		why string
		run func(s *site, acts, looksOn string)
	}{
		{"it works before an event was received", func(s *site, acts, looksOn string) {
			p := newPage(s.t, "p", acts, s.dial)
			p.cut()
			synctest.Wait()
			if p.offset != "" {
				s.t.Fatalf("it has received %s", p.offset)
			}
			host := s.member("host", looksOn)
			host.emit(`["message",{"message":"hi"}]`)
			p = p.back(acts, s.dial)
			if diff := cmp.Diff([]string{`["notify","host"]`, `["recevied","host","hi"]`}, p.events()); diff != "" {
				s.t.Errorf("missed (-want +got):\n%s", diff)
			}
		}},
		{"it works again and again, by the same pid", func(s *site, acts, looksOn string) {
			host, p := s.member("host", looksOn), s.member("p", acts)
			p.events()
			for n := range 10 {
				p.cut()
				host.emit(fmt.Sprintf(`["message",{"message":"%d"}]`, n))
				again := p.back([]string{acts, looksOn}[n%2], s.dial)
				if again.pid != p.pid {
					s.t.Fatalf("time %d: pid %s, was %s", n, again.pid, p.pid)
				}
				p = again
				if diff := cmp.Diff([]string{fmt.Sprintf(`["recevied","host","%d"]`, n)}, p.events()); diff != "" {
					s.t.Errorf("time %d: missed (-want +got):\n%s", n, diff)
				}
			}
			p.emit(`["message",{"message":"I was never away"}]`)
			host.take()
			p.want("speaks", `["recevied","p","I was never away"]`)
		}},
		{"retries do not repeat a message", func(s *site, acts, looksOn string) {
			host, p := s.member("host", looksOn), s.member("p", acts)
			host.events()
			p.events()
			for n := range 3 {
				p.ask(fmt.Sprintf(`["message",{"message":"%d","id":"m%d"}]`, n, n))
				settle()
				p.stop() // the answer may have come or not: the page sends again
				p = p.back(acts, s.dial)
				p.ask(fmt.Sprintf(`["message",{"message":"%d","id":"m%d"}]`, n, n))
				settle()
			}
			want := []string{`["recevied","p","0"]`, `["recevied","p","1"]`, `["recevied","p","2"]`}
			if diff := cmp.Diff(want, host.events()); diff != "" {
				s.t.Errorf("the other hears (-want +got):\n%s", diff)
			}
		}},
		{"nothing is kept for who is away", func(s *site, acts, _ string) {
			p := s.member("p", acts)
			p.cut()
			settle()
			if st := s.room.Stats(); st.Connections != 0 || st.Subscribers != 0 || st.Members != 1 {
				s.t.Errorf("while it is away: %+v, want a member and nothing else", st)
			}
		}},
	} {
		t.Run(test.why, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, looksOn string) {
				bubble(t, func(s *site) { test.run(s, acts, looksOn) })
			})
		})
	}
	t.Run("it survives a restart on the same log", func(t *testing.T) {
		onEach(t, func(t *testing.T, acts, looksOn string) {
			synctest.Test(t, func(t *testing.T) {
				store := chat.NewMemoryLog(nil)
				first := newSite(t, store)
				host, p := first.member("host", looksOn), first.member("p", acts)
				host.emit(`["message",{"message":"one"}]`)
				host.events()
				p.events()
				host.cut()
				p.cut()
				second := newSite(t, store) // and nobody asks the first any more
				host, p = host.back(looksOn, second.dial), p.back(acts, second.dial)
				host.emit(`["message",{"message":"two"}]`)
				for _, page := range []*page{host, p} {
					if diff := cmp.Diff([]string{`["recevied","host","two"]`}, page.events()); diff != "" {
						t.Errorf("%s (-want +got):\n%s", page.name, diff)
					}
				}
			})
		})
	})
}

// Who cannot go on where it was begins anew, and its script knows.
func TestNoRecovery(t *testing.T) {
	for _, test := range []struct {
		why   string
		flags string
		run   func(s *site, p *page) (again string) // p is a member and gone; who holds its name then
	}{
		{why: "its time is over", run: func(s *site, p *page) string {
			time.Sleep(2*time.Minute + 2*time.Second)
			return ""
		}},
		{why: "what it missed is not kept any more", flags: "-window=1000", run: func(s *site, p *page) string {
			talk := newTalk(s)
			for range talkLength {
				talk.next()
			}
			return "p" // by the old connection, until the linger is over
		}},
		{why: "it was kicked", run: func(s *site, p *page) string {
			if err := s.room.Kick(context.Background(), "p", ""); err != nil {
				s.t.Fatal(err)
			}
			return ""
		}},
		{why: "its offset is none of this room's", run: func(s *site, p *page) string {
			p.offset = "1-1"
			return "p"
		}},
		{why: "its offset is ahead of the room", run: func(s *site, p *page) string {
			p.offset += "000"
			return "p"
		}},
		{why: "its offset is no offset", run: func(s *site, p *page) string {
			p.offset = "yesterday"
			return "p"
		}},
		{why: "its offset is the zero position", run: func(s *site, p *page) string {
			p.offset = "0-0"
			return "p"
		}},
		{why: "its pid is one of the zero position", run: func(s *site, p *page) string {
			p.pid, p.offset = p.pid[:strings.Index(p.pid, ".")]+".0-0", ""
			return "p"
		}},
		{why: "its pid is cut off", run: func(s *site, p *page) string {
			p.pid = p.pid[3:]
			return "p"
		}},
	} {
		t.Run(test.why, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, _ string) {
				bubble(t, func(s *site) {
					p := s.member("p", acts)
					p.take()
					p.cut()
					settle()
					holder := test.run(s, p)
					again := p.back(acts, s.dial)
					if again.pid == p.pid || again.socket == p.socket {
						s.t.Errorf("recovered: %s, %s", again.pid, again.socket)
					}
					if got := again.events(); len(got) != 0 {
						s.t.Errorf("a new page received %v", got)
					}
					if named := slices.ContainsFunc(s.room.Members(), func(u chat.User) bool { return u.Name == "p" }); named != (holder != "") {
						s.t.Errorf("in the room: %v", s.room.Members())
					}
					again.emit(`["message",{"message":"hi"}]`)
					again.want("it is not logged in", `["loginOut"]`)
				}, strings.Fields(test.flags)...)
			})
		})
	}
}

// A pid is of use to nobody who made it up, and what others see of a user is not enough to make one.
func TestTicket(t *testing.T) {
	at := chat.Position{Epoch: 7, Seq: 9}
	a, b := newTicket(at), newTicket(at)
	got, ok := parseTicket(a.pid())
	if !ok || got != a {
		t.Errorf("%s is read as %v, %v", a.pid(), got, ok)
	}
	seen := map[string]bool{a.secret: true}
	for _, name := range []string{a.pid(), a.sid(), a.token(), a.userID(), b.pid(), b.sid(), b.token(), b.userID()} {
		if seen[name] || len(name) < 26 {
			t.Errorf("%q: short, or there twice", name)
		}
		seen[name] = true
	}
	if a.token() != got.token() || a.sid() != got.sid() || a.userID() != got.userID() {
		t.Error("what follows from a ticket is not always the same")
	}
	for _, pid := range []string{"", ".", a.secret, a.secret + ".", a.secret + ".x", "." + a.pid(), a.pid()[1:], a.pid() + "x", a.secret + ".0-0"} {
		if _, ok := parseTicket(pid); ok {
			t.Errorf("%q is a ticket", pid)
		}
	}
}

// underRace reports whether the race detector runs, which makes everything some ten times slower.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// Pages that are cut off at random while they talk lose nothing, hear nothing twice, and nobody sees them flap.
func TestRecoveryAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	pages, cuts := 20, 1000
	if underRace() {
		cuts = 200
	}
	bubble(t, func(s *site) {
		stays := s.page("stays", "websocket")
		type speaker struct {
			*page
			heard []string
			sent  int
			sure  bool // the last one sent has been answered
		}
		all := make([]*speaker, pages)
		for i := range all {
			all[i] = &speaker{page: s.member(fmt.Sprint("p", i), transports[i%2]), sure: true}
		}
		for _, p := range all {
			p.take()
		}
		stays.take()
		listen := func(p *speaker, events []string) {
			for _, e := range events {
				if strings.HasPrefix(e, "ack ") {
					p.sure = strings.Contains(e, `"ok":true`)
				} else {
					p.heard = append(p.heard, e)
				}
			}
		}
		say := func(p *speaker) {
			listen(p, p.now())
			if p.sure {
				p.sent++
				p.sure = false
			}
			p.ask(fmt.Sprintf(`["message",{"message":"%s says %d","id":"m%d"}]`, p.name, p.sent, p.sent))
		}
		for range cuts {
			p := all[random.IntN(pages)]
			for range random.IntN(3) {
				say(all[random.IntN(pages)])
			}
			switch random.IntN(4) {
			case 0:
				say(p) // and is cut before it could hear of it
			case 1:
				say(p)
				synctest.Wait()
			case 2:
				time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			}
			listen(p, p.cut())
			pid := p.pid
			p.page = p.back(transports[random.IntN(2)], s.dial)
			if p.pid != pid {
				s.t.Fatalf("seed %d: %s was not recovered", seed, p.name)
			}
		}
		for range 3 { // what has no answer is sent once more
			for _, p := range all {
				listen(p, p.events())
				if !p.sure {
					say(p)
				}
			}
		}
		settle()
		want := stays.events()
		seen := map[string]int{}
		for _, e := range want {
			seen[e]++
			if !strings.HasPrefix(e, `["recevied",`) {
				s.t.Errorf("seed %d: somebody flapped: %s", seed, e)
			}
		}
		sum := 0
		for _, p := range all {
			listen(p, p.events())
			if !p.sure {
				s.t.Errorf("seed %d: %s never heard of its message %d", seed, p.name, p.sent)
			}
			if diff := cmp.Diff(want, p.heard); diff != "" {
				s.t.Errorf("seed %d: %s against the page that stayed:\n%s", seed, p.name, diff)
			}
			for n := 1; n <= p.sent; n++ {
				if times := seen[fmt.Sprintf(`["recevied","%s","%s says %d"]`, p.name, p.name, n)]; times != 1 {
					s.t.Errorf("seed %d: message %d of %s is there %d times", seed, n, p.name, times)
				}
			}
			sum += p.sent
		}
		if len(want) != sum || sum < cuts/2 {
			s.t.Errorf("seed %d: %d messages heard, %d sent", seed, len(want), sum)
		}
	}, "-rate=0")
}
