package chat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/chat"
	"example.com/chat/chattest"
)

func TestMemoryLog(t *testing.T) {
	for _, tiny := range []struct {
		opts chat.MemoryLogOptions
		why  string
	}{
		{chat.MemoryLogOptions{MaxRecords: 20}, "trimmed by count"},
		{chat.MemoryLogOptions{MaxRecords: 1}, "all but the last trimmed"},
		{chat.MemoryLogOptions{MaxBytes: 2000}, "trimmed by size"},
	} {
		store := memoryLogs(tiny.opts)
		t.Run(strings.ReplaceAll(tiny.why, " ", "_"), func(t *testing.T) { chattest.TestLog(t, store) })
		bubble(t, func(t *testing.T) {
			if err := chattest.CheckLog(store); err != nil {
				t.Errorf("in a bubble, %s: %v", tiny.why, err)
			}
		})
	}
}

// memoryLogs says how to open the default log, and one within bounds.
func memoryLogs(tiny chat.MemoryLogOptions) chattest.LogStore {
	return chattest.LogStore{
		Open: func() (a, b chat.Log, cleanup func(), err error) {
			l := chat.NewMemoryLog(nil)
			return l, l, nil, nil
		},
		Tiny:  func() (chat.Log, func(), error) { return chat.NewMemoryLog(&tiny), nil, nil },
		Close: func(l chat.Log) { l.(*chat.MemoryLog).Close() },
	}
}

func TestMemoryLogBounds(t *testing.T) {
	ctx := context.Background()
	for _, row := range []struct {
		opts chat.MemoryLogOptions
		data int // bytes, in each of 100 entries with IDs of two bytes
		kept int
		why  string
	}{
		{chat.MemoryLogOptions{}, 10, 100, "the defaults are far away"},
		{chat.MemoryLogOptions{MaxRecords: 7}, 10, 7, "a count"},
		{chat.MemoryLogOptions{MaxRecords: 1}, 10, 1, "the least count"},
		{chat.MemoryLogOptions{MaxBytes: 760}, 10, 10, "a record is 64 bytes, and its ID's and its data's"},
		{chat.MemoryLogOptions{MaxBytes: 759}, 10, 9, "a byte less"},
		{chat.MemoryLogOptions{MaxBytes: 76}, 10, 1, "the least that one fits into"},
		{chat.MemoryLogOptions{MaxRecords: 7, MaxBytes: 760}, 10, 7, "the count is the narrower"},
		{chat.MemoryLogOptions{MaxRecords: 50, MaxBytes: 760}, 10, 10, "the bytes are the narrower"},
		{chat.MemoryLogOptions{MaxRecords: -1, MaxBytes: -1, MaxKeys: -1}, 1 << 10, 100, "no bounds"},
	} {
		l := chat.NewMemoryLog(&row.opts)
		var recs []chat.Record
		for i := range 100 {
			rec, err := l.Append(ctx, chat.Entry{ID: fmt.Sprintf("%02d", i), Data: make([]byte, row.data)})
			if err != nil {
				t.Fatalf("%+v: %v", row.opts, err)
			}
			recs = append(recs, rec)
		}
		s, err := l.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := l.Read(ctx, s.First, 1000)
		if err != nil {
			t.Errorf("%+v: reading from First: %v", row.opts, err)
		}
		if d := cmp.Diff(recs[100-row.kept:], kept); d != "" {
			t.Errorf("%+v keeps others than the last %d: %s (-want +got):\n%s", row.opts, row.kept, row.why, d)
		}
		if s.First.Seq != uint64(100-row.kept) {
			t.Errorf("%+v: First is %v, and %d are kept: %s", row.opts, s.First, row.kept, row.why)
		}
		if _, err := l.Read(ctx, chat.Position{Epoch: s.At.Epoch, Seq: s.First.Seq - 1}, 1); s.First.Seq > 0 && !errors.Is(err, chat.ErrTrimmed) {
			t.Errorf("%+v: reading from before First: %v: %s", row.opts, err, row.why)
		}
	}
}

