package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// FuzzRoom runs a program of bytes on a room and compares it with a small sequential model: the log's own order of
// events, as a second room sees it. Two bytes are an operation, see [world.step].
func FuzzRoom(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(program(seed))
	}
	f.Add([]byte("\x00\x01\x10\x00\x03\x00\x00\x01\x11\x00\x03\x00"))
	f.Fuzz(func(t *testing.T, prog []byte) {
		if len(prog) > 400 {
			prog = prog[:400]
		}
		bubble(t, func(t *testing.T) { run(t, prog) })
	})
}

// TestModel runs random programs. A failure names the seed, by which -seed repeats it, and the program, by which FuzzRoom
// does.
func TestModel(t *testing.T) {
	n := uint64(300)
	if testing.Short() {
		n = 50
	}
	if *seedFlag >= 0 {
		n = 1
	}
	for i := range n {
		seed := i + 1000*uint64(time.Now().Unix()%1_000_000) // others each time
		switch {
		case *seedFlag >= 0:
			seed = uint64(*seedFlag)
		case i < n/3:
			seed = i
		}
		prog := program(seed)
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { bubble(t, func(t *testing.T) { run(t, prog) }) }) {
			t.Fatalf("seed %d: %q", seed, prog)
		}
	}
}

// program makes a random one. Its operations come in moods, so that much of a kind happens at a time.
func program(seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	prog := make([]byte, 40+2*rnd.IntN(120))
	mood := byte(0)
	for i := 0; i < len(prog); i += 2 {
		if rnd.IntN(6) == 0 {
			mood = byte(rnd.IntN(24))
		}
		prog[i], prog[i+1] = byte(rnd.IntN(24)), byte(rnd.IntN(256))
		if rnd.IntN(3) == 0 {
			prog[i] = mood
		}
		if rnd.IntN(4) == 0 {
			prog[i] |= 0x80
		}
	}
	return prog
}

// A world is a room under test, all who use it, and what they were told.
type world struct {
	t       *testing.T
	log     *heldLog
	room    *chat.Room
	witness *chat.Subscription // of another room on the same log, whose answers are not held
	truth   []chat.Event
	in      []chat.User // the fold of truth
	users   map[string]*person
	persons []*person
	sends   []*sending
	calls   []*pendingCall // those that have not returned
	readers []*reader
	guests  []*visitor
	waited  bool // nothing else was under way when the last operation began
	waits   bool // the next begins when nothing is
	kicking bool // a kick may not have looked yet whom it meets
	over    bool
	tight   bool // the window is small
	names   int  // how many IDs were made
}

// A person is a user that logged in, or tried to: a session of the program, or all those of one connection.
type person struct {
	id      string
	session *chat.Session
	refused bool                 // the login was: so nobody may see it
	joined  int                  // how many Joined the truth has
	causes  map[chat.Reason]bool // why it may leave
	first   chat.Reason          // why it must leave; 0: any of causes
	narrow  bool                 // it is too slow soon
}

// A sending is a message and what the sender was told.
type sending struct {
	by       *person
	id       string
	text     string
	rcpt     chat.Receipt
	ok       bool // there is a receipt
	refusals int  // those that leave nothing open: if all tries were refused, nobody may see it
	unknown  bool
	tries    int
}

type pendingCall struct {
	done   chan struct{}
	err    error
	cancel context.CancelFunc
	then   func(err error)
	person *person // of a login
}

type reader struct {
	sub     *chat.Subscription
	got     []chat.Event
	stalled bool
	closed  bool
	ended   bool
}

// A visitor is a connection.
type visitor struct {
	*guest
	person    *person
	spectator bool
	cancel    context.CancelFunc
	resume    func() // not nil while it is stalled
	gone      bool
	asked     int
	sent      map[string]string // ref: text
	repeats   map[string]bool   // refs of messages that were sent before
}

var modelNames = []string{"Ann", "Bob", "Cid", "Dot", "Eve"}

