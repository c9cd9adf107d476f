package chat_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// What a request is answered that does not become a connection: a status, what a client may go by, and JSON.
func TestWebSocketRefusals(t *testing.T) {
	upgrade := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}
	type answer struct {
		Status            int
		Header, RetryTime string
		Body              string
	}
	for _, tt := range []struct {
		why     string
		room    *chat.RoomOptions
		opts    *chat.WebSocketOptions
		before  func(s *wsServer)
		headers []string
		header  string // the name of one more header that counts
		want    answer
	}{
		{why: "opened as a page", headers: []string{"Accept: text/html"}, header: "Upgrade",
			want: answer{426, "websocket", "", `{"reply":"error","code":"request","message":"malformed request: this is a WebSocket"}`}},
		{why: "another protocol to upgrade to", headers: []string{"Upgrade: h2c", "Connection: Upgrade"}, header: "Upgrade",
			want: answer{426, "websocket", "", `{"reply":"error","code":"request","message":"malformed request: this is a WebSocket"}`}},
		{why: "no subprotocol", headers: upgrade,
			want: answer{400, "", "", `{"reply":"error","code":"request","message":"malformed request: the subprotocol chat.v1 is not offered"}`}},
		{why: "others, and one that only looks like it", headers: append([]string{"Sec-WebSocket-Protocol: chat, chat.v10", "Sec-WebSocket-Protocol: v1"}, upgrade...),
			want: answer{400, "", "", `{"reply":"error","code":"request","message":"malformed request: the subprotocol chat.v1 is not offered"}`}},
		{why: "a page from elsewhere", headers: append([]string{"Sec-WebSocket-Protocol: chat.v1", "Origin: https://evil.test"}, upgrade...),
			want: answer{403, "", "", `{"reply":"error","code":"request","message":"malformed request: pages of this origin may not connect"}`}},
		{why: "one connection too many of a source", room: &chat.RoomOptions{MaxPerSource: 1}, before: func(s *wsServer) { s.dial() },
			headers: append([]string{"Sec-WebSocket-Protocol: chat.v1"}, upgrade...),
			want:    answer{429, "", "10", `{"reply":"error","code":"source","message":"too many connections from one source (limit 1)","max":1,"retry_after_ms":10000}`}},
		{why: "one too many that is not logged in", room: &chat.RoomOptions{MaxAnonymous: 1}, before: func(s *wsServer) { s.dial() },
			headers: append([]string{"Sec-WebSocket-Protocol: chat.v1"}, upgrade...),
			want:    answer{429, "", "10", `{"reply":"error","code":"anonymous","message":"too many connections that are not logged in (limit 1)","max":1,"retry_after_ms":10000}`}},
		{why: "the room has ended", before: func(s *wsServer) { s.room.Close() },
			headers: append([]string{"Sec-WebSocket-Protocol: chat.v1"}, upgrade...),
			want:    answer{503, "", "", `{"reply":"error","code":"closed","message":"closed"}`}},
		{why: "the program says no", opts: &chat.WebSocketOptions{Accept: func(w http.ResponseWriter, r *http.Request, _ *chat.ServeOptions) bool {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return false
		}}, headers: append([]string{"Sec-WebSocket-Protocol: chat.v1"}, upgrade...), header: "WWW-Authenticate",
			want: answer{401, "Bearer", "", "who are you?"}},
		{why: "a version that RFC 6455 is not", headers: []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 8",
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: chat.v1"}, header: "Sec-WebSocket-Version",
			want: answer{400, "13", "", `unsupported WebSocket protocol version (only 13 is supported): "8"`}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, tt.room, tt.opts, nil)
			if tt.before != nil {
				tt.before(s)
			}
			synctest.Wait()
			resp := s.stranger().ask("GET", append(tt.headers, "Connection: close")...)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("%s: %v", tt.why, err)
			}
			got := answer{resp.StatusCode, resp.Header.Get(tt.header), resp.Header.Get("Retry-After"), strings.TrimSpace(string(body))}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", tt.why, d)
			}
			synctest.Wait()
			if tt.before == nil {
				if n := s.room.Stats().Connections; n != 0 {
					t.Errorf("%s: %d connections", tt.why, n)
				}
			}
		})
	}
}

