package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
	"example.com/chat/socketio"
	"github.com/google/go-cmp/cmp"
	"nhooyr.io/websocket"
)

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

// A site is a whole server under test, in virtual time.
type site struct {
	t    *testing.T
	room *chat.Room
	dial dialFunc
	end  func() // Ctrl-C; waits until the server has ended
}

// bubble runs f against a server with these flags, in virtual time.
func bubble(t *testing.T, f func(s *site), flags ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newSite(t, nil, flags...)) })
}

// newSite starts a server on a log, or one of its own if that is nil.
func newSite(t *testing.T, store chat.Log, flags ...string) *site {
	t.Helper()
	c, err := parse(flags, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c.store = store
	s, err := newServer(c, "80", slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ln := newPipeListener()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, ln); close(ended) }()
	end := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(end)
	return &site{t: t, room: s.room, dial: ln.dial, end: end}
}

// page connects a page that has its list of users already.
func (s *site) page(name, transport string) *page {
	s.t.Helper()
	p := newPage(s.t, name, transport, s.dial)
	if got := p.take(); len(got) != 1 || !strings.HasPrefix(got[0], `["updateUserList",`) {
		s.t.Fatalf("%s received %v on connecting, not its list of users", name, got)
	}
	return p
}

// member connects a page and logs it in.
func (s *site) member(name, transport string) *page {
	s.t.Helper()
	p := s.page(name, transport)
	p.login(name)
	return p
}

// onEach runs a test with the page that acts on each transport, and the one that looks on on the other.
func onEach(t *testing.T, f func(t *testing.T, acts, looksOn string)) {
	for i, transport := range transports {
		t.Run(transport, func(t *testing.T) { f(t, transport, transports[1-i]) })
	}
}

func TestEventsOfThePage(t *testing.T) {
	for _, test := range []struct {
		name, why string
		run       func(s *site, acts, looksOn string)
	}{
		{"login", "loginSuccess is for the page alone and comes first; all are told who came and who is there",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.page("b", looksOn)
				a.emit(`["login","张三"]`)
				a.want("logs in", `["loginSuccess"]`, `["notify","张三"]`, `["updateUserList",[{"username":"张三"}]]`)
				b.want("looks on", `["notify","张三"]`, `["updateUserList",[{"username":"张三"}]]`)
			}},
		{"message", "all receive it, the sender and those who are not logged in too",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				a.emit(`["message",{"username":"a","message":"你好"}]`)
				a.want("sends", `["recevied","a","你好"]`)
				b.want("looks on", `["recevied","a","你好"]`)
			}},
		{"loginOut", "all are told who went and who is left; the page itself stays, and may log in again",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.member("b", looksOn)
				a.want("b came", `["notify","b"]`, `["updateUserList",[{"username":"a"},{"username":"b"}]]`)
				a.emit(`["loginOut"]`)
				a.want("logs out", `["loginOut","a"]`, `["updateUserList",[{"username":"b"}]]`)
				b.want("looks on", `["loginOut","a"]`, `["updateUserList",[{"username":"b"}]]`)
				b.emit(`["message",{"message":"still here?"}]`)
				a.want("a spectator now", `["recevied","b","still here?"]`)
				a.emit(`["login","c"]`)
				a.want("logs in again", `["loginSuccess"]`, `["notify","c"]`, `["updateUserList",[{"username":"b"},{"username":"c"}]]`)
			}},
		{"a list for each run", "events that are due together bring one list, and the order of events is kept",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.page("b", looksOn)
				a.send(`42["login","a"]`, `42["message",{"message":"hi"}]`, `42["loginOut"]`)
				var events, lists []string
				for _, e := range b.take() {
					if strings.HasPrefix(e, `["updateUserList"`) {
						lists = append(lists, e)
					} else {
						events = append(events, e)
					}
				}
				if got, want := strings.Join(events, " "), `["notify","a"] ["recevied","a","hi"] ["loginOut","a"]`; got != want {
					s.t.Errorf("events %s, want %s", got, want)
				}
				if n := len(lists); n == 0 || n > 2 || lists[n-1] != `["updateUserList",[]]` {
					s.t.Errorf("lists %v, want at most one for each change, and the last empty", lists)
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, looksOn string) {
				t.Log(test.why)
				bubble(t, func(s *site) { test.run(s, acts, looksOn) })
			})
		})
	}
}