func run(t *testing.T, prog []byte) {
	w := &world{t: t, log: newHeldLog(nil), users: make(map[string]*person)}
	o := &chat.RoomOptions{Log: w.log}
	if len(prog) > 0 && prog[0]&1 == 0 {
		o.Window, w.tight = 3000, true
	}
	w.room = newRoom(t, o)
	w.witness = subscribe(t, newRoom(t, &chat.RoomOptions{Log: w.log.MemoryLog}), &chat.SubscribeOptions{MaxUnread: -1})
	for len(prog) >= 2 && !w.over && !t.Failed() {
		op, arg := prog[0], prog[1]
		prog = prog[2:]
		w.waits = op&0x80 == 0
		w.step(op&0x7f, int(arg))
		if op&0x80 == 0 {
			w.absorb()
		} else {
			w.waited = false
		}
	}
	if !w.over {
		w.absorb()
		w.end(len(prog))
	}
}

// step runs one operation.
func (w *world) step(op byte, arg int) {
	name := modelNames[arg%len(modelNames)]
	switch op % 24 {
	case 0, 1:
		w.login(name)
	case 2, 3:
		if p := w.pick(arg); p != nil {
			w.send(p, arg)
		}
	case 4:
		if len(w.sends) > 0 {
			w.resend(w.sends[arg%len(w.sends)])
		}
	case 5:
		if p := w.pick(arg); p != nil {
			w.logout(p)
		}
	case 6:
		w.kick(name)
	case 7:
		w.subscribe(arg)
	case 8:
		if n := len(w.readers); n > 0 {
			w.readers[arg%n].stalled = !w.readers[arg%n].stalled
		}
	case 9:
		if n := len(w.readers); n > 0 {
			r := w.readers[arg%n]
			r.closed = true
			r.sub.Close()
		}
	case 10, 11:
		if len(w.guests) < 8 {
			w.visit(arg)
		}
	case 12, 13, 14, 15, 16, 17:
		if n := len(w.guests); n > 0 {
			w.visitor(w.guests[arg%n], op%24, arg/n)
		}
	case 18, 19:
		kinds := []func(chat.Entry) bool{isJoin, isSaid, isLeft, func(chat.Entry) bool { return true }}
		fates := []fate{hold, hold, landsUnknown, lateUnknown, lostUnknown, full, hold}
		w.log.set(only(kinds[arg%4], fates[arg/4%len(fates)]))
	case 20:
		if arg%4 == 0 {
			w.log.drop()
		}
		w.log.set(nil)
		w.log.release()
	case 21:
		if n := len(w.calls); n > 0 {
			w.calls[arg%n].cancel()
		}
	case 22:
		time.Sleep([]time.Duration{time.Millisecond, 60 * time.Millisecond, time.Second, 12 * time.Second}[arg%4])
	case 23:
		if p := w.pick(arg); p != nil && arg%8 == 0 && len(w.truth) < 1500 {
			for range 30 {
				w.send(p, 1)
			}
		}
		if arg == 255 {
			w.absorb()
			w.end(arg)
		}
	}
}

// pick returns a session of the program.
func (w *world) pick(arg int) *person {
	var with []*person
	for _, p := range w.persons {
		if p.session != nil {
			with = append(with, p)
		}
	}
	if len(with) == 0 {
		return nil
	}
	return with[len(with)-1-arg%min(len(with), 4)]
}

func (w *world) newID(prefix string) string {
	w.names++
	return fmt.Sprint(prefix, w.names)
}

func (w *world) person(id string) *person {
	p := &person{id: id, causes: make(map[chat.Reason]bool)}
	if w.kicking {
		p.cause(chat.Kicked, false)
	}
	w.users[id] = p
	w.persons = append(w.persons, p)
	return p
}

// quiet reports whether the next call has its answer at once, so that the model can foretell it.
func (w *world) quiet() bool {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.waited && w.waits && len(w.calls) == 0 && w.log.rule == nil && len(w.log.queue) == 0
}

// isIn reports whether a person is in.
func (w *world) isIn(p *person) bool {
	return slices.ContainsFunc(w.in, func(u chat.User) bool { return u.ID == p.id })
}

