package chat_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"example.com/chat"
)

// BenchmarkMemory is what a room keeps for each who is in, and for each message ID that it remembers of them: the growth
// of the heap over 10,000 sessions, and then over 256 messages of each of 400 of them, in a window and a log that keep
// next to nothing, so that the messages themselves do not count.
func BenchmarkMemory(b *testing.B) {
	const sessions, speakers, ids = 10_000, 400, 256
	ctx := context.Background()
	for b.Loop() {
		log := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxRecords: 16})
		r := newRoom(b, &chat.RoomOptions{Log: log, Window: 1024})
		in := make([]*chat.Session, sessions)
		for range 5000 { // what the log remembers for retries counts as there already
			if err := r.Logout(ctx, login(b, r, "nobody")); err != nil {
				b.Fatal(err)
			}
		}
		begin := heap()
		for i := range in {
			s, err := r.Login(ctx, fmt.Sprintf("a name of 24 bytes %05d", i), nil)
			if err != nil {
				b.Fatal(err)
			}
			in[i] = s
		}
		all := heap()
		for _, s := range in[:speakers] {
			for n := range ids {
				if _, err := r.Send(ctx, s, "x", &chat.SendOptions{ID: fmt.Sprintf("an-ID-of-64-bytes--which-is-the-longest-that-may-be-%012d", n)}); err != nil {
					b.Fatal(err)
				}
			}
		}
		spoken := heap()
		b.ReportMetric(float64(all-begin)/sessions, "B/session")
		b.ReportMetric(float64(spoken-all)/(speakers*ids), "B/ID")
		runtime.KeepAlive(in)
		r.Close()
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
