// Linechat is a chat room for terminals: lines of text over TCP. Whatever can connect is a client.
//
//	go run ./examples/linechat
//	nc 127.0.0.1 4000
//
// The first line is your name, each one after it a message, and /quit says goodbye. A line that is too long or not UTF-8
// is refused, in a line that begins with "!", and so is a name with < or >; the last line begins with "Bye". Who takes
// nothing for 10 s is ended as too slow; who vanishes without a word is lost within 45 s, for which see keepalive.go.
// Nobody else notices. Ctrl-C ends the room.
//
// transport.go is the room's side of a connection: a whole [chat.Transport], to begin one of your own from.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/chat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	addr := flag.String("addr", "127.0.0.1:4000", "listen on this `host:port`; port 0 takes a free one")
	flag.Parse()
	ln, err := listen.Listen(ctx, "tcp", *addr)
	if err == nil {
		fmt.Println("linechat: listening on", ln.Addr())
		err = serve(ctx, ln)
	}
	if err != nil {
		log.Fatal("linechat: ", err)
	}
}

// serve serves a room until ctx ends; then it tells everybody, and waits for them.
func serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	room, err := chat.NewRoom(&chat.RoomOptions{Names: nickname})
	if err != nil {
		return err
	}
	var clients sync.WaitGroup
	for ctx.Err() == nil {
		conn, err := ln.Accept()
		if err != nil { // the end, or too many open files: others may close theirs
			time.Sleep(100 * time.Millisecond)
			continue
		}
		clients.Go(func() {
			t := newTransport(conn)
			fmt.Fprintln(conn, "Your name?") // an error shows again in Serve
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			err := room.Serve(context.Background(), t, &chat.ServeOptions{Source: host})
			log.Printf("linechat: %v has gone: %v", conn.RemoteAddr(), err)
			<-t.gone
		})
	}
	limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	defer clients.Wait()
	if err := room.Shutdown(limit, nil); err != nil { // somebody takes nothing
		log.Println("linechat: not everybody could be told of the end in time:", err)
	}
	return nil
}

// nickname is [chat.Nickname] without < and >: "<ann> so <eve> hi" would be words of ann's. It looks at the name as shown,
// for "＜" is shown as "<".
func nickname(name string) (shown, key string, err error) {
	shown, key, err = chat.Nickname(name)
	if err == nil && strings.ContainsAny(shown, "<>") {
		return "", "", chat.NameError{Reason: "may not hold < or >"}
	}
	return shown, key, err
}
