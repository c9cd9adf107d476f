// Sio is a Socket.IO server for tests with the official client: a log that every socket hears and recovers from, a namespace
// that asks for a token, and events that make the server do something.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"example.com/chat/socketio"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`host:port` to listen on")
	flag.Parse()
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	r := &room{}
	r.grown.L = &r.mu
	srv := socketio.NewServer(&socketio.Options{
		PingInterval: 500 * time.Millisecond, PingTimeout: 400 * time.Millisecond, ConnectTimeout: time.Second, Connect: r.connect,
	})
	srv.Handle("/", r.serve)
	srv.Handle("/private", private)
	web := &http.Server{Handler: srv}
	fmt.Printf("http://%s/\n", ln.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		<-ctx.Done()
		r.close()
		srv.Close()
		web.Close()
	}()
	if err := web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// A room is a log of lines. A line's position, from 1, is its offset.
type room struct {
	mu     sync.Mutex
	grown  sync.Cond // on mu: lines grew, or somebody is to look
	lines  []string
	pids   map[string]string // sid by pid
	closed bool
}

func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.grown.Broadcast()
}

func (r *room) say(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	r.grown.Broadcast()
}

// connect lets everybody into "/", from the offset on that is asked for, and into "/private" who has the token.
func (r *room) connect(_ context.Context, c *socketio.ConnectRequest) (socketio.Grant, error) {
	if c.Namespace == "/private" {
		var auth struct{ Token string }
		json.Unmarshal(c.Auth, &auth) // no token is a wrong one
		switch auth.Token {
		case "secret":
			return socketio.Grant{SID: "private-1", Value: auth.Token}, nil
		case "broken":
			return socketio.Grant{}, errors.New("the database is down, its password is x")
		}
		return socketio.Grant{}, &socketio.ConnectError{Message: "not authorized", Data: map[string]any{"code": 401, "asked": c.Auth}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sid, ok := r.pids[c.PID]; ok {
		if offset, err := strconv.Atoi(c.Offset); err == nil && offset <= len(r.lines) {
			return socketio.Grant{SID: sid, PID: c.PID, Value: offset}, nil
		}
	}
	g := socketio.Grant{SID: rand.Text(), PID: rand.Text(), Value: len(r.lines)}
	if r.pids == nil {
		r.pids = map[string]string{}
	}
	r.pids[g.PID] = g.SID
	return g, nil
}

// serve tells a socket every line from its position on, and does what it asks.
func (r *room) serve(s *socketio.Socket) {
	over := false
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for at := s.Value().(int); !over && !r.closed; {
			if at == len(r.lines) {
				r.grown.Wait()
				continue
			}
			line := r.lines[at]
			at++
			r.mu.Unlock()
			s.Emit("line", line, strconv.Itoa(at)) // what ends it ends Receive, too
			r.mu.Lock()
		}
	})
	defer func() {
		r.mu.Lock()
		over = true
		r.grown.Broadcast()
		r.mu.Unlock()
	}()
	for {
		e, err := s.Receive()
		if err != nil {
			how := "lost"
			if errors.Is(err, io.EOF) {
				how = "goodbye"
			}
			r.say(s.ID() + " " + how)
			return
		}
		switch e.Name {
		case "say":
			var line string
			if err := e.Decode(&line); err == nil {
				r.say(line)
			}
			e.Ack()
		case "ask me": // a call back, and its answer in the acknowledgement
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			answer, err := s.Call(ctx, "question", []byte{1, 2, 3}, "and?")
			cancel()
			if err != nil {
				return
			}
			e.Ack(answer)
		case "leave me":
			s.Disconnect(false)
		case "close me":
			s.Disconnect(true)
		case "drop me":
			s.Drop()
		}
	}
}

func private(s *socketio.Socket) {
	for {
		e, err := s.Receive()
		if err != nil {
			return
		}
		if e.Name == "leave me" {
			return
		}
		e.Ack(s.Value())
	}
}
