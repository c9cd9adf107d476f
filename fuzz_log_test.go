package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// FuzzLog opens a room on a log of any records at all, and lets more come: between the parts of the opening, and while it is
// open. The room has to show exactly the events of the records, or to stop with a RecordError at the first that cannot be,
// which a simpler fold foretells; never another one, and none is skipped.
//
// The first byte says how many records the log keeps. Then each operation is three bytes, see [logWriter.step]; a zero as
// the first of them goes on to the next part.
func FuzzLog(f *testing.F) {
	const in, say, out, back, next = "\x01", "\x02", "\x03", "\x04", "\x00\x00\x00"
	f.Add([]byte("\x40" + in + "\x00\x00" + say + "\x00\x00" + in + "\x01\x00" + next + back + "\x00\x00" + next + out + "\x01\x00" + next + say + "\x00\x00"))
	f.Add([]byte("\x02" + in + "\x00\x00" + in + "\x01\x00" + in + "\x02\x00" + say + "\x02\x00" + next + next + next + out + "\x00\x00" + out + "\x01\x00"))
	f.Add([]byte("\x40" + in + "\x00\x00" + next + next + next + "\x05\x08\x01" + say + "\x00\x00"))
	f.Add([]byte("\x03" + in + "\x00\x00" + "\x06\x00\x01" + next + next + next + out + "\x00\x00" + say + "\x01\x00"))
	f.Add([]byte("\x01" + in + "\x00\x00" + "\x06\x00\x51" + next + next + next + out + "\x00\x00" + "\x06\x00\x34"))
	f.Add([]byte("\x08" + in + "\x00\x00" + in + "\x01\x00" + "\x06\x01\x53" + next + next + next + out + "\x00\x00"))
	for part := range 4 { // each way to be wrong, in each part
		p := "\x08" + in + "\x01\x00" + say + "\x01\x00"
		for range part {
			p += next
		}
		f.Add([]byte(p + "\x05\x01\x10"))
		f.Add([]byte(p + "\x07\x03\x01" + say + "\x01\x00"))
		f.Add([]byte(p + "\x09\x01\x09" + say + "\x01\x00"))
		for how := range byte(6) {
			for kind := range byte(4) {
				f.Add([]byte(p + string([]byte{6, kind % 2, how<<4 | kind}) + say + "\x01\x00"))
				f.Add([]byte(p + string([]byte{8, 1 - kind%2, how<<4 | kind}) + say + "\x01\x00"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 || len(program) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runLog(t, program) })
	})
}

func runLog(t *testing.T, program []byte) {
	ctx := context.Background()
	w := &logWriter{t: t, log: NewMemoryLog(&MemoryLogOptions{MaxRecords: 1 + int(program[0]%64)}), members: map[string]body{}, program: program[1:]}
	w.part()
	snap, err := w.log.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := &plainFold{}
	want.load(snap)
	r, err := NewRoom(&RoomOptions{Log: &growingLog{MemoryLog: w.log, writer: w}})
	kept, readErr := w.log.Read(ctx, snap.First, 1<<20)
	if readErr != nil { // trimmed since: the room began anew, if it had found nothing bad by then; and so does the fold
		if err != nil {
			if !errors.As(err, new(RecordError)) {
				t.Fatalf("NewRoom: %v", err)
			}
			return
		}
		r.Close()
		if snap, err = w.log.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
		want = &plainFold{}
		want.load(snap)
		r, err = NewRoom(&RoomOptions{Log: w.log})
		if kept, readErr = w.log.Read(ctx, snap.First, 1<<20); readErr != nil {
			t.Fatal(readErr)
		}
	}
	want.take(kept)
	if want.err != nil {
		var got RecordError
		if !errors.As(err, &got) || got.Pos != want.err.Pos {
			t.Fatalf("NewRoom: %v; the first bad record is %v", err, *want.err)
		}
		return
	}
	if err != nil {
		t.Fatalf("NewRoom: %v; nothing is wrong with the records", err)
	}
	defer r.Close()
	sub, err := r.Subscribe(ctx, &SubscribeOptions{After: want.first, MaxUnread: -1})
	if err != nil {
		t.Fatal(err)
	}
	var got []Event
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range sub.Events() {
			got = append(got, e)
		}
	}()
	synctest.Wait()
	w.tail = true
	w.part()
	want.take(w.appended)
	if want.err == nil {
		synctest.Wait()
		select {
		case <-done:
			t.Fatalf("the subscription ended with %v; nothing is wrong with the records", sub.Err())
		default:
			sub.Close()
		}
	}
	<-done
	if d := gocmp.Diff(want.events, got); d != "" {
		t.Fatalf("events (-want +got):\n%s", d)
	}
	if d := gocmp.Diff(want.roster(), r.Members()); d != "" {
		t.Fatalf("members (-want +got):\n%s", d)
	}
	if n := r.Stats().Members; n != len(want.members) {
		t.Fatalf("%d members in Stats, not %d", n, len(want.members))
	}
	var bad RecordError
	if want.err != nil && (!errors.As(sub.Err(), &bad) || bad.Pos != want.err.Pos) {
		t.Fatalf("the subscription ended with %v; the first bad record is %v", sub.Err(), *want.err)
	}
	began := time.Now()
	if r.Close(); time.Since(began) > closeTimeout {
		t.Fatalf("Close took %v", time.Since(began))
	}
}

