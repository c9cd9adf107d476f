package socketio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"

	"example.com/chat/socketio"
)

// The client of these examples, dial, is a few lines of HTTP that show the
// packets as they come: a message's 4, an EVENT's 2, the arguments.
func Example() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		for {
			e, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return // said goodbye
			}
			if err != nil {
				return // was lost
			}
			var name string
			if err := e.Decode(&name); err != nil {
				continue // not ours
			}
			if err := s.Emit("hello", name, len(name)); err != nil {
				return
			}
		}
	})

	c := dial(srv, "/socket.io/", "/")
	c.ask(`42["greet","ann"]`)
	// Output:
	// 42["hello","ann",3]
}

// Beside other handlers, at a path of one's own: the script is below it.
func ExampleServer_ServeHTTP() {
	srv := socketio.NewServer(&socketio.Options{AllowedOrigins: []string{"https://www.example.com"}})
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) { s.Receive() })

	mux := http.NewServeMux()
	mux.Handle("/realtime/", srv)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a page") })
	web := httptest.NewServer(mux)
	defer web.Close()

	for _, path := range []string{"/about", "/realtime/socket.io.js", "/realtime/?transport=carrier-pigeon"} {
		resp, err := http.Get(web.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	// Output:
	// 200 text/plain; charset=utf-8
	// 200 text/javascript; charset=utf-8
	// 400 application/json
}

// Acknowledgements from the server: the client sent an id, here 7.
func ExampleEvent_Ack() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		for {
			e, err := s.Receive()
			if err != nil {
				return
			}
			var a, b int
			if err := e.Decode(&a, &b); err != nil {
				err = e.Ack(map[string]string{"error": "two numbers, please"})
			} else {
				err = e.Ack(map[string]int{"sum": a + b})
			}
			if err != nil && !errors.Is(err, socketio.ErrNoAck) {
				return
			}
		}
	})

	c := dial(srv, "/socket.io/", "/")
	c.ask(`427["add",2,3]`)
	c.ask(`428["add","two"]`)
	// Output:
	// 437[{"sum":5}]
	// 438[{"error":"two numbers, please"}]
}

// Acknowledgements from the client: Call waits, as long as its context allows.
func ExampleSocket_Call() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	heard := make(chan string)
	srv.Handle("/", func(s *socketio.Socket) {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		answer, err := s.Call(ctx, "what time is it?")
		if err != nil {
			log.Fatal(err)
		}
		var clock string
		var photo []byte
		if err := answer.Decode(&clock, &photo); err != nil {
			log.Fatal(err)
		}
		heard <- fmt.Sprintf("%s, and %d bytes", clock, len(photo))
	})

	c := dial(srv, "/socket.io/", "/")
	fmt.Println(c.next())
	c.send(`461-0["noon",{"_placeholder":true,"num":0}]`, "bAQID")
	fmt.Println(<-heard)
	// Output:
	// 420["what time is it?"]
	// noon, and 3 bytes
}

// Binary arguments are []byte, both ways. Inside an object they stay
// placeholders, which Values say what they stand for, and can be sent on.
func Example_binary() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		for {
			e, err := s.Receive()
			if err != nil {
				return
			}
			var name string
			var data []byte
			if err := e.Decode(&name, &data); err == nil {
				err = s.Emit("stored", name, data[:2])
			} else {
				err = s.Emit("as it came", e.Values)
			}
			if err != nil {
				return
			}
		}
	})

	c := dial(srv, "/socket.io/", "/")
	c.send(`451-["store","cat",{"_placeholder":true,"num":0}]`, "bAQIDBA==")
	fmt.Println(c.next(), c.next())
	c.send(`451-["store",{"file":{"_placeholder":true,"num":0}}]`, "bAQIDBA==")
	fmt.Println(c.next(), c.next())
	// Output:
	// 451-["stored","cat",{"_placeholder":true,"num":0}] bAQI=
	// 451-["as it came",{"file":{"_placeholder":true,"num":0}}] bAQIDBA==
}

// Namespaces are connected to one by one, over one connection; those that
// nobody handles are refused.
func Example_namespaces() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	for _, ns := range []string{"/", "/news"} {
		srv.Handle(ns, func(s *socketio.Socket) {
			for {
				e, err := s.Receive()
				if err != nil {
					return
				}
				if err := s.Emit(e.Name, "heard in "+s.Namespace()); err != nil {
					return
				}
			}
		})
	}

	c := dial(srv, "/socket.io/", "/", "/news")
	c.ask(`42["knock"]`)
	c.ask(`42/news,["knock"]`)
	c.ask(`40/secret,`)
	c.send("41/news,") // leaves one; the other goes on
	c.ask(`42["knock"]`)
	// Output:
	// 42["knock","heard in /"]
	// 42/news,["knock","heard in /news"]
	// 44/secret,{"message":"Invalid namespace"}
	// 42["knock","heard in /"]
}