// holder returns who has a name.
func (w *world) holder(name string) *person {
	for _, u := range w.in {
		if u.Name == name {
			return w.users[u.ID]
		}
	}
	return nil
}

// cause notes a reason to leave. certain: it is sure to come before any that follows.
func (p *person) cause(reason chat.Reason, certain bool) {
	if len(p.causes) == 0 && certain && !p.narrow {
		p.first = reason
	}
	p.causes[reason] = true
}

// call begins a call, whose answer must be want if that is not errAny.
func (w *world) call(what string, want error, f func(ctx context.Context) error, then func(err error)) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &pendingCall{done: make(chan struct{}), cancel: cancel}
	c.then = func(err error) {
		cancel()
		if want != errAny && !errors.Is(err, want) {
			w.t.Errorf("%s: %v, want %v", what, err, want)
		}
		then(err)
	}
	go func() {
		c.err = f(ctx)
		close(c.done)
	}()
	w.calls = append(w.calls, c)
}

var errAny = errors.New("any")

// open reports whether an error leaves open what became of a call.
func open(err error) bool { return errors.Is(err, chat.ErrUnknown) }

func (w *world) login(name string) {
	p := w.person(w.newID("p"))
	want := errAny
	if w.quiet() {
		want = nil
		if w.holder(name) != nil {
			want = chat.ErrNameTaken
		}
	}
	var s *chat.Session
	w.call("login of "+name, want, func(ctx context.Context) (err error) {
		s, err = w.room.Login(ctx, name, &chat.LoginOptions{ID: p.id})
		return err
	}, func(err error) {
		switch {
		case err == nil:
			if p.session = s; p.joined != 1 {
				w.t.Errorf("a login was granted, and the log has %d Joined of it", p.joined)
			}
		case !open(err):
			p.refused = true
		}
	})
	w.calls[len(w.calls)-1].person = p
}

func (w *world) send(p *person, arg int) {
	m := &sending{by: p, text: w.newID("t") + strings.Repeat(".", 60)}
	if arg%3 != 0 {
		m.id = "id" + m.text[:len(m.text)-60]
	}
	w.sends = append(w.sends, m)
	w.resend(m)
}

func (w *world) resend(m *sending) {
	want := errAny
	if len(m.by.causes) == 0 && w.quiet() {
		want = nil
	}
	if m.id == "" && m.tries > 0 {
		return // that would be another message
	}
	m.tries++
	var rcpt chat.Receipt
	w.call("send", want, func(ctx context.Context) (err error) {
		rcpt, err = w.room.Send(ctx, m.by.session, m.text, &chat.SendOptions{ID: m.id})
		return err
	}, func(err error) {
		switch {
		case err == nil:
			if m.ok && m.rcpt != rcpt {
				w.t.Errorf("a message has the receipt %v, and had the receipt %v", rcpt, m.rcpt)
			}
			m.rcpt, m.ok = rcpt, true
		case open(err), errors.Is(err, context.Canceled):
			m.unknown = true
		case m.ok:
			if !errors.Is(err, chat.ErrClosed) && !w.forgets() {
				w.t.Errorf("a message that has a receipt is refused: %v", err)
			}
		case m.unknown && (errors.Is(err, chat.ErrClosed) || errors.Is(err, chat.ErrFull)): // an answer to the retry
		default:
			m.refusals++
		}
	})
}

// forgets reports whether IDs may have been forgotten.
func (w *world) forgets() bool { return len(w.truth) > 256 }

func (w *world) logout(p *person) {
	want := errAny
	if w.quiet() && len(p.causes) == 0 {
		want = nil
	}
	if !w.isIn(p) && len(p.causes) > 0 && w.quiet() {
		want = chat.ErrSession
	}
	began := len(p.causes) == 0
	p.cause(chat.Logout, w.waited && w.waits)
	w.call("logout", want, func(ctx context.Context) error { return w.room.Logout(ctx, p.session) }, func(err error) {
		if began && p.first == chat.Logout && errors.Is(err, chat.ErrSession) {
			w.t.Error("the first to end a session is told that it has ended")
		}
		if err == nil && w.isIn(p) {
			w.t.Error("a logout is done, and the user is in")
		}
	})
}

