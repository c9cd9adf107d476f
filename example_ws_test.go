package chat_test

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"example.com/chat"
	"nhooyr.io/websocket"
)

// A whole server, and a client that talks to it.
func ExampleNewWebSocketHandler() {
	room, err := chat.NewRoom(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer room.Close()
	mux := http.NewServeMux()
	mux.Handle("/ws", chat.NewWebSocketHandler(room, nil))
	server := httptest.NewServer(mux) // a program calls http.ListenAndServe(":8080", mux)
	defer server.Close()

	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, server.URL+"/ws", &websocket.DialOptions{Subprotocols: []string{"chat.v1"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range []struct {
		request string
		frames  int // how many come back: the reply, and what the room then has to tell
	}{
		{`{"op":"login","ref":"1","name":"Ann"}`, 2},
		{`{"op":"send","ref":"2","text":"hello"}`, 2},
		{`{"op":"send","ref":"3","text":" "}`, 1},
	} {
		if err := c.Write(ctx, websocket.MessageText, []byte(step.request)); err != nil {
			log.Fatal(err)
		}
		for range step.frames {
			_, text, err := c.Read(ctx)
			if err != nil {
				log.Fatal(err)
			}
			var f struct{ Reply, Ref, Message, Event, Text string }
			if err := json.Unmarshal(text, &f); err != nil {
				log.Fatal(err)
			}
			fmt.Println(strings.Join(strings.Fields(f.Reply+f.Event+" "+f.Ref+" "+f.Message+f.Text), " "))
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		log.Fatal(err)
	}

	// Output:
	// login 1
	// joined
	// send 2
	// said hello
	// error 3 text is empty or not valid UTF-8
}