// A growingLog gets more records between the parts of a room's opening.
type growingLog struct {
	*MemoryLog
	writer *logWriter
	parts  int
}

func (l *growingLog) Snapshot(ctx context.Context) (Snapshot, error) {
	s, err := l.MemoryLog.Snapshot(ctx)
	if l.parts == 0 {
		l.parts++
		l.writer.part()
	}
	return s, err
}

func (l *growingLog) Follow(after Position, apply func([]Record, error)) (func(), error) {
	if l.parts == 1 {
		l.parts++
		l.writer.part()
	}
	return l.MemoryLog.Follow(after, apply)
}

// A logWriter appends what a program says, without a guard.
type logWriter struct {
	t        *testing.T
	log      *MemoryLog
	program  []byte
	n        int             // of records
	members  map[string]body // by key: those that would be in if nothing were wrong
	tail     bool
	appended []Record // while tail
}

// part runs the program up to its next part.
func (w *logWriter) part() {
	for len(w.program) >= 3 {
		op, a, b := w.program[0], w.program[1], w.program[2]
		w.program = w.program[3:]
		if op == 0 {
			return
		}
		w.step(op, a, b)
	}
}

// step appends one record: one that fits (1 to 4: joined, said, left, resumed), one that has a byte changed (5), that is
// under another name, session, user, join, key or of another kind (6), that is cut (7), of which the rest differs (8), or
// whose data is any two bytes (9).
func (w *logWriter) step(op, a, b byte) {
	w.n++
	key := fmt.Sprint("k", a%3)
	m, in := w.members[key]
	kind := op
	if op > 4 {
		kind = 1 + b%4
	}
	switch {
	case kind == kindJoined || !in:
		m = body{kind: kindJoined, session: fmt.Sprint("s", w.n), user: User{Name: key, ID: string('0' + a%2)}, token: fmt.Sprint("t", w.n%5)}
		if op <= 4 && in {
			return
		}
	default:
		m.kind = kind
	}
	b >>= 4
	if op == 6 {
		other := w.members[fmt.Sprint("k", (a+1)%3)]
		switch b % 6 {
		case 0:
			m.session = cmp.Or(other.session, "x")
		case 1:
			m.user.Name += "x"
		case 2:
			m.join += uint64(1 + b)
		case 3:
			key = fmt.Sprint("k", (a+1)%3)
		case 4:
			m.kind = 1 + (m.kind+b)%5
		case 5:
			m.join, m.session = cmp.Or(other.join, 1), m.session+"x"
		}
	}
	id := m.session
	switch m.kind {
	case kindSaid:
		m.text = fmt.Sprint("text ", w.n)
		id += "/"
	case kindLeft:
		m.reason = Logout
		id += "!left"
	}
	e := Entry{ID: fmt.Sprint(id, w.n), Key: key, Final: m.kind == kindLeft, Data: m.encode()}
	if m.kind == kindSaid {
		e.Key = ""
	}
	switch op {
	case 5:
		e.Data[int(a)%len(e.Data)] ^= 1 << (b % 8)
	case 7:
		e.Data = e.Data[:int(a)%len(e.Data)]
	case 8:
		switch b % 4 {
		case 0:
			e.Final = !e.Final
		case 1:
			e.ID = fmt.Sprint("other", w.n)
		case 2:
			e.Key = fmt.Sprint("k", a%5)
		case 3:
			e.Key = ""
		}
	case 9:
		e.Data = []byte{a, b}
	}
	rec, err := w.log.Append(context.Background(), e)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.tail {
		w.appended = append(w.appended, rec)
		synctest.Wait() // so that it is read before the room may end
	}
	if op > 4 {
		return
	}
	switch m.kind {
	case kindJoined:
		m.join = rec.Pos.Seq
		w.members[key] = m
	case kindLeft:
		delete(w.members, key)
	}
}