func TestMemoryLogTooLarge(t *testing.T) {
	l := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxBytes: 100})
	f, errs := followAll(t, l)
	entry := func(n int) chat.Entry { return chat.Entry{ID: "id", Key: "key", Data: make([]byte, n)} }
	if _, err := l.Append(context.Background(), entry(32)); !errors.Is(err, chat.ErrTooLarge) {
		t.Errorf("64 + 2 + 3 + 32 bytes into 100: %v", err)
	}
	if s, _ := l.Snapshot(context.Background()); s.At.Seq != 0 || len(s.Records) != 0 || len(*f) != 0 {
		t.Errorf("after a refusal: %+v, and a follower got %v", s, *f)
	}
	if _, err := l.Append(context.Background(), entry(31)); err != nil {
		t.Errorf("64 + 2 + 3 + 31 bytes into 100: %v", err)
	}
	if len(*f) != 1 || len(*errs) != 0 {
		t.Errorf("a follower got %v, %v", *f, *errs)
	}
}

// followAll collects what a MemoryLog gives, which it does inside Append.
func followAll(t *testing.T, l *chat.MemoryLog) (*[]chat.Record, *[]error) {
	t.Helper()
	var got []chat.Record
	var errs []error
	stop, err := l.Follow(chat.Position{}, func(recs []chat.Record, err error) {
		got = append(got, recs...)
		if err != nil {
			errs = append(errs, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &got, &errs
}

func TestMemoryLogFull(t *testing.T) {
	ctx := context.Background()
	l := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxKeys: 2, MaxRecords: 2})
	for i, row := range []struct {
		entry chat.Entry
		err   error
		why   string
	}{
		{chat.Entry{Key: "a"}, nil, "the first key"},
		{chat.Entry{Key: "b"}, nil, "the second"},
		{chat.Entry{Key: "c"}, chat.ErrFull, "one too many"},
		{chat.Entry{Key: "a"}, nil, "a key that is in use takes no more room"},
		{chat.Entry{}, nil, "no key is no key"},
		{chat.Entry{}, nil, "now the records of both keys are trimmed"},
		{chat.Entry{Key: "c"}, chat.ErrFull, "but they are in use"},
		{chat.Entry{Key: "d", Final: true}, nil, "a final record uses no key"},
		{chat.Entry{Key: "a", Final: true}, nil, "this frees one"},
		{chat.Entry{Key: "a", Final: true}, nil, "and this none"},
		{chat.Entry{Key: "c"}, nil, "there is room for one"},
		{chat.Entry{Key: "a"}, chat.ErrFull, "and not for two"},
		{chat.Entry{Key: "c", Final: true}, nil, "this frees one"},
		{chat.Entry{Key: "c"}, nil, "the same key again"},
		{chat.Entry{Key: "a", Guard: chat.Guard{Key: "b"}}, chat.ErrConflict, "the guard is looked at first"},
	} {
		row.entry.ID = fmt.Sprint("i", i)
		if _, err := l.Append(ctx, row.entry); !errors.Is(err, row.err) {
			t.Fatalf("%d: Append(%+v): %v, not %v: %s", i, row.entry, err, row.err, row.why)
		}
	}
	// A refused one is not remembered: when there is room it is added.
	if _, err := l.Append(ctx, chat.Entry{ID: "b!", Key: "b", Final: true}); err != nil {
		t.Fatal(err)
	}
	if rec, err := l.Append(ctx, chat.Entry{ID: "i2", Key: "z"}); err != nil || rec.Key != "z" {
		t.Errorf("the ID that was refused: %+v, %v", rec, err)
	}
}

// What is beyond the bounds is remembered for retries as long as clause A1 asks for, and no longer.
func TestMemoryLogForgets(t *testing.T) {
	for _, row := range []struct {
		others int           // records after the first
		sleep  time.Duration // before the retry
		again  bool          // the retry is a record of its own
		why    string
	}{
		{20, 30 * time.Second, false, "not older than 30 s"},
		{20, 30*time.Second + 1, true, "older than 30 s, and trimmed"},
		{9, time.Hour, false, "not trimmed: there is a record of it, of any age"},
		{4095, 0, false, "one of the last 4,096"},
		{4096, 0, true, "no more"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxRecords: 10})
			ctx := context.Background()
			first, err := l.Append(ctx, chat.Entry{ID: "x", Data: []byte("data")})
			if err != nil {
				t.Fatal(err)
			}
			for i := range row.others {
				if _, err := l.Append(ctx, chat.Entry{ID: fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(row.sleep)
			again, err := l.Append(ctx, chat.Entry{ID: "x", Data: []byte("data")})
			if err != nil {
				t.Fatal(err)
			}
			want := first
			if row.again {
				want.Pos.Seq, want.Time = uint64(row.others)+2, first.Time.Add(row.sleep)
			}
			if d := cmp.Diff(want, again); d != "" {
				t.Errorf("after %d others and %v: %s (-want +got):\n%s", row.others, row.sleep, row.why, d)
			}
		})
	}
}

func TestMemoryLogsAreOfDifferentLives(t *testing.T) {
	ctx := context.Background()
	a, b := chat.NewMemoryLog(nil), chat.NewMemoryLog(nil)
	rec, err := a.Append(ctx, chat.Entry{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(ctx, rec.Pos, 1); !errors.Is(err, chat.ErrEpoch) {
		t.Errorf("a position of another log: %v", err)
	}
}

// FuzzMemoryLog runs a program on a MemoryLog and on the simplest one that could be right, and compares all that can be
// seen. The first three bytes are the bounds; then come operations of two bytes each.
func FuzzMemoryLog(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0x01, 0x12, 0x05, 0x07})
	f.Add([]byte("\x02\x03\x02" + strings.Repeat("\x00\x11\x01\x22\x02\x31\x03\x41\x05\x00\x06\x00\x07\x00\x04\x00", 6)))
	f.Add([]byte("\x01\x00\x00" + strings.Repeat("\x00\x01\x00\x02\x06\x06\x00\x01\x05\x01", 8)))
	f.Add([]byte("\x03\x01\x01" + strings.Repeat("\x10\x01\x20\x12\x30\x23\x40\x34\x54\x45\x65\x56\x07\x67", 5)))
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) < 3 || len(program) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runMemoryLog(t, program) })
	})
}