// A source's place is free again when its connection is closed, and one that is refused takes none.
func TestWebSocketSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, &chat.RoomOptions{MaxPerSource: 2}, &chat.WebSocketOptions{
			Source: func(r *http.Request) string { return r.Header.Get("X-Client") },
		}, nil)
		a := s.dial("X-Client: a")
		s.dial("X-Client: a")
		s.dial("X-Client: b")
		for range 3 {
			s.dial() // no source, no limit
			if _, resp, err := s.tryDial("X-Client: a"); err == nil || resp.StatusCode != http.StatusTooManyRequests {
				t.Errorf("a third of one source: %v", err)
			}
		}
		a.drop()
		s.dial("X-Client: a")
		if _, _, err := s.tryDial("X-Client: a"); err == nil {
			t.Error("a third again")
		}
	})
}

// Who is counted where the program doesn't say.
func TestWebSocketDefaultSource(t *testing.T) {
	for _, tt := range []struct{ why, remote, want string }{
		{"the host without the port", "192.0.2.7:4711", "192.0.2.7"},
		{"an IPv4 address in IPv6 clothes is the same client", "[::ffff:192.0.2.7]:4711", "192.0.2.7"},
		{"the network of a customer, who has as many addresses as he likes in it", "[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"},
		{"another address of the same", "[2001:db8:1:2::1]:4712", "2001:db8:1:2::/64"},
		{"the interface doesn't matter", "[fe80::1%eth0]:4711", "fe80::/64"},
		{"a listener that is not of IP", "@", "@"},
	} {
		room := newRoom(t, nil)
		var got string
		h := chat.NewWebSocketHandler(room, &chat.WebSocketOptions{Accept: func(_ http.ResponseWriter, _ *http.Request, o *chat.ServeOptions) bool {
			got = o.Source
			return false
		}})
		r, err := http.NewRequest("GET", "http://chat.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Protocol", "chat.v1")
		r.RemoteAddr = tt.remote
		h.ServeHTTP(nil, r)
		if got != tt.want {
			t.Errorf("%s: %s is counted as %q, want %q", tt.why, tt.remote, got, tt.want)
		}
	}
}

func TestWebSocketOrigins(t *testing.T) {
	for _, tt := range []struct {
		why     string
		allowed []string
		origin  string
		want    bool
	}{
		{"no page at all", nil, "", true},
		{"a page of the same host", nil, "https://chat.test", true},
		{"behind a proxy that ends TLS the scheme differs", nil, "http://CHAT.test", true},
		{"another port is another origin", nil, "http://chat.test:8080", false},
		{"another host", nil, "https://evil.test", false},
		{"a host that ends like ours", nil, "https://evilchat.test", false},
		{"a sandboxed page, or a file", nil, "null", false},
		{"one that is allowed", []string{"www.test"}, "https://www.test", true},
		{"and not another", []string{"www.test"}, "https://www.test.evil.test", false},
		{"any port", []string{"localhost:*"}, "http://localhost:5173", true},
		{"a scheme too", []string{"https://*.test"}, "http://www.test", false},
		{"all", []string{"*"}, "https://evil.test:1", true},
		{"all, files included", []string{"*"}, "null", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, nil, &chat.WebSocketOptions{AllowedOrigins: tt.allowed}, nil)
			var headers []string
			if tt.origin != "" {
				headers = []string{"Origin: " + tt.origin}
			}
			_, resp, err := s.tryDial(headers...)
			if ok := err == nil; ok != tt.want {
				t.Errorf("%s: origin %q: %v", tt.why, tt.origin, err)
			} else if !ok && resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s", tt.why, resp.Status)
			}
		})
	}
}

// Accept sees the request and decides on what the connection is served with.
func TestWebSocketAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, &chat.WebSocketOptions{
			Serve: chat.ServeOptions{UserID: "nobody"},
			Accept: func(_ http.ResponseWriter, r *http.Request, o *chat.ServeOptions) bool {
				if o.UserID != "nobody" || o.Source != "pipe" {
					t.Errorf("Accept got %+v", *o)
				}
				o.UserID, o.Spectators = r.Header.Get("X-Account"), r.Header.Get("X-Account") == "7"
				return true
			},
		}, nil)
		seven, eight := s.dial("X-Account: 7"), s.dial("X-Account: 8")
		seven.send(`{"op":"subscribe"}`)
		seven.want(`{"reply":"subscribe","start":{"at":"e-0","resumed":false,"roster":[]}}`)
		eight.send(`{"op":"subscribe"}`)
		eight.want(`{"reply":"error","code":"not_logged_in","message":"not logged in"}`)
		eight.login("Ann")
		if d := cmp.Diff([]chat.User{{Name: "Ann", ID: "8"}}, s.room.Members()); d != "" {
			t.Errorf("members (-want +got):\n%s", d)
		}
	})
}