// What the server that this page was first written for got wrong. None of it is left.
func TestBugsOfTheOriginal(t *testing.T) {
	const bound = (25 + 20 + 120) * time.Second // for a heartbeat, for its answer, and the linger
	for _, bug := range []struct {
		name, why string
		run       func(s *site, acts, looksOn string)
	}{
		{"closed tabs stay for ever", "a tab that closes says so, as a DISCONNECT, and its user leaves at once",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				a.send("41")
				b.want("looks on", `["loginOut","a"]`, `["updateUserList",[]]`)
			}},
		{"closed tabs stay for ever, of another's page", "a browser closes the WebSocket of a closed tab with 1001, whatever its script does",
			func(s *site, _, looksOn string) {
				a, b := s.member("a", "websocket"), s.page("b", looksOn)
				if err := a.ws.Close(websocket.StatusGoingAway, ""); err != nil {
					s.t.Log("close:", err) // the server may cut before it has answered
				}
				b.want("looks on", `["loginOut","a"]`, `["updateUserList",[]]`)
			}},
		{"the vanished stay for ever", "who does not answer the heartbeat is gone within its bound",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				a.mu.Lock()
				a.mute = true
				a.mu.Unlock()
				time.Sleep(bound)
				b.want("looks on", `["loginOut","a"]`, `["updateUserList",[]]`)
			}},
		{"the vanished stay for ever, cable pulled", "who does not even poll any more is gone within the bound as well",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				a.stop()
				time.Sleep(bound)
				b.want("looks on", `["loginOut","a"]`, `["updateUserList",[]]`)
			}},
		{"the same name twice", "the second is refused, however it is spelt, and its holder sees nothing of it",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.member("Alice", looksOn)
				a.want("Alice came", `["notify","Alice"]`, `["updateUserList",[{"username":"Alice"}]]`)
				for _, name := range []string{"Alice", "alice", " Alice ", "Ａｌｉｃｅ"} {
					a.emit(`["login","` + name + `"]`)
					a.want("asks for "+name, `["loginOut"]`)
				}
				b.want("holds the name")
			}},
		{"leaving removes both of a name", "who was refused a name has none to leave with",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.member("Alice", looksOn)
				a.want("Alice came", `["notify","Alice"]`, `["updateUserList",[{"username":"Alice"}]]`)
				a.emit(`["login","Alice"]`)
				a.emit(`["loginOut"]`)
				a.want("asks, and leaves", `["loginOut"]`, `["loginOut"]`)
				b.want("holds the name")
				b.emit(`["message",{"message":"I am here"}]`)
				b.want("is a member", `["recevied","Alice","I am here"]`)
			}},
		{"any name on a message", "the author is who is logged in, whatever the message says",
			func(s *site, acts, looksOn string) {
				a, b := s.member("mallory", acts), s.page("b", looksOn)
				for _, m := range []string{
					`{"username":"alice","message":"hi"}`, `{"username":7,"message":"hi"}`, `{"message":"hi"}`,
					`{"Message":"ho","message":"hi","MESSAGE":"ho"}`,
				} {
					a.emit(`["message",` + m + `]`)
					b.want(m, `["recevied","mallory","hi"]`)
				}
			}},
		{"messages before login", "refused, told to that page alone",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.page("b", looksOn)
				a.emit(`["message",{"username":"a","message":"hi"}]`)
				a.want("is not logged in", `["loginOut"]`)
				b.want("looks on")
			}},
		{"leaving without having joined", "refused, told to that page alone, and no undefined leaves",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.page("b", looksOn)
				a.emit(`["loginOut"]`)
				a.want("is not logged in", `["loginOut"]`)
				b.want("looks on")
			}},
		{"a second login leaves a ghost", "refused; the first name stays, and its logout leaves nobody behind",
			func(s *site, acts, looksOn string) {
				a, b := s.member("first", acts), s.page("b", looksOn)
				a.emit(`["login","second"]`)
				a.want("asks again", `["loginOut"]`)
				b.want("looks on")
				a.emit(`["loginOut"]`)
				b.want("looks on", `["loginOut","first"]`, `["updateUserList",[]]`)
			}},
		{"names that are no strings", "refused, told to that page alone",
			func(s *site, acts, looksOn string) {
				a, b := s.page("a", acts), s.page("b", looksOn)
				for _, args := range []string{
					``, `,null`, `,7`, `,true`, `,{}`, `,{"username":"a"}`, `,["a"]`, `,""`, `," "`, `,"\u200b"`, `,null,"a"`,
				} {
					a.emit(`["login"` + args + `]`)
					a.want("login with "+args, `["loginOut"]`)
					time.Sleep(time.Second)
				}
				b.want("looks on")
			}},
		{"a message without an argument kills the process", "refused; the page and everybody else go on",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				for _, args := range []string{
					``, `,null`, `,7`, `,"hi"`, `,[]`, `,["hi"]`, `,{}`, `,{"message":null}`, `,{"message":7}`, `,{"message":{}}`,
				} {
					a.emit(`["message"` + args + `]`)
					a.want("message with " + args)
				}
				b.want("looks on")
				a.emit(`["message",{"message":"alive"}]`)
				b.want("looks on", `["recevied","a","alive"]`)
			}},
		{"empty messages are sent", "refused, as the page has said already",
			func(s *site, acts, looksOn string) {
				a, b := s.member("a", acts), s.page("b", looksOn)
				a.emit(`["message",{"message":""}]`)
				a.want("sends nothing")
				b.want("looks on")
			}},
		{"a newcomer sees no list", "the first thing that a page is told is who is there",
			func(s *site, acts, looksOn string) {
				newPage(s.t, "empty", acts, s.dial).want("nobody is there", `["updateUserList",[]]`)
				s.member("a", looksOn)
				newPage(s.t, "b", acts, s.dial).want("a is there", `["updateUserList",[{"username":"a"}]]`)
			}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, looksOn string) {
				t.Log(bug.why)
				bubble(t, func(s *site) { bug.run(s, acts, looksOn) })
			})
		})
	}
}

