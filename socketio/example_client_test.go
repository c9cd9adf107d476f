package socketio_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// An exampleClient is a client in a few lines, on polling, for the examples: a
// program has the official client, or the script that the server serves.
type exampleClient struct {
	h    http.Handler
	url  string
	rest []string // packets of the last poll
}

// dial opens a session at a path of h, and connects to namespaces: each is a
// CONNECT packet's text, "/" or "/admin" or "/,{…}" with an auth payload.
func dial(h http.Handler, path string, namespaces ...string) *exampleClient {
	c := &exampleClient{h: h, url: path + "?EIO=4&transport=polling"}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(c.do("GET", ""), "0")), &open); err != nil {
		log.Fatal(err)
	}
	c.url += "&sid=" + open.SID
	for _, ns := range namespaces {
		c.send("40" + strings.TrimPrefix(ns, "/,"))
		if answer := c.next(); !strings.HasPrefix(answer, "40") {
			log.Fatal(answer)
		}
	}
	return c
}

func (c *exampleClient) do(method, body string) string {
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, httptest.NewRequest(method, c.url, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		log.Fatal(w.Code, w.Body)
	}
	return w.Body.String()
}

// send sends packets.
func (c *exampleClient) send(packets ...string) { c.do("POST", strings.Join(packets, "\x1e")) }

// next is the next packet.
func (c *exampleClient) next() string {
	if len(c.rest) == 0 {
		c.rest = strings.Split(c.do("GET", ""), "\x1e")
	}
	p := c.rest[0]
	c.rest = c.rest[1:]
	return p
}

// ask sends a packet and prints what comes back.
func (c *exampleClient) ask(packet string) {
	c.send(packet)
	fmt.Println(c.next())
}

// soon is a bound for what an example waits for.
const soon = 10 * time.Second
