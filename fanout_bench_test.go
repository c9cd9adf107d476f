package chat_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/chat"
)

// BenchmarkFanout measures one message to many WebSockets: real sockets, each client's order and count checked. An
// iteration is one message, so ns/op over subs is the cost of a delivery, the clients' reading included.
func BenchmarkFanout(b *testing.B) {
	for _, subs := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			r := newRoom(b, &chat.RoomOptions{MaxPerSource: -1})
			srv := httptest.NewServer(chat.NewWebSocketHandler(r, &chat.WebSocketOptions{Serve: chat.ServeOptions{Spectators: true}}))
			defer srv.Close()
			defer r.Close()

			// The sender stays at most inFlight messages ahead of the slowest client, far within its bound.
			const inFlight = 256
			var mu sync.Mutex
			ahead := sync.NewCond(&mu)
			at := make([]int, subs) // how many messages each client has
			over := false           // all is sent and received
			slowest := func() int {
				n := at[0]
				for _, k := range at {
					n = min(n, k)
				}
				return n
			}
			var readers sync.WaitGroup
			for i := range subs {
				conn, in := listen(b, srv.Listener.Addr().String())
				defer conn.Close()
				readers.Go(func() {
					for k := 0; ; k++ {
						pos, err := nextPos(in)
						if err != nil {
							mu.Lock()
							if !over {
								b.Errorf("client %d: after %d messages: %v", i, k, err)
							}
							mu.Unlock()
							ahead.Signal()
							return
						}
						if pos != k+2 { // the sender's login stands at 1
							b.Errorf("client %d: message %d stands at position %d", i, k, pos)
						}
						mu.Lock()
						at[i] = k + 1
						mu.Unlock()
						if (k+1)%32 == 0 || in.Buffered() == 0 {
							ahead.Signal()
						}
					}
				})
			}

			ctx := context.Background()
			ann := login(b, r, "Ann")
			text := strings.Repeat("x", 64)
			sent := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Send(ctx, ann, text, nil); err != nil {
					b.Fatal(err)
				}
				if sent++; sent%(inFlight/2) == 0 {
					mu.Lock()
					for slowest() < sent-inFlight/2 && !b.Failed() {
						ahead.Wait()
					}
					mu.Unlock()
				}
			}
			mu.Lock()
			for slowest() < sent && !b.Failed() {
				ahead.Wait()
			}
			over = true
			mu.Unlock()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent*subs), "ns/delivery")
			r.Close()
			readers.Wait()
			for i, k := range at {
				if k != sent {
					b.Errorf("client %d has %d of %d messages", i, k, sent)
				}
			}
		})
	}
}

// listen opens a WebSocket by hand, so that the client costs little, and subscribes. What it returns begins after the
// sender's login.
func listen(b testing.TB, addr string) (net.Conn, *bufio.Reader) {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n", addr)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		b.Fatalf("the handshake: %v, %v", resp, err)
	}
	ask := `{"op":"subscribe"}`
	frame := append([]byte{0x81, 0x80 | byte(len(ask)), 0, 0, 0, 0}, ask...) // masked with zeros
	if _, err := conn.Write(frame); err != nil {
		b.Fatal(err)
	}
	if _, err := nextFrame(in); err != nil { // its answer
		b.Fatal(err)
	}
	return conn, in
}

// nextPos returns the sequence of the next message, passing over other events.
func nextPos(in *bufio.Reader) (int, error) {
	for {
		frame, err := nextFrame(in)
		if err != nil {
			return 0, err
		}
		if !bytes.Contains(frame, []byte(`"text":`)) {
			continue
		}
		_, rest, _ := bytes.Cut(frame, []byte(`"pos":"`))
		_, rest, _ = bytes.Cut(rest, []byte("-"))
		digits, _, _ := bytes.Cut(rest, []byte(`"`))
		return strconv.Atoi(string(digits))
	}
}

// nextFrame returns the payload of the next text frame, good until the next call; a close frame is io.EOF.
func nextFrame(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(4)
	if err != nil {
		return nil, err
	}
	if head[0] == 0x88 {
		return nil, io.EOF
	}
	skip, n := 2, int(head[1])
	if n == 126 {
		skip, n = 4, int(binary.BigEndian.Uint16(head[2:]))
	}
	in.Discard(skip)
	payload, err := in.Peek(n)
	if err != nil {
		return nil, err
	}
	in.Discard(n)
	return payload, nil
}
