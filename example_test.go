package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"sync"

	"example.com/chat"
)

// A room, somebody who talks in it, and somebody who listens.
func Example() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	sub, err := room.Subscribe(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Send(ctx, ann, "hello", nil); err != nil {
		log.Fatal(err)
	}
	if err := room.Logout(ctx, ann); err != nil {
		log.Fatal(err)
	}
	for e := range sub.Events() {
		switch e := e.(type) {
		case chat.Joined:
			fmt.Println(e.User.Name, "joined")
		case chat.Said:
			fmt.Println(e.User.Name, "said", e.Text)
		case chat.Left:
			fmt.Println(e.User.Name, "left:", e.Reason)
			return
		}
	}
	// Output:
	// Ann joined
	// Ann said hello
	// Ann left: logout
}

func ExampleNewRoom() {
	room, err := chat.NewRoom(&chat.RoomOptions{MaxText: 5})
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(context.Background(), "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = room.Send(context.Background(), ann, "too long", nil)
	fmt.Println(errors.Is(err, chat.ErrTextTooLong))
	// Output:
	// true
}

// A limit's error says which it was, the number, and for a program that passes it on the word that stands on the wire.
func ExampleLimitError() {
	ctx := context.Background()
	room, err := chat.NewRoom(&chat.RoomOptions{MaxMembers: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	if _, err := room.Login(ctx, "Ann", nil); err != nil {
		log.Fatal(err)
	}
	_, err = room.Login(ctx, "Bob", nil)
	var limit chat.LimitError
	if !errors.As(err, &limit) {
		log.Fatal(err)
	}
	fmt.Println(limit.Limit == chat.ErrRoomFull, limit.Max, chat.Code(err))
	// Output:
	// true 1 room_full
}

func ExampleRoom_Login() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", &chat.LoginOptions{ID: "account 7"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ann.User())
	_, err = room.Login(ctx, " ＡＮＮ ", nil) // full-width letters, spaces: the same name
	fmt.Println(err)
	// Output:
	// {Ann account 7}
	// chat: name is taken
}

// Sending again with the same ID is safe: one event, the same receipt.
func ExampleRoom_Send() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	first, err := room.Send(ctx, ann, "hello", &chat.SendOptions{ID: "m1"})
	if err != nil {
		log.Fatal(err)
	}
	again, err := room.Send(ctx, ann, "hello", &chat.SendOptions{ID: "m1"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first == again, room.Stats().Events)
	// Output:
	// true 2
}

// A reader that kept its last position goes on from there, without a gap.
func ExampleRoom_Subscribe() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	kept, err := room.Send(ctx, ann, "one", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Send(ctx, ann, "two", nil); err != nil {
		log.Fatal(err)
	}

	sub, err := room.Subscribe(ctx, &chat.SubscribeOptions{After: kept.Pos})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("exact:", sub.Start().Resumed)
	fmt.Println((<-sub.Events()).(chat.Said).Text)
	sub.Close()

	sub, err = room.Subscribe(ctx, &chat.SubscribeOptions{Last: 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the room then:", sub.Start().Roster)
	fmt.Println((<-sub.Events()).(chat.Said).Text, (<-sub.Events()).(chat.Said).Text)
	sub.Close()
	// Output:
	// exact: true
	// two
	// in the room then: [{Ann }]
	// one two
}

func ExampleRoom_Logout() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(room.Logout(ctx, ann), room.Logout(ctx, ann))
	// Output:
	// <nil> chat: session has ended
}

// After a connection is gone, a session that lingers is taken up again by its token.
func ExampleRoom_Resume() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Resume(ctx, ann.Token(), false); !errors.Is(err, chat.ErrConnected) {
		log.Fatal(err)
	}
	again, err := room.Resume(ctx, ann.Token(), true) // whoever is connected gives way
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(again.User().Name)
	fmt.Println(ann.Err())
	// Output:
	// Ann
	// chat: session was taken over
}

func ExampleRoom_Kick() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(room.Kick(ctx, "ann", "shouting"))
	<-ann.Done()
	fmt.Println(ann.Err())
	fmt.Println(room.Members())
	// Output:
	// <nil>
	// chat: kicked: shouting
	// []
}

func ExampleRoom_Members() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	for _, name := range []string{"Cid", "Ann", "Bob"} {
		if _, err := room.Login(ctx, name, nil); err != nil {
			log.Fatal(err)
		}
	}
	for _, user := range room.Members() { // in the order of joining
		fmt.Println(user.Name)
	}
	// Output:
	// Cid
	// Ann
	// Bob
}