func (w *world) kick(name string) {
	want := errAny
	p := w.holder(name)
	if w.quiet() {
		switch {
		case p == nil:
			want = chat.ErrNotMember
		case len(p.causes) == 0: // else it may be between two tries to leave
			want = nil
		}
	}
	for _, q := range w.persons { // it may be under way
		if q != p && !(w.waited && w.waits) {
			q.cause(chat.Kicked, false)
		}
	}
	w.kicking = true
	if p != nil {
		p.cause(chat.Kicked, w.waited && w.waits)
	}
	w.call("kick of "+name, want, func(ctx context.Context) error { return w.room.Kick(ctx, name, "note") }, func(err error) {
		if err == nil && p != nil && p.id[0] == 'p' && w.isIn(p) {
			w.t.Errorf("%s was kicked, and is in", name)
		}
	})
}

func (w *world) subscribe(arg int) {
	o := &chat.SubscribeOptions{Last: arg % 4 * (arg % 5)}
	if arg%2 == 1 && len(w.truth) > 0 {
		o.After = w.truth[arg*7%len(w.truth)].Meta().Pos
		o.Fresh = arg%3 == 0
	}
	if arg%7 == 0 {
		o.MaxUnread = 1000
	}
	sub, err := w.room.Subscribe(context.Background(), o)
	switch {
	case err == nil:
	case errors.Is(err, chat.ErrTrimmed) && !o.After.IsZero() && !o.Fresh:
		return
	default:
		w.t.Errorf("subscribe %+v: %v", o, err)
		return
	}
	if st := sub.Start(); st.Resumed && st.At != o.After || st.Resumed != (st.Roster == nil) {
		w.t.Errorf("asked for %v, the start is %+v", o.After, st)
	}
	w.readers = append(w.readers, &reader{sub: sub})
}

func (w *world) visit(arg int) {
	v := &visitor{guest: newGuest(w.t), spectator: arg&1 == 0, sent: make(map[string]string), repeats: make(map[string]bool)}
	v.person = w.person(w.newID("g"))
	o := &chat.ServeOptions{Spectators: v.spectator, UserID: v.person.id, Rate: -1, LoginTimeout: -1}
	if arg&2 == 0 {
		o.MaxUnread = 1000
	}
	v.person.narrow = w.tight || arg&2 == 0
	var ctx context.Context
	ctx, v.cancel = context.WithCancel(context.Background())
	v.serve(ctx, w.room, o)
	w.guests = append(w.guests, v)
}

