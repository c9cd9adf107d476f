package socketio_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
	"nhooyr.io/websocket"
)

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

// inHTTP2 runs f in a world whose clients reach the server by HTTP/2 over TLS.
func inHTTP2(t *testing.T, o *socketio.Options, hs *http.Server, f func(w *world)) {
	t.Helper()
	some := httptest.NewUnstartedServer(nil) // for its certificate
	some.StartTLS()
	hs.TLSConfig = &tls.Config{Certificates: some.TLS.Certificates, NextProtos: []string{"h2"}}
	some.Close()
	inWith(t, o, hs, nil, func(w *world) {
		f(w)
		resp, err := w.web.Get(w.base)
		if err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 {
			w.Errorf("this was %s", resp.Proto)
		}
	})
}

// TestHTTP2 is polling, "HTTP long-polling" of Engine.IO protocol 4, over
// HTTP/2: the requests of all its sessions are streams of one connection.
func TestHTTP2(t *testing.T) {
	for _, tt := range []struct {
		clause string
		f      func(w *world)
	}{
		{"a poll hangs while posts go past it", func(w *world) {
			p := w.poll().connect()
			hanging := p.hang()
			for i := range 20 {
				p.send(fmt.Sprintf(`42["message",%d]`, i))
				if r := <-hanging; r.Body != fmt.Sprintf(`42["message-back",%d]`, i) {
					w.Errorf("poll %d got %v", i, r)
				}
				hanging = p.hang()
			}
			p.send("1")
			<-hanging
		}},
		{"binary, and payloads of many packets", func(w *world) {
			p := w.poll().connect()
			p.send(`451-["message",{"_placeholder":true,"num":0}]`, "bAQID", `42["message",1]`, `421["message-with-ack",2]`)
			synctest.Wait()
			p.want("451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID\x1e42[\"message-back\",1]\x1e431[2]")
		}},
		{"the server's timeouts are for requests that don't hang", func(w *world) {
			p := w.poll().connect()
			for range 3 {
				p.want("2") // hangs for 25 s
				p.send("3")
			}
		}},
		{"no pong ends the session", func(w *world) {
			p := w.poll().connect()
			p.want("2")
			hanging := p.hang()
			w.wantEnd(socketio.ErrPingTimeout, 20*time.Second)
			if r := <-hanging; r.Body != "1" {
				w.Errorf("the hanging poll got %v", r)
			}
			p.gone()
		}},
		{"a poll that is cut off is a client that is lost", func(w *world) {
			p := w.poll().connect()
			bystander := w.poll().connect()
			hanging := bystander.hang()
			p.cutOff()
			w.wantEnd(socketio.ErrTransport, time.Second)
			p.gone()
			bystander.send(`42["message"]`)
			if r := <-hanging; r.Body != `42["message-back"]` {
				w.Errorf("another session's poll got %v", r)
			}
		}},
		{"two polls, two posts, and nonsense end their session alone", func(w *world) {
			bystander := w.poll().connect()
			hanging := bystander.hang()
			p := w.poll().connect()
			first := p.hang()
			if r := p.get(); r != refusal(3) {
				w.Errorf("a second poll got %v", r)
			}
			if r := <-first; r.Body != "1" {
				w.Errorf("the first poll got %v", r)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p = w.poll().connect()
			if r := p.post("nonsense"); r != refusal(3) {
				w.Errorf("nonsense got %v", r)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p = w.poll().connect()
			if r := p.post(strings.Repeat("4", 1e6+1)); r.Status != 413 {
				w.Errorf("too much got %v", r)
			}
			w.wantEnd(socketio.ErrTooBig, 0)
			if n := w.net.count(); n != 1 {
				w.Errorf("%d connections, want the one that all share", n)
			}
			bystander.send(`42["message"]`)
			if r := <-hanging; r.Body != `42["message-back"]` {
				w.Errorf("another session's poll got %v", r)
			}
			if n := w.net.count(); n != 1 {
				w.Errorf("then %d connections", n)
			}
		}},
		{"a body that comes slowly is cut", func(w *world) {
			p := w.poll().connect()
			body, more := io.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 100 {
					if _, err := more.Write([]byte("4")); err != nil {
						return
					}
					time.Sleep(5 * time.Second)
				}
			}()
			posted := make(chan int, 1)
			go func() {
				resp, err := w.web.Post(w.base+p.q, "text/plain", body)
				if err != nil {
					posted <- 0
					return
				}
				resp.Body.Close()
				posted <- resp.StatusCode
			}()
			start := time.Now()
			if err := w.ended(); !errors.Is(err, socketio.ErrPingTimeout) && !errors.Is(err, socketio.ErrTransport) {
				w.Errorf("Receive: %v", err) // both are due at that instant
			}
			if d := time.Since(start); d != 45*time.Second {
				w.Errorf("ended after %v", d)
			}
			if status := <-posted; status == 200 {
				w.Errorf("the post got %d", status)
			}
			more.CloseWithError(io.ErrUnexpectedEOF)
			<-done
		}},
		{"a websocket has no place there", func(w *world) {
			r, _ := w.do("GET", "?EIO=4&transport=websocket", "")
			if r != refusal(3) {
				w.Errorf("got %v", r)
			}
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) {
			inHTTP2(t, nil, &http.Server{ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second}, tt.f)
		})
	}
}

// Whatever a body is for, one that comes slowly is cut when a client that says
// nothing would be: also one of a request that is refused.
func TestSlowBodyIsCut(t *testing.T) {
	for _, tt := range []struct {
		why, method, query string
	}{
		{"a post", "POST", "sid"},
		{"a post of no session", "POST", "?EIO=4&transport=polling&sid=abc"},
		{"a handshake", "POST", "?EIO=4&transport=polling"},
		{"a handshake that is right, apart from its body", "GET", "?EIO=4&transport=polling"},
		{"another method", "PUT", "sid"},
		{"the script", "POST", "socket.io.js"},
		{"a preflight", "OPTIONS", "?EIO=4&transport=polling"},
		{"another site's", "POST", "?EIO=4&transport=polling\nOrigin: http://evil.test"},
	} {
		for _, head := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			in(t, nil, func(w *world) {
				p := w.poll()
				query, more, _ := strings.Cut(strings.Replace(tt.query, "sid", p.q, 1), "\n")
				if tt.query != "sid" {
					query, more, _ = strings.Cut(tt.query, "\n")
				}
				conn, err := w.net.dial()
				if err != nil {
					w.Fatal(err)
				}
				if more != "" {
					more += "\r\n"
				}
				fmt.Fprintf(conn, "%s /socket.io/%s HTTP/1.1\r\nHost: chat.test\r\n%s%s\r\n\r\n", tt.method, query, more, head)
				start := time.Now()
				go io.Copy(io.Discard, conn)
				for range 100 {
					b := "4"
					if head != "Content-Length: 1000" {
						b = "1\r\n4\r\n"
					}
					conn.SetWriteDeadline(time.Now().Add(time.Minute))
					if _, err := io.WriteString(conn, b); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				if d := time.Since(start); d > 47*time.Second {
					w.Errorf("%s, %s: ended after %v", tt.why, head, d)
				}
			})
		}
	}
}

// Behind a proxy, on any path, below another prefix than the proxy's, and beside
// a program's other pages.
func TestBehindAProxy(t *testing.T) {
	for _, tt := range []struct {
		why           string
		mount, path   string // where the server is, and Options.Path
		public, asked string // where the proxy has it, and what clients ask for
	}{
		{"the usual path", "/socket.io/", "", "/", "/socket.io/"},
		{"another path", "/a/b/rt/", "/a/b/rt/", "/", "/a/b/rt/"},
		{"a path without a slash at its end", "/socket.io", "/socket.io", "/", "/socket.io"},
		{"a prefix that the proxy takes away", "/rt/", "", "/apps/chat/", "/apps/chat/rt/"},
		{"everything", "/", "", "/", "/"},
	} {
		srv := socketio.NewServer(&socketio.Options{Path: tt.path})
		srv.Handle("/", func(s *socketio.Socket) {
			for {
				e, err := s.Receive()
				if err != nil {
					return
				}
				if err := s.Emit("back", e.Values); err != nil {
					return
				}
			}
		})
		mux := http.NewServeMux()
		mux.Handle(tt.mount, srv)
		if tt.mount != "/" {
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
		}
		back := httptest.NewServer(mux)
		target, err := url.Parse(back.URL)
		if err != nil {
			t.Fatal(err)
		}
		front := httptest.NewServer(http.StripPrefix(strings.TrimSuffix(tt.public, "/"), &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host // or pages would come from another site
				r.SetXForwarded()
			},
			FlushInterval: -1,
		}))
		get := func(path string) string {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), "GET", front.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", front.URL)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		q := tt.asked + "?EIO=4&transport=polling"
		open := get(q)
		_, after, _ := strings.Cut(open, `"sid":"`)
		sid, _, ok := strings.Cut(after, `"`)
		if !ok {
			t.Errorf("%s: the handshake got %q", tt.why, open)
			continue
		}
		q += "&sid=" + sid
		post := func(body string) {
			t.Helper()
			resp, err := http.Post(front.URL+q, "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		post("40")
		if got := get(q); !strings.HasPrefix(got, `40{"sid":`) {
			t.Errorf("%s: CONNECT got %q", tt.why, got)
		}
		polled := make(chan string, 1)
		go func() { polled <- get(q) }() // hangs, or not yet
		post(`42["a",1]`)
		if got := <-polled; got != `42["back",1]` {
			t.Errorf("%s: polled %q", tt.why, got)
		}
		ws, _, err := websocket.Dial(t.Context(), front.URL+strings.Replace(q, "=polling", "=websocket", 1),
			&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {front.URL}}})
		if err != nil {
			t.Fatalf("%s: the upgrade: %v", tt.why, err)
		}
		for _, s := range []string{"2probe", "5", `42["b",2]`} {
			if err := ws.Write(t.Context(), websocket.MessageText, []byte(s)); err != nil {
				t.Errorf("%s: %v", tt.why, err)
			}
		}
		for _, want := range []string{"3probe", `42["back",2]`} {
			if _, got, err := ws.Read(t.Context()); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", tt.why, got, err, want)
			}
		}
		ws.Close(websocket.StatusNormalClosure, "")
		if script := get(strings.TrimSuffix(tt.asked, "/") + "/socket.io.js"); tt.mount != "/socket.io" && !strings.Contains(script, "function") {
			t.Errorf("%s: the script is %.80q", tt.why, script)
		}
		if tt.mount != "/" {
			if got := get(strings.TrimSuffix(tt.public, "/") + "/other"); got != "page" {
				t.Errorf("%s: beside it is %q", tt.why, got)
			}
		}
		front.Close()
		srv.Close()
		back.Close()
	}
}