// The last of the original's bugs: markup ran in everybody's page. Our own page writes with textContent; for one that
// uses innerHTML the server escapes.
func TestMarkup(t *testing.T) {
	const markup = `<img src=x onerror=\"alert('&')\">`
	for _, test := range []struct {
		name, why string
		flags     []string
		text      string
		login     string // what a page with the markup for a name receives
	}{
		{"plain", "our own page shows texts as they are, and names may hold what they like",
			nil, markup, `["loginSuccess"]`},
		{"escaped", "a page of innerHTML shows the text too, and runs nothing",
			[]string{"-escape"}, `&lt;img src=x onerror=&#34;alert(&#39;&amp;&#39;)&#34;&gt;`, `["loginOut"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, looksOn string) {
				t.Log(test.why)
				bubble(t, func(s *site) {
					a, b := s.member("a", acts), s.page("b", looksOn)
					a.emit(`["message",{"message":"` + markup + `"}]`)
					a.want("sends", `["recevied","a","`+test.text+`"]`)
					b.want("looks on", `["recevied","a","`+test.text+`"]`)
					b.emit(`["login","` + markup + `"]`)
					if got := b.take(); len(got) == 0 || got[0] != test.login {
						s.t.Errorf("login with markup: %v, want %v first", got, test.login)
					}
				}, test.flags...)
			})
		})
	}
}

func TestHarmless(t *testing.T) {
	for _, test := range []struct{ name, shown, why string }{
		{"a", "a", "what means nothing in HTML passes"},
		{"O’Neil；张三", "O’Neil;张三", "a typographic apostrophe is not one of HTML's"},
		{"a<b", "", "begins a tag"},
		{"a>b", "", "ends a tag"},
		{"a&b", "", "begins a reference"},
		{`a"b`, "", "ends an attribute"},
		{"a'b", "", "ends an attribute"},
		{"＜b＞", "", "is shown as <b>"},
		{"ａ＆ｂ", "", "is shown as a&b"},
		{" ", "", "Nickname refuses it"},
	} {
		shown, _, err := harmless(test.name)
		if shown != test.shown || (err != nil) != (test.shown == "") {
			t.Errorf("%q: %q, %v, want %q: %s", test.name, shown, err, test.shown, test.why)
		}
	}
}

func TestAcknowledgements(t *testing.T) {
	for _, test := range []struct {
		why, flags, emit string
		member           bool
		want             []string
	}{
		{why: "accepted: its place in the order, told before it comes", member: true, emit: `["message",{"message":"hi"}]`,
			want: []string{`ack 1 [{"ok":true,"pos":"E-2"}]`, `["recevied","a","hi"]`}},
		{why: "a login's name as the others see it", emit: `["login"," ａ "]`,
			want: []string{`["loginSuccess"]`, `ack 1 [{"ok":true,"pos":"E-1","username":"a"}]`, `["notify","a"]`, `["updateUserList",[{"username":"a"}]]`}},
		{why: "a logout", member: true, emit: `["loginOut"]`,
			want: []string{`ack 1 [{"ok":true,"pos":"E-2"}]`, `["loginOut","a"]`, `["updateUserList",[]]`}},
		{why: "refused, of a user: told in the answer alone", member: true, emit: `["message",{"message":" "}]`,
			want: []string{`ack 1 [{"error":"text","ok":false}]`}},
		{why: "malformed", member: true, emit: `["message"]`,
			want: []string{`ack 1 [{"error":"request","ok":false}]`}},
		{why: "unknown, as the original ignored it", member: true, emit: `["typing",{"a":1}]`,
			want: []string{`ack 1 [{"error":"request","ok":false}]`}},
		{why: "a limit tells its number", flags: "-max-text=3", member: true, emit: `["message",{"message":"four"}]`,
			want: []string{`ack 1 [{"error":"text_too_long","max":3,"ok":false}]`}},
		{why: "refused, not of a user: the page's own way, and the answer", emit: `["message",{"message":"hi"}]`,
			want: []string{`["loginOut"]`, `ack 1 [{"error":"not_logged_in","ok":false}]`}},
		{why: "a refused login", emit: `["login",""]`,
			want: []string{`["loginOut"]`, `ack 1 [{"error":"name","ok":false}]`}},
	} {
		t.Run(test.why, func(t *testing.T) {
			onEach(t, func(t *testing.T, acts, _ string) {
				bubble(t, func(s *site) {
					p := s.page("a", acts)
					if test.member {
						p.login("a")
					}
					p.ask(test.emit)
					p.want(test.why, test.want...)
				}, strings.Fields(test.flags)...)
			})
		})
	}
}

// Who asks too often is told so, and when to ask again.
func TestRate(t *testing.T) {
	onEach(t, func(t *testing.T, acts, looksOn string) {
		bubble(t, func(s *site) {
			a, b := s.member("a", acts), s.page("b", looksOn)
			time.Sleep(10 * time.Second) // the burst is two requests
			for range 3 {
				a.ask(`["message",{"message":"hi"}]`)
			}
			var acks []string
			for _, got := range a.take() {
				if strings.HasPrefix(got, "ack") {
					acks = append(acks, got)
				}
			}
			want := []string{`ack 1 [{"ok":true,"pos":"E-2"}]`, `ack 2 [{"ok":true,"pos":"E-3"}]`,
				`ack 3 [{"error":"rate","max":1,"ok":false,"retry_after_ms":1000}]`}
			if diff := cmp.Diff(want, acks); diff != "" {
				s.t.Errorf("answers (-want +got):\n%s", diff)
			}
			b.want("looks on", `["recevied","a","hi"]`, `["recevied","a","hi"]`)
		}, "-rate=1")
	})
}

// Nothing cuts a page that hears nothing for a long time: neither a timeout of the HTTP server nor the heartbeat.
func TestQuietPageStays(t *testing.T) {
	onEach(t, func(t *testing.T, acts, looksOn string) {
		bubble(t, func(s *site) {
			a, b := s.page("a", acts), s.member("b", looksOn)
			a.want("b came", `["notify","b"]`, `["updateUserList",[{"username":"b"}]]`)
			time.Sleep(3 * time.Hour)
			b.emit(`["message",{"message":"anybody?"}]`)
			a.want("looks on", `["recevied","b","anybody?"]`)
		})
	})
}

// On Ctrl-C every page is told: the connection ends at once, and in the way after which a page comes back by itself.
func TestEndTellsEverybody(t *testing.T) {
	onEach(t, func(t *testing.T, acts, looksOn string) {
		bubble(t, func(s *site) {
			a, b, c := s.member("a", acts), s.page("b", looksOn), newV1(s.t, s.dial)
			began := time.Now()
			s.end()
			if took := time.Since(began); took >= shutdownTimeout {
				s.t.Errorf("the end took %v", took)
			}
			a.want("is told", "end")
			b.want("is told", "end")
			c.want("is told", "end 4000")
		})
	})
}

// Whom the room ends for good is told to stay away; all others come back by themselves, so they are not.
func TestSentAway(t *testing.T) {
	onEach(t, func(t *testing.T, acts, looksOn string) {
		bubble(t, func(s *site) {
			a, b := s.member("a", acts), s.page("b", looksOn)
			if err := s.room.Kick(s.t.Context(), "a", "enough"); err != nil {
				s.t.Fatal(err)
			}
			if got := a.take(); len(got) < 2 || got[len(got)-2] != "disconnect" || got[len(got)-1] != "end" {
				s.t.Errorf("who was kicked received %v, want disconnect and end last", got)
			}
			b.want("looks on", `["loginOut","a"]`, `["updateUserList",[]]`)
			newPage(s.t, "c", acts, s.dial).want("there is room for it again", `["updateUserList",[]]`)
			newPage(s.t, "d", acts, s.dial).want("there is no room for a third", `refused {"message":"subscribers"}`)
			b.want("looks on")
		}, "-max-subscribers=2")
	})
}

// The room knows who said goodbye from who was lost.
func TestGoodbyeOrLoss(t *testing.T) {
	for _, test := range []struct {
		name, why, transport string
		leave                func(p *page)
		want                 string
	}{
		{"disconnect, polling", "a DISCONNECT is a goodbye", "polling", func(p *page) { p.send("41") }, "left a goodbye"},
		{"disconnect, websocket", "the same", "websocket", func(p *page) { p.send("41") }, "left a goodbye"},
		{"close 1001", "a browser says it for a tab that closes", "websocket",
			func(p *page) { _ = p.ws.Close(websocket.StatusGoingAway, "") }, "left a goodbye"}, // the answer may be cut
		{"cut, polling", "a poll that breaks says nothing", "polling", func(p *page) { p.stop() }, "left a lost"},
		{"cut, websocket", "nor does a connection", "websocket", func(p *page) { p.stop() }, "left a lost"},
		{"close of the session", "the official script sends it when it means to come back", "polling", func(p *page) { p.send("1") }, "left a lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(s *site) {
				p, c := s.member("a", test.transport), newV1(s.t, s.dial)
				c.send(`{"op":"subscribe","ref":"1"}`)
				c.want("hears the room", "reply subscribe 1")
				test.leave(p)
				time.Sleep((45 + 120) * time.Second)
				c.want(test.why, test.want)
			})
		})
	}
}