// visitor runs an operation of a connection.
func (w *world) visitor(v *visitor, op byte, arg int) {
	certain := w.waited && w.waits && v.resume == nil && w.quiet()
	ask := func(make func(ref string) chat.Request) {
		if v.gone {
			return
		}
		v.asked++
		v.in <- make(fmt.Sprint(v.asked))
	}
	switch op {
	case 12, 13:
		if !v.gone && !w.quiet() {
			v.person.cause(chat.Lost, false) // if it lands when nobody waits for it any more
		}
		ask(func(ref string) chat.Request {
			req := chat.LoginRequest{Ref: ref, Name: modelNames[arg%len(modelNames)]}
			if arg%3 == 0 {
				req.Hear.Last = arg % 10
			}
			return req
		})
	case 14:
		ask(func(ref string) chat.Request {
			req := chat.SendRequest{Ref: ref, Text: w.newID("t") + strings.Repeat(".", 60)}
			if arg%2 == 0 {
				req.ID = "id" + ref
			}
			v.sent[ref] = req.Text
			if arg%4 == 1 && len(v.sent) > 1 { // one that was sent before, perhaps
				req.ID, req.Text = "id"+fmt.Sprint(v.asked-1), v.sent[fmt.Sprint(v.asked-1)]
				v.sent[ref], v.repeats[ref] = req.Text, true
			}
			return req
		})
	case 15:
		switch arg % 4 {
		case 0:
			ask(func(ref string) chat.Request {
				return chat.SubscribeRequest{Ref: ref, Hear: chat.SubscribeOptions{Last: arg % 5}}
			})
		case 1:
			ask(func(ref string) chat.Request { return chat.BadRequest{Ref: ref, Err: io.ErrUnexpectedEOF} })
		default:
			if !v.gone {
				v.person.cause(chat.Logout, certain && w.isIn(v.person))
			}
			ask(func(ref string) chat.Request { return chat.LogoutRequest{Ref: ref} })
		}
	case 16:
		if v.gone || arg%2 == 0 { // not so often
			return
		}
		v.gone = true
		switch arg / 2 % 3 {
		case 0:
			v.person.cause(chat.Goodbye, certain && w.isIn(v.person))
			v.person.cause(chat.Lost, false) // a login that is under way then
			v.goodbye()
		case 1:
			v.person.cause(chat.Lost, certain && w.isIn(v.person))
			v.lose(io.ErrUnexpectedEOF)
		case 2:
			v.person.cause(chat.Lost, certain && w.isIn(v.person))
			v.cancel()
		}
	case 17:
		if v.resume == nil {
			v.person.cause(chat.Slow, false)
			v.resume = v.stall()
		} else {
			v.resume()
			v.resume = nil
		}
	}
}

// end ends the room, and checks what is left.
func (w *world) end(arg int) {
	w.over = true
	held := arg%5 == 0
	if !held {
		w.log.set(nil)
		w.log.release()
		w.absorb()
		time.Sleep(time.Minute) // what is to be tried again is
		w.waits = true
		w.absorb()
	}
	for _, p := range w.persons {
		p.cause(chat.Shutdown, false)
	}
	if arg%2 == 0 {
		for _, v := range w.guests {
			if v.resume != nil {
				v.resume()
				v.resume = nil
			}
		}
		for _, r := range w.readers {
			r.stalled = false
		}
	}
	switch done := make(chan error, 1); arg % 3 {
	case 0:
		w.room.Close()
	default:
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begin := time.Now()
		go func() { done <- w.room.Shutdown(ctx, nil) }()
		for len(done) == 0 {
			w.absorb()
			time.Sleep(time.Second)
		}
		err := <-done
		if arg%2 == 0 && !held && err != nil {
			w.t.Errorf("shutdown: %v after %v", err, time.Since(begin))
		}
	}
	w.log.set(nil)
	w.log.release()
	synctest.Wait()
	for _, c := range w.calls {
		c.cancel()
	}
	for _, r := range w.readers {
		r.stalled = false
	}
	w.absorb()
	if len(w.calls) > 0 {
		w.t.Errorf("%d calls have not returned", len(w.calls))
	}
	for _, v := range w.guests {
		select {
		case <-v.served:
		default:
			w.t.Errorf("a connection is served by a room that is closed")
		}
		v.cancel()
	}
	for _, r := range w.readers {
		if !r.ended {
			w.t.Errorf("a subscription goes on in a room that is closed")
		}
	}
	if st := w.room.Stats(); st.Connections+st.Subscribers != 0 || !held && st.Members != 0 {
		w.t.Errorf("left in the room: %+v", st)
	}
	if !held && len(w.in) > 0 {
		w.t.Errorf("left in the log: %v", w.in)
	}
	for _, m := range w.sends {
		n := 0
		for _, e := range w.truth {
			if said, ok := e.(chat.Said); ok && said.Text == m.text {
				n++
				if m.ok && (said.At.Pos != m.rcpt.Pos || said.ID != m.rcpt.ID || said.User.ID != m.by.id) {
					w.t.Errorf("the receipt %v is of %v", m.rcpt, said)
				}
			}
		}
		if n > 1 || m.ok && n != 1 || m.refusals == m.tries && n != 0 {
			w.t.Errorf("%d events of %+v", n, *m)
		}
	}
}