// Who may connect is asked before the CONNECT is answered.
func Example_auth() {
	srv := socketio.NewServer(&socketio.Options{
		Connect: func(ctx context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
			if string(r.Auth) != `{"token":"open sesame"}` { // or ask a database: it may take its time, within ctx
				return socketio.Grant{}, &socketio.ConnectError{Message: "not authorized", Data: map[string]string{"hint": "open s…"}}
			}
			return socketio.Grant{Value: "ali"}, nil
		},
	})
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		if err := s.Emit("welcome", s.Value()); err != nil {
			return
		}
		s.Receive()
	})

	c := dial(srv, "/socket.io/")
	c.ask(`40{"token":"abracadabra"}`) // the client's event connect_error
	c.send(`40{"token":"open sesame"}`)
	c.next() // 40{"sid":"…"}
	fmt.Println(c.next())
	// Output:
	// 44{"message":"not authorized","data":{"hint":"open s…"}}
	// 42["welcome","ali"]
}

// Connection state recovery from a log: each event carries its place there as
// its last argument, which the official client gives back as its offset. The
// server keeps nothing for a client that is away.
func Example_recovery() {
	news := []string{"rain", "more rain", "sun"}
	srv := socketio.NewServer(&socketio.Options{
		Connect: func(_ context.Context, r *socketio.ConnectRequest) (socketio.Grant, error) {
			seen, err := strconv.Atoi(r.Offset)
			if r.PID != "hard to guess" || err != nil || seen > len(news) {
				return socketio.Grant{PID: "hard to guess", Value: len(news)}, nil // a newcomer
			}
			return socketio.Grant{PID: r.PID, Value: seen}, nil // recovered
		},
	})
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		for i := s.Value().(int); i < len(news); i++ {
			if err := s.Emit("news", news[i], strconv.Itoa(i+1)); err != nil {
				return
			}
		}
		s.Emit("ready", s.Recovered())
		s.Receive()
	})

	fmt.Println(dial(srv, "/socket.io/", "/").next())
	c := dial(srv, "/socket.io/", `/,{"pid":"hard to guess","offset":"1"}`) // was away after "rain"
	fmt.Println(c.next())
	fmt.Println(c.next())
	fmt.Println(c.next())
	// Output:
	// 42["ready",false]
	// 42["news","more rain","2"]
	// 42["news","sun","3"]
	// 42["ready",true]
}

// An event for many is encoded once. Each write returns when the bytes are
// taken over, and waits for a client that is behind: so a program whose
// clients must not wait for each other gives each a goroutine or a queue.
func ExampleSocket_WriteEncoded() {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	joined := make(chan *socketio.Socket)
	srv.Handle("/", func(s *socketio.Socket) {
		joined <- s
		s.Receive()
	})
	ann, bob := dial(srv, "/socket.io/", "/"), dial(srv, "/socket.io/", "/")
	room := []*socketio.Socket{<-joined, <-joined}

	units := map[socketio.Encoding][]byte{}
	for _, s := range room {
		enc := s.Encoding()
		if units[enc] == nil {
			var err error
			if units[enc], err = socketio.AppendEvent(nil, enc, "/", "news", "encoded once"); err != nil {
				log.Fatal(err)
			}
		}
		if err := s.WriteEncoded(enc, units[enc]); err != nil {
			log.Print(err) // that one has ended
		}
	}
	fmt.Println(ann.next())
	fmt.Println(bob.next())
	// Output:
	// 42["news","encoded once"]
	// 42["news","encoded once"]
}

func ExampleAppendEvent() {
	// Encoded once, for however many sockets.
	units, err := socketio.AppendEvent(nil, socketio.Polling, "/", "notify", "ann")
	if err != nil {
		log.Fatal(err)
	}
	units, err = socketio.AppendEvent(units, socketio.Polling, "/news", "picture", "cat", []byte{0xCA, 0x7})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", units)
	// Output:
	// "42[\"notify\",\"ann\"]\x1e451-/news,[\"picture\",\"cat\",{\"_placeholder\":true,\"num\":0}]\x1ebygc=\x1e"
}

// Engine.IO without Socket.IO on it: messages, text or binary.
func ExampleNewEngine() {
	srv := socketio.NewEngine(nil, func(c *socketio.Conn) {
		for {
			m, err := c.Receive()
			if err != nil {
				return
			}
			if err := c.Send(m); err != nil {
				return
			}
		}
	})
	defer srv.Close()

	c := dial(srv, "/engine.io/")
	c.ask("4hello")
	c.ask("bAQID")
	// Output:
	// 4hello
	// bAQID
}