// What has been answered is forgotten: a page that asks for years keeps nothing.
func TestAnsweredIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, err := chat.NewRoom(nil)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan *transport, 1)
		sio := socketio.NewServer(nil)
		sio.Handle("/", func(socket *socketio.Socket) {
			v, err := arrive(context.Background(), room, "", "")
			if err != nil {
				t.Error(err)
				return
			}
			tr := newTransport(socket, plain, v, room.Members)
			served <- tr
			_ = tr.serve(room, chat.ServeOptions{Spectators: true}) // ends with the room
		})
		ln := newPipeListener()
		server := &http.Server{Handler: sio}
		go func() { _ = server.Serve(ln) }() // until Close
		t.Cleanup(func() {
			_, _, _ = room.Close(), sio.Close(), server.Close()
		})
		p := newPage(t, "a", "websocket", ln.dial)
		for _, event := range []string{`["message"]`, `["login","a"]`, `["message",{"message":"hi"}]`, `["login","b"]`, `["loginOut"]`, `["?"]`} {
			p.emit(event)
			p.ask(event)
		}
		settle()
		tr := <-served
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if len(tr.asked) > 0 {
			t.Errorf("%d requests are kept", len(tr.asked))
		}
	})
}

// Who takes nothing is ended as too slow, and delays nobody.
func TestSlow(t *testing.T) {
	bubble(t, func(s *site) {
		a, c := s.member("a", "websocket"), newV1(s.t, s.dial)
		c.send(`{"op":"subscribe","ref":"1"}`)
		c.want("hears the room", "reply subscribe 1")
		slow := newPage(s.t, "slow", "polling", s.dial)
		slow.emit(`["login","slow"]`)
		c.want("looks on", "joined slow")
		slow.hold()
		text := strings.Repeat("x", 4000)
		for range 300 { // 1.2 MB: more than waits for a poll, less than the room lets anybody be behind beyond that
			a.emit(`["message",{"message":"` + text + `"}]`)
			synctest.Wait() // who reads has read it
		}
		if n := len(a.take()); n < 300 {
			s.t.Errorf("the sender received %d events at once, want 300 and those of the login", n)
		}
		time.Sleep((10 + 120) * time.Second) // what a write may take, and the linger
		settle()
		c.mu.Lock()
		defer c.mu.Unlock()
		if last := c.got[len(c.got)-1]; len(c.got) != 301 || last != "left slow slow" {
			s.t.Errorf("the onlooker received %d events, the last %.80q, want 301 and that slow left for slowness", len(c.got), last)
		}
		c.got = nil
	}, "-rate=0")
}

