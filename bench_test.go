package chat_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/chat"
)

// BenchmarkSend is the time that Send takes to return, with more and more subscribers that read. Its median is to be flat:
// ratio is that to the median with one. (The mean shares the processors with all who read.) Readers may end as slow; one
// that skips an event fails it.
func BenchmarkSend(b *testing.B) {
	one := 0.0 // the median with one
	for _, subs := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			r, err := chat.NewRoom(nil)
			if err != nil {
				b.Fatal(err)
			}
			ann := login(b, r, "Ann")
			h := hear(b, r, subs)
			took := make([]time.Duration, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				say(b, r, ann, "sixty-four bytes, more or less, are what people say at one time.")
				took = append(took, time.Since(begin))
			}
			b.StopTimer()
			sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
			median := float64(took[len(took)/2])
			if subs == 1 {
				one = median
			}
			if one > 0 {
				b.ReportMetric(median/one, "ratio")
			}
			b.ReportMetric(median, "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
			b.ReportMetric(float64(took[len(took)-1])/1e6, "max-ms")
			r.Close()
			h.wait()
			b.ReportMetric(float64(h.got.Load())/float64(b.N), "delivered/op")
			b.ReportMetric(float64(h.slow.Load()), "slow")
		})
	}
}

// The hearers of a benchmark check that nothing is missing.
type hearers struct {
	b         testing.TB
	wg        sync.WaitGroup
	got, slow atomic.Int64
}

func hear(b testing.TB, r *chat.Room, n int) *hearers {
	h := &hearers{b: b}
	for range n {
		sub := subscribe(b, r, &chat.SubscribeOptions{Last: 1})
		h.wg.Go(func() {
			last := sub.Start().At
			for e := range sub.Events() {
				if err := chain(last, []chat.Event{e}); err != nil {
					b.Error(err)
				}
				last = e.Meta().Pos
				h.got.Add(1)
			}
			var slow chat.SlowError
			switch err := sub.Err(); {
			case errors.As(err, &slow):
				h.slow.Add(1)
				if slow.Pos != last {
					b.Errorf("ended at %v, told %v", last, slow.Pos)
				}
			case !errors.Is(err, chat.ErrClosed):
				b.Errorf("ended: %v", err)
			}
		})
	}
	return h
}

func (h *hearers) wait() { h.wg.Wait() }

func BenchmarkLogin(b *testing.B) {
	r := newRoom(b, &chat.RoomOptions{MaxMembers: -1})
	ctx := context.Background()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("name", i)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s, err := r.Login(ctx, names[i%len(names)], nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Logout(ctx, s); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// A drain is a Transport that counts what it is given, encoded as for a wire, and checks that nothing is missing.
type drain struct {
	format *chat.Format
	last   chat.Position
	passed chan<- struct{} // a token for having subscribed, and for each lap
	events atomic.Uint64
	bytes  atomic.Uint64
	bad    atomic.Uint64
	in     chan chat.Request
	closed chan struct{}
	once   sync.Once
}

func (d *drain) Receive() (chat.Request, error) {
	select {
	case req := <-d.in:
		return req, nil
	case <-d.closed:
		return nil, errors.New("closed")
	}
}

func (d *drain) Deliver(b *chat.Batch) error {
	for _, rep := range b.Replies() {
		if rep, ok := rep.(chat.SubscribeReply); ok {
			d.last = rep.Start.At
			d.passed <- struct{}{}
		}
	}
	if chain(d.last, b.Events()) != nil {
		d.bad.Add(1)
	}
	if n := len(b.Events()); n > 0 {
		d.last = b.Events()[n-1].Meta().Pos
		d.bytes.Add(uint64(len(b.Encoded(d.format))))
		if all := d.events.Add(uint64(n)); all/lap != (all-uint64(n))/lap {
			d.passed <- struct{}{}
		}
	}
	return nil
}

func (d *drain) Close(error) error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// lap is how many messages are sent before all who hear have been given them: not more than the window holds.
const lap = 4000

// BenchmarkServeFanout is a message's way to every connection, without the sockets: it ends when all have been given it.
func BenchmarkServeFanout(b *testing.B) {
	for _, clients := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r, err := chat.NewRoom(nil)
			if err != nil {
				b.Fatal(err)
			}
			ann := login(b, r, "Ann")
			format := &chat.Format{Append: func(dst []byte, e chat.Event) []byte {
				if e, ok := e.(chat.Said); ok {
					dst = append(append(append(dst, e.User.Name...), ' '), e.Text...)
				}
				return dst
			}}
			var wg sync.WaitGroup
			drains := make([]*drain, clients)
			passed := make(chan struct{}, clients)
			wait := func() {
				for range drains {
					<-passed
				}
			}
			for i := range drains {
				d := &drain{format: format, passed: passed, in: make(chan chat.Request, 1), closed: make(chan struct{})}
				drains[i] = d
				d.in <- chat.SubscribeRequest{}
				wg.Go(func() { _ = r.Serve(context.Background(), d, &chat.ServeOptions{Spectators: true, MaxUnread: -1}) })
			}
			wait()
			b.ReportAllocs()
			for n := uint64(1); b.Loop(); n++ {
				say(b, r, ann, "sixty-four bytes, more or less, are what people say at one time.")
				if n%lap == 0 {
					wait()
				}
			}
			if err := r.Shutdown(context.Background(), nil); err != nil { // what was accepted is delivered
				b.Fatal(err)
			}
			wg.Wait()
			b.StopTimer()
			for i, d := range drains {
				if d.events.Load() != uint64(b.N) || d.bad.Load() > 0 {
					b.Fatalf("client %d has %d of %d events, %d gaps", i, d.events.Load(), b.N, d.bad.Load())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(clients), "ns/delivery")
		})
	}
}