func runMemoryLog(t *testing.T, program []byte) {
	ctx := context.Background()
	m := &modelLog{
		maxRecords: 1 + int(program[0]%16),
		maxBytes:   150 + 50*int(program[1]%8),
		maxKeys:    1 + int(program[2]%4),
	}
	l := chat.NewMemoryLog(&chat.MemoryLogOptions{MaxRecords: m.maxRecords, MaxBytes: m.maxBytes, MaxKeys: m.maxKeys})
	s, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.epoch = s.At.Epoch
	type follower struct {
		stop func()
		got  []chat.Record
		from int // of model.all
	}
	var followers []*follower
	defer func() {
		for _, f := range followers {
			f.stop()
		}
	}()
	for ops := program[3:]; len(ops) >= 2; ops = ops[2:] {
		op, arg := ops[0], ops[1]
		at := chat.Position{Epoch: m.epoch, Seq: uint64(arg) % uint64(len(m.all)+2)}
		switch op % 8 {
		case 0, 1, 2, 3, 4: // append; the key, its end, the guard, the ID and the size come from the two bytes
			e := chat.Entry{ID: fmt.Sprint("id", arg%32), Data: make([]byte, int(op>>4)*8)}
			if op%8 > 0 {
				e.Key = fmt.Sprint("key", arg>>5%4)
				e.Final = op%8 == 4
			}
			switch op >> 3 % 4 {
			case 1:
				e.Guard = chat.Guard{Key: e.Key}
			case 2:
				e.Guard = chat.Guard{Key: e.Key, Seq: m.last(e.Key)}
			case 3:
				e.Guard = chat.Guard{Key: e.Key, Seq: at.Seq}
			}
			want, wantErr := m.append(e)
			got, err := l.Append(ctx, e)
			if !errors.Is(err, wantErr) || !sameRecord(want, got) {
				t.Fatalf("Append(%+v):\n%+v, %v, not\n%+v, %v", e, got, err, want, wantErr)
			}
		case 5: // read
			want, wantErr := m.read(at)
			want = want[:min(len(want), int(op>>4))]
			got, err := l.Read(ctx, at, int(op>>4))
			if !errors.Is(err, wantErr) || !slices.EqualFunc(want, got, sameRecord) {
				t.Fatalf("Read(%v, %d):\n%+v, %v, not\n%+v, %v", at, op>>4, got, err, want, wantErr)
			}
		case 6:
			time.Sleep(time.Duration(arg) * time.Second / 4)
		case 7:
			if op>>4 == 0 && len(followers) > 0 {
				followers[0].stop()
				followers = followers[1:]
				continue
			}
			f := &follower{from: int(at.Seq)}
			stop, err := l.Follow(at, func(recs []chat.Record, err error) { f.got = append(f.got, recs...) })
			if _, wantErr := m.read(at); !errors.Is(err, wantErr) {
				t.Fatalf("Follow(%v): %v, not %v", at, err, wantErr)
			}
			if f.stop = stop; err == nil {
				followers = append(followers, f)
			}
		}
		got, err := l.Snapshot(ctx)
		want := m.snapshot()
		if err != nil || want.At != got.At || want.First != got.First || !slices.EqualFunc(want.Records, got.Records, sameRecord) {
			t.Fatalf("Snapshot: %v (-want +got):\n%s", err, cmp.Diff(want, got))
		}
		for _, f := range followers {
			if !slices.EqualFunc(m.all[f.from:], f.got, sameRecord) {
				t.Fatalf("a follower (-want +got):\n%s", cmp.Diff(m.all[f.from:], f.got))
			}
		}
	}
}

