package socketio_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/socketio"
)

// echoMessages is a handler of bare Engine.IO that sends back what comes.
func echoMessages(w *world, c *socketio.Conn) {
	for {
		m, err := c.Receive()
		if err != nil {
			w.ends <- err
			return
		}
		if err := c.Send(m); err != nil {
			w.Errorf("Send: %v", err)
		}
	}
}

// TestEngineAlone holds a server of bare Engine.IO to protocol 4, clause by
// clause: what is not about messages is the same code, see TestEngine.
func TestEngineAlone(t *testing.T) {
	for _, tt := range []struct {
		clause string
		f      func(w *world)
	}{
		{"message/text and binary, polling", func(w *world) {
			p := w.poll()
			p.send("4hello", "bAQIDBA==", "4", "40", "b")
			synctest.Wait()
			p.want("4hello\x1ebAQIDBA==\x1e4\x1e40\x1eb")
		}},
		{"message/text and binary, websocket", func(w *world) {
			c := w.ws()
			fs := []frame{text("4hello"), {2, "\x01\x02\xff"}, text("4"), {2, ""}, text("40"), text("4日本")}
			c.send(fs...)
			c.want(fs...)
		}},
		{"message/across an upgrade", func(w *world) {
			p := w.poll()
			p.send("4a", "bAQ==")
			c := p.upgrade()
			c.send(text("2probe"))
			c.want(text("3probe"))
			c.send(text("5"), text("4b"))
			c.want(text("4a"), frame{2, "\x01"}, text("4b"))
		}},
		{"message/none is needed: the connection lives by its heartbeat", func(w *world) {
			c := w.ws()
			for range 10 {
				c.want(text("2"))
				c.send(text("3"))
			}
			w.wantEnd(socketio.ErrPingTimeout, 45*time.Second)
		}},
		{"close/by the client is a goodbye", func(w *world) {
			p := w.poll()
			p.send("1")
			w.wantEnd(io.EOF, 0)
			c := w.ws()
			c.send(text("1"))
			w.wantEnd(io.EOF, 0)
			c.closed(1000)
			c = w.ws()
			c.send(closing(1001, ""))
			w.wantEnd(io.EOF, 0)
			c = w.ws()
			c.conn.Close()
			w.wantEnd(socketio.ErrTransport, 0)
		}},
		{"error/what is no packet ends the connection", func(w *world) {
			p := w.poll()
			if r := p.post("abc"); r != refusal(3) {
				w.Errorf("posting got %v", r)
			}
			w.wantEnd(socketio.ErrParse, 0)
			p.gone()
			c := w.ws()
			c.send(text("abc"))
			w.wantEnd(socketio.ErrParse, 0)
			c.closed(1008)
		}},
		{"script/there is none", func(w *world) {
			if r, _ := w.do("GET", "socket.io.js?EIO=4", ""); r != refusal(0) {
				w.Errorf("got %v", r)
			}
		}},
	} {
		t.Run(tt.clause, func(t *testing.T) { inEngine(t, nil, echoMessages, tt.f) })
	}
}

// A connection's first word may be the server's, behind the open packet; its
// return is the end, behind what was sent.
func TestConnCloses(t *testing.T) {
	inEngine(t, nil, func(w *world, c *socketio.Conn) {
		for _, m := range []socketio.Message{{Data: []byte("a")}, {Data: []byte("b"), Binary: true}} {
			if err := c.Send(m); err != nil {
				w.Errorf("Send: %v", err)
			}
		}
		if got := c.Request().URL.Query().Get("EIO"); got != "4" {
			w.Errorf("the handshake's request says EIO %q", got)
		}
		c.Close()
		_, err := c.Receive()
		w.ends <- err
		w.ends <- c.Send(socketio.Message{})
	}, func(w *world) {
		for range 100 { // which writes first is up to the scheduler, if it may
			c := w.ws()
			c.want(text("4a"), frame{2, "b"})
			c.closed(1000)
			w.wantEnd(socketio.ErrDisconnected, 0)
			w.wantEnd(socketio.ErrDisconnected, 0)
		}
		p := w.poll()
		synctest.Wait() // or the poll may come between the two
		p.want("4a\x1ebYg==")
		p.want("1")
		p.gone()
		w.wantEnd(socketio.ErrDisconnected, 0)
		w.wantEnd(socketio.ErrDisconnected, 0)
	})
}

// What polling has no way to say is an error on every transport, and nothing
// else goes wrong.
func TestConnText(t *testing.T) {
	inEngine(t, nil, func(w *world, c *socketio.Conn) {
		for _, data := range []string{"a\x1eb", "\xff", "\x1e"} {
			if err := c.Send(socketio.Message{Data: []byte(data)}); !errors.Is(err, socketio.ErrText) {
				w.Errorf("%q: %v", data, err)
			}
			if err := c.Send(socketio.Message{Data: []byte(data), Binary: true}); err != nil {
				w.Errorf("%q, binary: %v", data, err)
			}
		}
	}, func(w *world) {
		c := w.ws()
		c.want(frame{2, "a\x1eb"}, frame{2, "\xff"}, frame{2, "\x1e"})
		c.closed(1000) // the handler has returned
		p := w.poll()
		synctest.Wait()
		p.want("bYR5i\x1eb/w==\x1ebHg==")
		p.want("1")
	})
}

// Messages that nobody receives hold up their client, and Send a program whose
// client does not read.
func TestConnBounds(t *testing.T) {
	o := &socketio.Options{MaxUnread: 1000, WriteTimeout: 5 * time.Second, PingInterval: time.Hour}
	inEngine(t, o, func(w *world, c *socketio.Conn) {
		for range w.next {
			m, err := c.Receive()
			if err != nil {
				w.ends <- err
				return
			}
			w.names <- string(m.Data)
		}
		for {
			if err := c.Send(socketio.Message{Data: []byte(strings.Repeat("x", 100))}); err != nil {
				w.ends <- err
				return
			}
		}
	}, func(w *world) {
		p := w.poll()
		sent := make(chan int, 100)
		go func() {
			for i := range 50 {
				p.send(fmt.Sprintf("4%040d", i))
				sent <- i
			}
			close(sent)
		}()
		time.Sleep(10 * time.Minute)
		if n := len(sent); n < 5 || n > 12 {
			w.Errorf("%d messages of about 100 bytes taken, with room for 1000", n)
		}
		for i := range 50 {
			w.next <- struct{}{}
			if got := <-w.names; got != fmt.Sprintf("%040d", i) {
				w.Errorf("message %d is %q", i, got)
			}
		}
		close(w.next)
		w.wantEnd(socketio.ErrSlow, 5*time.Second)
	})
}

func TestEngineHasNoNamespaces(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Handle on a server of bare Engine.IO")
		}
	}()
	socketio.NewEngine(nil, func(*socketio.Conn) {}).Handle("/", func(*socketio.Socket) {})
}
