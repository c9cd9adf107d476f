package chat_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"example.com/chat"
)

// Two processes serve one room: each has a Node and a Room, on the same two logs. When one goes, the other takes its
// sessions in, and who comes back to it goes on where they were.
func ExampleNode() {
	ctx := context.Background()
	events, heartbeats := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil) // in earnest: two Logs of a store that both reach
	open := func() (*chat.Node, *chat.Room) {
		node, err := chat.NewNode(heartbeats, nil)
		if err != nil {
			log.Fatal(err)
		}
		room, err := chat.NewRoom(&chat.RoomOptions{Log: events, Node: node})
		if err != nil {
			log.Fatal(err)
		}
		return node, room
	}
	nodeA, roomA := open()
	nodeB, roomB := open()

	ann, err := roomA.Login(ctx, "Ann", &chat.LoginOptions{Linger: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("on B:", roomB.Members()[0].Name)

	// A is shut down, and leaves those who linger to others.
	if err := roomA.Shutdown(ctx, &chat.ShutdownOptions{HandOver: true}); err != nil {
		log.Fatal(err)
	}
	if err := nodeA.Close(); err != nil {
		log.Fatal(err)
	}
	again, err := roomB.Resume(ctx, ann.Token(), true)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := roomB.Send(ctx, again, "here again", nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println("still in:", len(roomB.Members()))

	roomB.Close() // the room first, then its node
	nodeB.Close()
	// Output:
	// on B: Ann
	// still in: 1
}
