// Server is what a program of somebody else's looks like that has a chat room in it.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"example.com/chat"
)

func main() {
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/ws", chat.NewWebSocketHandler(room, nil))
	go func() { log.Fatal(http.Serve(l, nil)) }()

	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	fmt.Printf("listening on http://%s/\n", l.Addr())
	<-interrupt
	if err := room.Shutdown(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
}