// sameRecord is faster than cmp.Diff, and a fuzzer's time is better spent.
func sameRecord(a, b chat.Record) bool {
	return a.Pos == b.Pos && a.Time.Equal(b.Time) && a.ID == b.ID && a.Key == b.Key && a.Final == b.Final && bytes.Equal(a.Data, b.Data)
}

// A modelLog is a log that keeps everything, and knows what it should have trimmed.
type modelLog struct {
	maxRecords, maxBytes, maxKeys int
	epoch                         uint64
	all                           []chat.Record // record i stands at i+1
	first                         int           // how many are trimmed
}

func (m *modelLog) append(e chat.Entry) (chat.Record, error) {
	now := time.Now().UTC()
	for i, rec := range m.all {
		remembered := i >= m.first || i >= len(m.all)-4096 && now.Sub(rec.Time) <= 30*time.Second
		if rec.ID == e.ID && remembered {
			return rec, nil
		}
	}
	live := m.snapshot().Records
	isLive := slices.ContainsFunc(live, func(r chat.Record) bool { return r.Key == e.Key })
	rec := chat.Record{Pos: chat.Position{Epoch: m.epoch, Seq: uint64(len(m.all)) + 1}, Time: now, ID: e.ID, Key: e.Key, Final: e.Final, Data: e.Data}
	switch {
	case e.Guard.Seq != 0 && (e.Guard.Key == "" || m.last(e.Guard.Key) != e.Guard.Seq),
		e.Guard.Seq == 0 && slices.ContainsFunc(live, func(r chat.Record) bool { return r.Key == e.Guard.Key }):
		return chat.Record{}, chat.ErrConflict
	case e.Key != "" && !e.Final && !isLive && len(live) >= m.maxKeys:
		return chat.Record{}, chat.ErrFull
	case m.size(rec) > m.maxBytes:
		return chat.Record{}, chat.ErrTooLarge
	}
	m.all = append(m.all, rec)
	for m.size(m.all[m.first:]...) > m.maxBytes || len(m.all)-m.first > m.maxRecords {
		m.first++
	}
	return rec, nil
}

