package fanout_test

import (
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"example.com/chat/internal/fanout"
)

// BenchmarkIdle is what a connection costs that is read from, has a heartbeat and
// is silent: growth over a thousand, both ends in this process, where "net.Conn" is
// what remains of that without a WebSocket.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	b.Run("net.Conn", func(b *testing.B) {
		for b.Loop() {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			conns := make([]net.Conn, 0, 2*n)
			before := take()
			for range n {
				there, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				here, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				conns = append(conns, here, there)
			}
			before.report(b, n)
			for _, c := range conns {
				c.Close()
			}
			l.Close()
		}
	})
	b.Run("Conn", func(b *testing.B) {
		for b.Loop() {
			var wg sync.WaitGroup
			got := make(chan *fanout.Conn)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := fanout.Accept(w, r, nil)
				if err != nil {
					b.Error(err)
				}
				c.Heartbeat(time.Minute, time.Minute, func() {})
				wg.Go(func() { c.Read() })
				got <- c
			})}
			wg.Go(func() { srv.Serve(l) })
			conns, there := make([]*fanout.Conn, 0, n), make([]net.Conn, 0, n)
			before := take()
			for range n {
				nc, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				p, err := handshake(nc)
				if err != nil {
					b.Fatal(err)
				}
				conns, there = append(conns, <-got), append(there, p.Conn)
			}
			before.report(b, n)
			for i, c := range conns {
				there[i].Close()
				c.Close(fanout.CloseAbnormal, "")
				c.Wait()
			}
			srv.Close()
			wg.Wait()
		}
	})
}

// A usage is what there is of the things that a connection costs.
type usage struct{ heap, stack, goroutines uint64 }

func take() usage {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, m.StackInuse, uint64(runtime.NumGoroutine())}
}

func (u usage) report(b *testing.B, n float64) {
	now := take()
	b.ReportMetric(float64(now.heap-u.heap)/n/1024, "heap-KiB/conn")
	b.ReportMetric(float64(now.stack-u.stack)/n/1024, "stack-KiB/conn")
	b.ReportMetric(float64(now.goroutines-u.goroutines)/n, "goroutines/conn")
	b.ReportMetric(0, "ns/op")
}
