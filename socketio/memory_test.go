package socketio_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"example.com/chat/socketio"
)

// BenchmarkIdle is what a client costs that is connected over a WebSocket, or to
// bare Engine.IO, and silent: growth over a thousand, both ends in this process, of
// which the bare connections are 0.6 KiB.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	for _, engine := range []bool{false, true} {
		name := "Socket"
		if engine {
			name = "Conn"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				joined := make(chan func(), 1)
				var srv *socketio.Server
				if engine {
					srv = socketio.NewEngine(nil, func(c *socketio.Conn) {
						joined <- c.Close
						c.Receive()
					})
				} else {
					srv = socketio.NewServer(nil)
					srv.Handle("/", func(s *socketio.Socket) {
						joined <- s.Drop
						s.Receive()
					})
				}
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				hs := &http.Server{Handler: srv}
				var wg sync.WaitGroup
				wg.Go(func() { hs.Serve(l) })
				there := make([]net.Conn, 0, n)
				before := use()
				for range n {
					there = append(there, silent(b, l.Addr().String(), !engine))
					<-joined
				}
				before.report(b, n)
				for _, nc := range there {
					nc.Close()
				}
				srv.Close()
				hs.Close()
				wg.Wait()
			}
		})
	}
}

// silent connects a client that says no more than it must, with the headers that a
// browser sends.
func silent(b *testing.B, addr string, namespace bool) net.Conn {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	io.WriteString(nc, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: "+addr+"\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"+
		"Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"+
		"Upgrade: websocket\r\nOrigin: http://"+addr+"\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"+
		"Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
	br := bufio.NewReader(nc)
	if _, err := http.ReadResponse(br, nil); err != nil {
		b.Fatal(err)
	}
	if f, err := readFrame(br); err != nil || !strings.HasPrefix(f.Payload, "0") {
		b.Fatal(f, err)
	}
	if namespace {
		nc.Write([]byte{0x81, 0x82, 0, 0, 0, 0, '4', '0'})
		if f, err := readFrame(br); err != nil || !strings.HasPrefix(f.Payload, "40") {
			b.Fatal(f, err)
		}
	}
	return nc
}

// A usage is what there is of the things that a client costs.
type usage struct{ heap, stack, goroutines uint64 }

func use() usage {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, m.StackInuse, uint64(runtime.NumGoroutine())}
}

func (u usage) report(b *testing.B, n float64) {
	now := use()
	b.ReportMetric(float64(now.heap-u.heap)/n/1024, "heap-KiB/client")
	b.ReportMetric(float64(now.stack-u.stack)/n/1024, "stack-KiB/client")
	b.ReportMetric(float64(now.goroutines-u.goroutines)/n, "goroutines/client")
	b.ReportMetric(0, "ns/op")
}