func ExampleRoom_Stats() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	ann, err := room.Login(ctx, "Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Send(ctx, ann, "hello", nil); err != nil {
		log.Fatal(err)
	}
	if _, err := room.Send(ctx, ann, "  ", nil); !errors.Is(err, chat.ErrText) {
		log.Fatal(err)
	}
	stats := room.Stats()
	fmt.Println(stats.Members, "member,", stats.Events, "events, refused:", stats.Refused)
	// Output:
	// 1 member, 2 events, refused: map[text:1]
}

func ExampleRoom_Shutdown() {
	ctx := context.Background()
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	sub, err := room.Subscribe(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Login(ctx, "Ann", nil); err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- room.Shutdown(ctx, nil) }() // waits until subscriptions are read to the end
	for e := range sub.Events() {
		fmt.Printf("%T\n", e)
	}
	fmt.Println(<-done, sub.Err())
	// Output:
	// chat.Joined
	// chat.Left
	// <nil> chat: closed
}

// A script is a Transport whose client asks for what stands in it, and then says goodbye. It shows nothing.
type script struct{ requests []chat.Request }

func (s *script) Receive() (chat.Request, error) {
	if len(s.requests) == 0 {
		return nil, io.EOF
	}
	req := s.requests[0]
	s.requests = s.requests[1:]
	return req, nil
}

func (s *script) Deliver(*chat.Batch) error { return nil }
func (s *script) Close(error) error         { return nil } // nothing here blocks

// Serve is one client's whole life, over a Transport of any kind.
func ExampleRoom_Serve() {
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	sub, err := room.Subscribe(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	client := &script{requests: []chat.Request{chat.LoginRequest{Name: "Ann"}, chat.SendRequest{Text: "hello"}}}
	if err := room.Serve(context.Background(), client, nil); err != nil {
		log.Fatal(err)
	}
	for e := range sub.Events() {
		fmt.Printf("%T\n", e)
		if _, ok := e.(chat.Left); ok {
			break
		}
	}
	// Output:
	// chat.Joined
	// chat.Said
	// chat.Left
}

// lines is a wire form: a line of text for each event. A package has one variable for each form that it speaks.
var lines = &chat.Format{Append: func(dst []byte, e chat.Event) []byte {
	switch e := e.(type) {
	case chat.Joined:
		return fmt.Appendf(dst, "%s is here\n", e.User.Name)
	case chat.Said:
		return fmt.Appendf(dst, "%s: %q\n", e.User.Name, e.Text)
	case chat.Left:
		return fmt.Appendf(dst, "%s is gone\n", e.User.Name)
	}
	return dst
}}

// A printer is a Transport that asks for what stands in its script, and shows what the room delivers.
type printer struct {
	script
	out    strings.Builder
	said   chan struct{} // closed when its message came back
	closed chan struct{} // closed by Close
	once   sync.Once
}

func (p *printer) Receive() (chat.Request, error) {
	if len(p.requests) == 0 {
		select {
		case <-p.said:
		case <-p.closed:
			return nil, io.ErrClosedPipe
		}
	}
	return p.script.Receive()
}

// Deliver writes the run of events as it stands in the room's memory, encoded once for all who read lines.
func (p *printer) Deliver(b *chat.Batch) error {
	p.out.Write(b.Encoded(lines))
	for _, e := range b.Events() {
		if _, ok := e.(chat.Said); ok {
			close(p.said)
		}
	}
	return nil
}

func (p *printer) Close(error) error {
	p.once.Do(func() { close(p.closed) }) // it may come often, and from anywhere
	return nil
}

// A Format makes the bytes of an event once, however many clients of that form there are.
func ExampleFormat() {
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	client := &printer{said: make(chan struct{}), closed: make(chan struct{})}
	client.requests = []chat.Request{chat.LoginRequest{Name: "Ann"}, chat.SendRequest{Text: "hello"}}
	if err := room.Serve(context.Background(), client, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Print(client.out.String())
	// Output:
	// Ann is here
	// Ann: "hello"
}

// Two rooms on one log are two nodes of the same room.
func ExampleMemoryLog() {
	ctx := context.Background()
	shared := chat.NewMemoryLog(nil)
	a, err := chat.NewRoom(&chat.RoomOptions{Log: shared})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := chat.NewRoom(&chat.RoomOptions{Log: shared})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	if _, err := a.Login(ctx, "Ann", nil); err != nil {
		log.Fatal(err)
	}
	_, err = b.Login(ctx, "ann", nil)
	fmt.Println(b.Members(), err)
	// Output:
	// [{Ann }] chat: name is taken
}