// A page and a client of chat.v1 talk to each other.
func TestTwoProtocolsOneRoom(t *testing.T) {
	onEach(t, func(t *testing.T, acts, _ string) {
		bubble(t, func(s *site) {
			p := s.page("page", acts)
			c := newV1(s.t, s.dial)
			c.send(`{"op":"subscribe","ref":"1"}`)
			c.want("hears the room", "reply subscribe 1")

			c.send(`{"op":"login","ref":"2","name":"v1"}`)
			c.want("logs in", "reply login 2", "joined v1")
			p.want("looks on", `["notify","v1"]`, `["updateUserList",[{"username":"v1"}]]`)

			p.login("page")
			c.want("looks on", "joined page")

			p.emit(`["message",{"message":"<b>你好</b>"}]`)
			p.want("says", `["recevied","page","<b>你好</b>"]`)
			c.want("hears", "said page <b>你好</b>")

			c.send(`{"op":"send","ref":"3","text":"<i>hello</i>"}`)
			c.want("says", "reply send 3", "said v1 <i>hello</i>")
			p.want("hears", `["recevied","v1","<i>hello</i>"]`)

			c.send(`{"op":"logout","ref":"4"}`)
			c.want("leaves", "reply logout 4", "left v1 logout")
			p.want("looks on", `["loginOut","v1"]`, `["updateUserList",[{"username":"page"}]]`)
		})
	})
}