// Promise 14, over WebSocket: what can't be a request is refused or ends its connection as RFC 6455 says.
func TestBadFramesWebSocket(t *testing.T) {
	for _, tt := range []struct {
		why     string
		first   byte
		payload string
		want    string
	}{
		{"binary", 0x82, `{"op":"logout"}`, "1003 binary frames are not taken"},
		{"text that is not UTF-8", 0x81, "{\"op\":\"\xff\"}", "1007 text is not utf-8"},
		{"half a surrogate pair, encoded", 0x81, "{\"op\":\"\xed\xa0\x80\"}", "1007 text is not utf-8"},
		{"too long", 0x81, `{"op":"` + strings.Repeat("x", 60_000) + strings.Repeat(" ", 6_000) + `"}`, "1009 message too big"},
		{"a reserved opcode", 0x83, "", "1002"},
		{"a continuation of nothing", 0x80, "", "1002"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, nil, nil, nil)
			ann := s.dial()
			ann.login("Ann")
			p := s.raw()
			told := make(chan string)
			go func() { told <- p.closed() }()
			p.send(tt.first, tt.payload)
			if got := <-told; got != tt.want && (tt.want != "1002" || !strings.HasPrefix(got, "1002 ")) {
				t.Errorf("%s: told %q, want %q", tt.why, got, tt.want)
			}
			ann.quiet()
			time.Sleep(3 * time.Second)
			if n := s.room.Stats().Connections; n != 1 {
				t.Errorf("%s: %d connections, want Ann's", tt.why, n)
			}
		})
	}
}

func TestWebSocketMaxMessage(t *testing.T) {
	for _, tt := range []struct {
		why     string
		maxText int
		max     int
		bytes   int // of a text, each escaped to 6
		want    string
	}{
		{"as long as a text may be, all of it escaped", 0, 0, 4096, `{"reply":"send"`},
		{"and where the room takes longer ones", 50_000, 0, 50_000, `{"reply":"send"`},
		{"or any", -1, 0, 100_000, `{"reply":"send"`},
		{"a limit of the program's own", 0, 1000, 200, "close 1009 "},
		{"none", 0, -1, 20_000, `{"reply":"error","code":"text_too_long"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serveWS(t, &chat.RoomOptions{MaxText: tt.maxText}, &chat.WebSocketOptions{MaxMessage: tt.max}, nil)
			c := s.dial()
			c.login("Ann")
			c.send(`{"op":"send","text":"` + strings.Repeat(`\u0041`, tt.bytes) + `"}`)
			var got string
			if f, ok := <-c.frames; ok {
				got = f
			} else {
				got = c.ended()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s: %.200s, want %s", tt.why, got, tt.want)
			}
		})
	}
}

// Each reason to end a connection has its code. From 4500 on a client does not come back by itself.
func TestCloseCodesWebSocket(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		why    string
		end    func(t *testing.T, s *wsServer, l *breakableLog)
		code   int
		reason string
	}{
		{"shutdown", func(t *testing.T, s *wsServer, _ *breakableLog) {
			if err := s.room.Shutdown(ctx, &chat.ShutdownOptions{RetryAfter: 2500 * time.Millisecond}); err != nil {
				t.Error(err)
			}
		}, 4000, `{"code":"shutdown","retry_after_ms":2500}`},
		{"close", func(_ *testing.T, s *wsServer, _ *breakableLog) { s.room.Close() }, 4001, `{"code":"closed"}`},
		{"kick", func(t *testing.T, s *wsServer, _ *breakableLog) {
			if err := s.room.Kick(ctx, "ann", ""); err != nil {
				t.Error(err)
			}
		}, 4500, `{"code":"kicked"}`},
		{"kick, with words", func(t *testing.T, s *wsServer, _ *breakableLog) {
			if err := s.room.Kick(ctx, "ann", `no "spam"`); err != nil {
				t.Error(err)
			}
		}, 4500, `{"code":"kicked","note":"no \"spam\""}`},
		{"with more words than fit", func(t *testing.T, s *wsServer, _ *breakableLog) {
			if err := s.room.Kick(ctx, "ann", strings.Repeat("ä", 100)); err != nil {
				t.Error(err)
			}
		}, 4500, `{"code":"kicked","note":"` + strings.Repeat("ä", 48) + `"}`},
		{"the log ends", func(_ *testing.T, _ *wsServer, l *breakableLog) {
			l.apply(nil, chat.ErrTrimmed)
		}, 4005, `{"code":"trimmed"}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &breakableLog{MemoryLog: chat.NewMemoryLog(nil)}
			s := serveWS(t, &chat.RoomOptions{Log: l}, nil, nil)
			c := s.dial()
			c.login("Ann")
			tt.end(t, s, l)
			c.wantClose(tt.code, tt.reason)
		})
	}

	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, nil)
		c := s.dial()
		start := time.Now()
		c.wantClose(4501, `{"code":"login_timeout"}`)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("without a login for %v", d)
		}
		c = s.dial()
		time.Sleep(50 * time.Second)
		c.login("Ann")
		time.Sleep(time.Hour)
		c.send(`{"op":"logout"}`)
		start = time.Now()
		c.wantClose(4501, `{"code":"login_timeout"}`)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after the logout for %v", d)
		}
	})
}