// last is where the last record under key stands. A final one that is trimmed is forgotten.
func (m *modelLog) last(key string) uint64 {
	for i, rec := range slices.Backward(m.all) {
		if rec.Key == key && key != "" {
			if rec.Final && i < m.first {
				return 0
			}
			return rec.Pos.Seq
		}
	}
	return 0
}

func (m *modelLog) read(after chat.Position) ([]chat.Record, error) {
	switch {
	case after.Seq > uint64(len(m.all)):
		return nil, chat.ErrAhead
	case after.Seq < uint64(m.first):
		return nil, chat.ErrTrimmed
	}
	return m.all[after.Seq:], nil
}

func (m *modelLog) snapshot() chat.Snapshot {
	s := chat.Snapshot{At: chat.Position{Epoch: m.epoch, Seq: uint64(len(m.all))}, First: chat.Position{Epoch: m.epoch, Seq: uint64(m.first)}}
	for _, rec := range m.all {
		if rec.Key != "" {
			s.Records = slices.DeleteFunc(s.Records, func(r chat.Record) bool { return r.Key == rec.Key })
			if !rec.Final {
				s.Records = append(s.Records, rec)
			}
		}
	}
	return s
}

func (m *modelLog) size(recs ...chat.Record) int {
	n := 0
	for _, r := range recs {
		n += 64 + len(r.ID) + len(r.Key) + len(r.Data)
	}
	return n
}

// A room keeps its side of clause F1: it holds no lock when it calls its log. Here the log asks the room something within
// each call, which would never be answered.
func TestRoomHoldsNoLockWhenItCallsItsLog(t *testing.T) {
	ctx := context.Background()
	var room atomic.Pointer[chat.Room]
	var calls atomic.Int32
	ask := func(what string) {
		r := room.Load()
		if r == nil {
			return
		}
		calls.Add(1)
		answered := make(chan struct{})
		go func() {
			r.Members()
			close(answered)
		}()
		select {
		case <-answered:
		case <-time.After(10 * time.Second):
			t.Errorf("the room holds its lock when it calls %s", what)
		}
	}
	inner := chat.NewMemoryLog(nil)
	l := &hookedLog{Log: inner}
	l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
		ask("Append of " + e.ID)
		return inner.Append(ctx, e)
	}
	l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
		stop, err := inner.Follow(after, apply)
		return func() {
			ask("stop")
			stop()
		}, err
	}
	r := newRoom(t, &chat.RoomOptions{Log: l})
	room.Store(r)
	ann, err := r.Login(ctx, "Ann", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Send(ctx, ann, "hello", nil); err != nil {
		t.Fatal(err)
	}
	again, err := r.Resume(ctx, ann.Token(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Logout(ctx, again); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{
		func() error { return r.Kick(ctx, "Bob", "") },
		func() error { return r.Shutdown(ctx, nil) },
	} {
		if _, err := r.Login(ctx, "Bob", nil); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if n := calls.Load(); n < 9 { // Joined, Said, Resumed, Left, and twice Joined and Left; stop
		t.Errorf("the log was called %d times", n)
	}
}

// A hookedLog is a log with methods of a test's own.
type hookedLog struct {
	chat.Log
	append func(ctx context.Context, e chat.Entry) (chat.Record, error)
	follow func(after chat.Position, apply func([]chat.Record, error)) (func(), error)
}

func (l *hookedLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	return l.append(ctx, e)
}

func (l *hookedLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	return l.follow(after, apply)
}
