package socketio_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
	"github.com/google/go-cmp/cmp"
)

// TestEngine holds the server to Engine.IO protocol 4, clause by clause.
func TestEngine(t *testing.T) {
	const (
		polling   = "?EIO=4&transport=polling"
		webSocket = "?EIO=4&transport=websocket"
	)
	for _, tt := range []struct {
		clause string
		f      func(w *world)
	}{
		{"handshake/polling/open packet", func(w *world) {
			r, h := w.do("GET", polling, "")
			o := w.opening(r.Body)
			if len(o.SID) < 20 {
				w.Errorf("sid %q", o.SID)
			}
			o.SID = ""
			want := opening{"", []string{"websocket"}, 25000, 20000, 1000000}
			if d := cmp.Diff(want, o); d != "" {
				w.Errorf("open packet (-want +got):\n%s", d)
			}
			if ct := h.Get("Content-Type"); ct != "text/plain; charset=UTF-8" {
				w.Errorf("content type %q", ct)
			}
		}},
		{"handshake/websocket/open packet first and no upgrades", func(w *world) {
			c, _ := w.dial(webSocket)
			o := w.opening(c.next().Payload)
			o.SID = ""
			if d := cmp.Diff(opening{"", []string{}, 25000, 20000, 1000000}, o); d != "" {
				w.Errorf("open packet (-want +got):\n%s", d)
			}
			c.nothing()
		}},
		{"handshake/version missing or unknown is code 5", func(w *world) {
			for _, q := range []string{"?transport=polling", "?EIO=3&transport=polling", "?EIO=abc&transport=polling"} {
				if r, _ := w.do("GET", q, ""); r != refusal(5) {
					w.Errorf("%s got %v", q, r)
				}
			}
			if _, r := w.dial("?EIO=3&transport=websocket"); r != refusal(5) {
				w.Errorf("websocket got %v", r)
			}
		}},
		{"handshake/transport missing or unknown is code 0", func(w *world) {
			for _, q := range []string{"?EIO=4", "?EIO=4&transport=abc", "?EIO=4&transport=webtransport"} {
				if r, _ := w.do("GET", q, ""); r != refusal(0) {
					w.Errorf("%s got %v", q, r)
				}
			}
		}},
		{"handshake/any method but GET is code 2", func(w *world) {
			for _, m := range []string{"POST", "PUT", "DELETE"} {
				if r, _ := w.do(m, polling, ""); r != refusal(2) {
					w.Errorf("%s got %v", m, r)
				}
			}
		}},
		{"handshake/websocket without an upgrade is code 3", func(w *world) {
			if r, _ := w.do("GET", webSocket, ""); r != refusal(3) {
				w.Errorf("got %v", r)
			}
		}},
		{"session/unknown sid is code 1, on a websocket before the upgrade", func(w *world) {
			for _, m := range []string{"GET", "POST"} {
				if r, _ := w.do(m, polling+"&sid=abc", "40"); r != refusal(1) {
					w.Errorf("%s got %v", m, r)
				}
			}
			if _, r := w.dial(webSocket + "&sid=abc"); r != refusal(1) {
				w.Errorf("websocket got %v", r)
			}
		}},
		{"session/other methods are code 3", func(w *world) {
			p := w.poll()
			if r, _ := w.do("PUT", p.q, "40"); r != refusal(3) {
				w.Errorf("got %v", r)
			}
			p.connect()
		}},
		{"origin/another site's page is code 4, before the upgrade", func(w *world) {
			r, h := w.do("GET", polling, "", "Origin: https://evil.test")
			if r != refusal(4) || h.Get("Access-Control-Allow-Origin") != "" {
				w.Errorf("got %v with headers %v", r, h)
			}
			if _, r := w.dial(webSocket, "Origin: https://evil.test"); r != refusal(4) {
				w.Errorf("websocket got %v", r)
			}
			p := w.poll()
			if r, _ := w.do("POST", p.q, "40", "Origin: https://evil.test"); r != refusal(4) {
				w.Errorf("a post to a session got %v", r)
			}
		}},
		{"origin/the own site needs no permission", func(w *world) {
			if r, _ := w.do("GET", polling, "", "Origin: http://chat.test"); r.Status != 200 {
				w.Errorf("got %v", r)
			}
			if _, r := w.dial(webSocket, "Origin: http://chat.test"); r.Status != 101 {
				w.Errorf("websocket got %v", r)
			}
		}},
		{"polling/a post is answered ok", func(w *world) {
			r, h := w.do("POST", w.poll().q, "40")
			if r != ok || h.Get("Content-Type") != "text/html" {
				w.Errorf("got %v as %q", r, h.Get("Content-Type"))
			}
		}},
		{"polling/a get hangs until there is something", func(w *world) {
			p := w.poll().connect()
			hanging := p.hang()
			time.Sleep(20 * time.Second)
			if len(hanging) != 0 {
				w.Errorf("answered %v with nothing to say", <-hanging)
			}
			p.send(`42["message",1]`)
			if r := <-hanging; r != (response{200, `42["message-back",1]`}) {
				w.Errorf("got %v", r)
			}
		}},
		{"polling/packets of a payload are acted on in order, and go out joined", func(w *world) {
			p := w.poll().connect()
			p.send(`42["message",1]`, `42["message",2]`, `42["message",3]`)
			synctest.Wait()
			p.want("42[\"message-back\",1]\x1e42[\"message-back\",2]\x1e42[\"message-back\",3]")
		}},
		{"polling/a thousand packets in a payload, each way", func(w *world) {
			p := w.poll().connect()
			var in, out []string
			for i := range 1000 {
				in = append(in, fmt.Sprintf(`42["message",%d]`, i))
				out = append(out, fmt.Sprintf(`42["message-back",%d]`, i))
			}
			p.send(in...)
			synctest.Wait()
			p.want(strings.Join(out, "\x1e"))
		}},
		{"polling/noop says nothing, from a client either", func(w *world) {
			p := w.poll().connect()
			p.send("6", `42["message"]`, "6")
			p.want(`42["message-back"]`)
		}},
		{"polling/binary is base64 both ways", func(w *world) {
			p := w.poll().connect()
			p.send(`451-["message",{"_placeholder":true,"num":0}]`, "bAQIDBA==")
			synctest.Wait()
			p.want("451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
		}},
		{"websocket/a packet is a text frame, binary a bare frame", func(w *world) {
			c := w.ws().connect()
			c.send(text(`42["message",1]`))
			c.want(text(`42["message-back",1]`))
			c.send(text(`451-["message",{"_placeholder":true,"num":0}]`), frame{2, "\x01\x02"})
			c.want(text(`451-["message-back",{"_placeholder":true,"num":0}]`), frame{2, "\x01\x02"})
		}},
		{"heartbeat/the server pings, polling", func(w *world) {
			start := time.Now()
			p := w.poll().connect()
			for i := 1; i <= 5; i++ {
				p.want("2")
				if d := time.Since(start); d != time.Duration(i)*25*time.Second {
					w.Errorf("ping %d after %v", i, d)
				}
				p.send("3")
			}
		}},
		{"heartbeat/the server pings, websocket", func(w *world) {
			start := time.Now()
			c := w.ws().connect()
			for i := 1; i <= 5; i++ {
				c.want(text("2"))
				if d := time.Since(start); d != time.Duration(i)*25*time.Second {
					w.Errorf("ping %d after %v", i, d)
				}
				c.send(text("3"))
			}
		}},
		{"heartbeat/no pong ends the session, polling", func(w *world) {
			p := w.poll().connect()
			p.want("2")
			hanging := p.hang()
			w.wantEnd(socketio.ErrPingTimeout, 20*time.Second)
			if r := <-hanging; r != (response{200, "1"}) {
				w.Errorf("the hanging poll got %v", r)
			}
			p.gone()
		}},
		{"heartbeat/no pong ends the session, nobody polls", func(w *world) {
			p := w.poll().connect()
			w.wantEnd(socketio.ErrPingTimeout, 45*time.Second)
			p.gone()
		}},
		{"heartbeat/no pong ends the session, websocket", func(w *world) {
			c := w.ws().connect()
			c.want(text("2"))
			w.wantEnd(socketio.ErrPingTimeout, 20*time.Second)
			c.closed(1000)
		}},
		{"heartbeat/deadlines count from the handshake", func(w *world) {
			c := w.ws()
			time.Sleep(10 * time.Second)
			c.connect()
			w.wantEnd(socketio.ErrPingTimeout, 35*time.Second)
		}},
		{"heartbeat/other packets are no pong", func(w *world) {
			c := w.ws().connect()
			c.want(text("2"))
			for range 4 {
				time.Sleep(4 * time.Second)
				c.send(text(`42["x"]`))
			}
			w.wantEnd(socketio.ErrPingTimeout, 4*time.Second)
		}},
		{"heartbeat/a pong that nobody asked for is ignored", func(w *world) {
			start := time.Now()
			c := w.ws().connect()
			time.Sleep(20 * time.Second)
			c.send(text("3"), text("3"))
			c.want(text("2"))
			if d := time.Since(start); d != 25*time.Second {
				w.Errorf("pinged after %v", d)
			}
			c.send(text("3"), text("3"))
			c.want(text("2"))
			if d := time.Since(start); d != 50*time.Second {
				w.Errorf("pinged again after %v", d)
			}
		}},
		{"heartbeat/a client's ping ends the session", func(w *world) {
			c := w.ws().connect()
			c.send(text("2"))
			w.wantEnd(socketio.ErrParse, 0)
			c.closed(1008)
		}},
		{"close/by the client on polling", func(w *world) {
			p := w.poll().connect()
			hanging := p.hang()
			p.send("1")
			if r := <-hanging; r != (response{200, "6"}) {
				w.Errorf("the hanging poll got %v", r)
			}
			w.wantEnd(socketio.ErrEngineClosed, 0)
			p.gone()
			time.Sleep(499 * time.Millisecond)
			if r := p.post("42[\"late\"]"); r != ok {
				w.Errorf("a last post got %v", r)
			}
			time.Sleep(2 * time.Millisecond)
			p.gone()
		}},
		{"close/by the client between two polls", func(w *world) {
			p := w.poll().connect()
			p.send("1")
			w.wantEnd(socketio.ErrEngineClosed, 0)
			time.Sleep(499 * time.Millisecond)
			p.want("6")
			p.gone() // once is enough
		}},
		{"close/by the client on a websocket", func(w *world) {
			c := w.ws().connect()
			c.send(text("1"))
			w.wantEnd(socketio.ErrEngineClosed, 0)
			c.closed(1000)
		}},
		{"close/by the client before it is in a namespace", func(w *world) {
			p := w.poll()
			hanging := p.hang()
			p.send("1")
			if r := <-hanging; r != (response{200, "6"}) {
				w.Errorf("the hanging poll got %v", r)
			}
			p.gone()
			c := w.ws()
			c.send(text("1"))
			c.closed(1000)
		}},
		{"close/by the client in a payload: what is before it counts, what is behind it does not", func(w *world) {
			p := w.poll().connect()
			p.send(`42["a"]`, "1", `42["b"]`)
			w.wantEnd(socketio.ErrEngineClosed, 0)
			if n := len(w.names); n != 1 {
				w.Errorf("%d events, want 1", n)
			}
		}},
		{"close/by the server while a post is under way", func(w *world) {
			p := w.poll().connect()
			body, more := io.Pipe()
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
			if _, err := io.WriteString(more, "42"); err != nil {
				w.Error(err)
			}
			synctest.Wait()
			(<-w.sockets).Drop()
			if status := <-posted; status == 200 {
				w.Error("the post was taken")
			}
			more.Close()
			p.want("1")
			w.wantEnd(socketio.ErrDisconnected, 0)
		}},
		{"close/the websocket's code tells goodbye from loss", func(w *world) {
			for _, tt := range []struct {
				send frame
				want error
			}{
				{closing(1000, ""), io.EOF},
				{closing(1001, "away"), io.EOF},
				{closing(4000, ""), socketio.ErrTransport},
				{closing(1011, ""), socketio.ErrTransport},
				{frame{8, ""}, socketio.ErrTransport}, // 1005: what a script that comes back sends
			} {
				c := w.ws().connect()
				c.send(tt.send)
				c.want(tt.send, frame{})
				w.wantEnd(tt.want, 0)
			}
			c := w.ws().connect()
			c.conn.Close()
			w.wantEnd(socketio.ErrTransport, 0)
		}},
		{"error/two polls at once end the session", func(w *world) {
			p := w.poll().connect()
			first := p.hang()
			if r := p.get(); r != refusal(3) {
				w.Errorf("the second got %v", r)
			}
			if r := <-first; r != (response{200, "1"}) {
				w.Errorf("the first got %v", r)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p.gone()
		}},
		{"error/two posts at once end the session", func(w *world) {
			p := w.poll().connect()
			body, more := io.Pipe()
			first := make(chan int, 1)
			go func() {
				resp, err := w.web.Post(w.base+p.q, "text/plain", body)
				if err != nil {
					first <- 0
					return
				}
				resp.Body.Close()
				first <- resp.StatusCode
			}()
			io.WriteString(more, "42")
			synctest.Wait()
			if r := p.post("42[\"x\"]"); r != refusal(3) {
				w.Errorf("the second got %v", r)
			}
			if status := <-first; status != 400 {
				w.Errorf("the first got %d", status)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p.gone()
			more.Close()
		}},
		{"error/a body that is no packet ends the session, and none of it counts", func(w *world) {
			for _, body := range []string{"", "abc", "7", "4\x1e", "42[\"message\"]\x1e", "42[\"message\"]\x1e\x1e42[\"message\"]", "42[\"message\"]\x1eb!", "42[\"\xff\"]"} {
				p := w.poll().connect()
				if r := p.post(body); r != refusal(3) {
					w.Errorf("%q got %v", body, r)
				}
				w.wantEnd(socketio.ErrParse, 0)
				p.gone()
			}
		}},
		{"error/a frame that is no packet ends the session", func(w *world) {
			for _, body := range []string{"", "abc", "7", "b", "bAQ==", "0{}", "5", "2probe"} {
				c := w.ws().connect()
				c.send(text(body))
				c.closed(1008)
				w.wantEnd(socketio.ErrParse, 0)
			}
			c := w.ws().connect()
			c.send(text("42[\"\xff\"]"))
			c.closed(1007)
			w.wantEnd(socketio.ErrParse, 0)
		}},
		{"error/a body over maxPayload is 413 and ends the session", func(w *world) {
			p := w.poll().connect()
			p.send(`42["message","` + strings.Repeat("x", 1e6-15-1) + `"]`)
			if r := p.get(); len(r.Body) != 1e6+5 {
				w.Errorf("a body of exactly maxPayload: got %d bytes", len(r.Body))
			}
			big := strings.Repeat("4", 1e6+1)
			if r := p.post(big); r.Status != 413 {
				w.Errorf("got %v", r)
			}
			w.wantEnd(socketio.ErrTooBig, 0)
			p.gone()

			p = w.poll().connect()
			req, err := http.NewRequest("POST", w.base+p.q, io.MultiReader(strings.NewReader(big))) // no length
			if err != nil {
				w.Fatal(err)
			}
			resp, err := w.web.Do(req)
			if err != nil {
				w.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 413 {
				w.Errorf("without a length: %s", resp.Status)
			}
			w.wantEnd(socketio.ErrTooBig, 0)
			p.gone()
		}},
		{"error/a message over maxPayload is 1009 and ends the session", func(w *world) {
			c := w.ws().connect()
			c.send(text(strings.Repeat("4", 1e6+1)))
			w.wantEnd(socketio.ErrTooBig, 0)
			c.closed(1009)
		}},
		{"polling/a poll after one that was cut off ends the session", func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			p.cutOff()
			if err := s.Emit("lost"); err != nil {
				w.Error(err)
			}
			time.Sleep(999 * time.Millisecond)
			p.gone()
			w.wantEnd(socketio.ErrTransport, 0)
		}},
		{"polling/what a poll that was cut off missed comes over a websocket", func(w *world) {
			p := w.poll().connect()
			s := <-w.sockets
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			p.cutOff()
			if err := s.Emit("n"); err != nil {
				w.Error(err)
			}
			c.send(text("5"))
			c.want(text(`42["n"]`))
			time.Sleep(10 * time.Second)
			c.send(text(`42["message"]`))
			c.want(text(`42["message-back"]`))
		}},
		{"polling/a client that cuts its poll and doesn't come back is lost, unless it says goodbye", func(w *world) {
			for _, goodbye := range []bool{false, true} {
				p := w.poll().connect()
				p.cutOff()
				if goodbye {
					time.Sleep(500 * time.Millisecond)
					p.send("41")
					w.wantEnd(io.EOF, 0)
				} else {
					w.wantEnd(socketio.ErrTransport, time.Second)
				}
				time.Sleep(1001 * time.Millisecond)
				p.gone()
			}
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) { in(t, nil, tt.f) })
	}
}

// A server's own timeouts are for requests that don't hang, and are back in
// force for what comes after on the same connection.
func TestServerTimeouts(t *testing.T) {
	for _, o := range []*socketio.Options{nil, {WriteTimeout: -1}} {
		hs := &http.Server{ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second}
		inWith(t, o, hs, nil, func(w *world) {
			p := w.poll().connect()
			for range 3 {
				p.want("2") // hangs for 25 s
				p.send("3")
			}
		})
	}
}

func TestCORS(t *testing.T) {
	in(t, &socketio.Options{AllowedOrigins: []string{"https://*.example.com"}}, func(w *world) {
		r, h := w.do("OPTIONS", "?EIO=4&transport=polling", "", "Origin: https://a.example.com",
			"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
		got := []string{h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Methods"), h.Get("Access-Control-Allow-Headers"), h.Get("Vary")}
		want := []string{"https://a.example.com", "GET, POST", "content-type", "Origin"}
		if d := cmp.Diff(want, got); d != "" || r.Status != 204 {
			w.Errorf("preflight got %d (-want +got):\n%s", r.Status, d)
		}
		r, h = w.do("GET", "?EIO=4&transport=polling", "", "Origin: https://a.example.com")
		if r.Status != 200 || h.Get("Access-Control-Allow-Origin") != "https://a.example.com" {
			w.Errorf("handshake got %d, %v", r.Status, h)
		}
		if r, _ := w.do("OPTIONS", "?EIO=4&transport=polling", "", "Origin: http://a.example.com"); r != refusal(4) {
			w.Errorf("preflight from elsewhere got %v", r)
		}
		// Also a refusal can be read by the page it is for.
		if r, h := w.do("GET", "?EIO=3&transport=polling", "", "Origin: https://a.example.com"); r != refusal(5) || h.Get("Access-Control-Allow-Origin") == "" {
			w.Errorf("refused handshake got %v, %v", r, h)
		}
	})
}