// A breakableLog ends, for its followers, when it is told to, and may take its time.
type breakableLog struct {
	*chat.MemoryLog
	apply func([]chat.Record, error)
	hold  chan struct{} // if not nil, Append of what has no key waits for its end, or ctx's
}

func (l *breakableLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	l.apply = apply
	return l.MemoryLog.Follow(after, apply)
}

func (l *breakableLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	if l.hold != nil && e.Key == "" {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return chat.Record{}, errors.Join(chat.ErrUnknown, ctx.Err())
		}
	}
	return l.MemoryLog.Append(ctx, e)
}

// A connection lives on where a middleware's timeout ends the request's context, and the server has timeouts.
func TestWebSocketOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveWS(t, nil, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), time.Second)
				defer cancel()
				h.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		c := s.dial()
		c.login("Ann")
		time.Sleep(time.Hour)
		c.send(`{"op":"send","id":"1","text":"still here"}`)
		c.want(`{"reply":"send","id":"1","pos":"e-2"}`)
	})
}

// Close waits until each connection is closed, though Serve has returned: a program that ends with its room cuts off
// nobody who is being told.
func TestCloseWaitsForWebSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &breakableLog{MemoryLog: chat.NewMemoryLog(nil), hold: make(chan struct{})}
		s := serveWS(t, &chat.RoomOptions{Log: l}, nil, nil)
		p := s.raw()
		p.send(0x81, `{"op":"login","name":"Ann"}`)
		p.send(0x81, `{"op":"send","text":"held by the log"}`) // so nobody is within Receive
		told := make(chan string, 1)
		go func() {
			got := p.closed() // and not answered
			if _, _, err := p.next(); err != io.EOF {
				got += ", then " + err.Error()
			}
			told <- got
		}()
		synctest.Wait()
		start := time.Now()
		s.room.Close()
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("Close took %v", d)
		}
		synctest.Wait()
		select {
		case got := <-told:
			if got != `4001 {"code":"closed"}` {
				t.Errorf("told %s", got)
			}
		default:
			t.Error("the connection is open after Close")
		}
		if m := s.room.Members(); len(m) != 0 {
			t.Errorf("still in: %v", m)
		}
	})
}

// A panickingWriter is a middleware's, that fails when the connection is taken over.
type panickingWriter struct{ http.ResponseWriter }

func (panickingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic(http.ErrAbortHandler) }

// What panics below the handler is the server's to recover: the source is not counted any more, and Close doesn't wait.
func TestWebSocketHandshakePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		s := serveWS(t, &chat.RoomOptions{MaxPerSource: 1}, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if broken {
					w = panickingWriter{w}
				}
				h.ServeHTTP(w, r)
			})
		})
		if _, _, err := s.tryDial(); err == nil {
			t.Error("a connection that was not taken over")
		}
		broken = false
		s.dial().login("Ann")
		s.room.Close()
	})
}