// A plainFold says what a room should make of records.
type plainFold struct {
	at, first Position
	prev      Position
	members   []plainMember // in the order of joining
	events    []Event
	err       *RecordError // the first that is bad
}

type plainMember struct {
	key, session string
	user         User
	join         uint64
}

func (p *plainFold) bad(rec Record, why string) {
	if p.err == nil {
		p.err = &RecordError{rec.Pos, why}
	}
}

func (p *plainFold) load(s Snapshot) {
	p.at, p.first, p.prev = s.At, s.First, s.First
	for _, rec := range s.Records {
		b, err := decode(rec)
		m := plainMember{rec.Key, b.session, b.user, joinSeq(rec, b)}
		same := func(o plainMember) bool { return o.session == m.session || o.join == m.join }
		if err != nil || b.kind != kindJoined && b.kind != kindResumed || slices.ContainsFunc(p.members, same) {
			p.bad(rec, "in the snapshot")
			return
		}
		p.members = append(p.members, m)
	}
	slices.SortFunc(p.members, func(a, b plainMember) int { return cmp.Compare(a.join, b.join) })
}

// take goes on with records, up to a bad one.
func (p *plainFold) take(recs []Record) {
	for _, rec := range recs {
		if p.err != nil {
			return
		}
		b, err := decode(rec)
		if err != nil {
			p.bad(rec, "cannot be read")
			return
		}
		if rec.Pos.Seq > p.at.Seq && !p.fits(rec, b) {
			p.bad(rec, "does not fit")
			return
		}
		p.events = append(p.events, event(rec, b, p.prev))
		p.prev = rec.Pos
	}
}

func (p *plainFold) fits(rec Record, b body) bool {
	m := plainMember{rec.Key, b.session, b.user, b.join}
	switch b.kind {
	case kindJoined:
		if slices.ContainsFunc(p.members, func(o plainMember) bool { return o.key == m.key || o.session == m.session }) {
			return false
		}
		m.join = rec.Pos.Seq
		p.members = append(p.members, m)
		return true
	case kindSaid:
		return slices.ContainsFunc(p.members, func(o plainMember) bool {
			return o.session == m.session && o.user == m.user && o.join == m.join
		})
	}
	i := slices.Index(p.members, m)
	if i >= 0 && b.kind == kindLeft {
		p.members = slices.Delete(p.members, i, i+1)
	}
	return i >= 0
}

func (p *plainFold) roster() []User {
	users := []User{}
	for _, m := range p.members {
		users = append(users, m.user)
	}
	return users
}
