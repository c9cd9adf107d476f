// Client logs in to the room at the WebSocket address given, says something, and ends
// with 1 unless it reads that it did.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"nhooyr.io/websocket"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, os.Args[1], &websocket.DialOptions{Subprotocols: []string{"chat.v1"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, exchange := range []struct {
		request string
		want    []string // the frames that come back, told by what, who and text
	}{
		{`{"op":"login","ref":"1","name":" Ann "}`, []string{"login 1 Ann", "joined Ann"}},
		{`{"op":"send","ref":"2","text":"hello"}`, []string{"send 2", "said Ann hello"}},
		{`{"op":"send","ref":"3"}`, []string{"error 3 request"}},
		{`{"op":"logout","ref":"4"}`, []string{"logout 4"}},
	} {
		fmt.Println(">", exchange.request)
		if err := c.Write(ctx, websocket.MessageText, []byte(exchange.request)); err != nil {
			log.Fatal(err)
		}
		for _, want := range exchange.want {
			_, text, err := c.Read(ctx)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("< %s\n", text)
			var f frame
			if err := json.Unmarshal(text, &f); err != nil {
				log.Fatal(err)
			}
			if got := f.String(); got != want {
				log.Fatalf("that is %q, not %q", got, want)
			}
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		log.Fatal(err)
	}
}

type frame struct {
	Reply, Ref, Code, Event, Text string
	User                          struct{ Name string }
}

func (f frame) String() string {
	s := f.Reply + f.Event
	for _, part := range []string{f.Ref, f.Code, f.User.Name, f.Text} {
		if part != "" {
			s += " " + part
		}
	}
	return s
}
