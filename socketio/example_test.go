package socketio_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"example.com/chat/socketio"
)

// A server that answers every event with its name and arguments, and a client
// that is nothing but four HTTP requests.
func ExampleServer() {
	srv := socketio.NewServer(nil)
	srv.Handle("/", func(s *socketio.Socket) {
		for {
			e, err := s.Receive()
			if err != nil {
				return // io.EOF: said goodbye; else lost
			}
			if err := s.Emit("echo", e.Name, e.Args); err != nil {
				return
			}
		}
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	web := httptest.NewServer(mux)
	defer web.Close()
	defer srv.Close()

	url := web.URL + "/socket.io/?EIO=4&transport=polling"
	get := func(url string) string {
		resp, err := http.Get(url)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		return string(b)
	}
	post := func(url, body string) {
		resp, err := http.Post(url, "text/plain", strings.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}

	var open struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(get(url), "0")), &open); err != nil {
		log.Fatal(err)
	}
	url += "&sid=" + open.SID
	post(url, "40") // connect to the default namespace
	fmt.Println(get(url)[:9])
	post(url, `42["message","hello",1]`)
	fmt.Println(get(url))
	// Output:
	// 40{"sid":
	// 42["echo","message",["hello",1]]
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
