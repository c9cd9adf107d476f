package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A load is the clients of one server, and one loop that reads them all. The first client is also the one that speaks.
type load struct {
	dialect *dialect
	clients []*client
	size    int           // of a message's text, in bytes
	wait    time.Duration // how long nothing may come in that is due, before it counts as lost

	ep     int // epoll's descriptor
	events [256]unix.EpollEvent
	buf    []byte

	began time.Time
	sent  []time.Duration // after began, by number: when each message was sent
	have  int             // how many messages the clients have got, together
	late  []time.Duration // how long after it was sent each message came, if timed
	timed bool
	err   error // what is wrong with the driver itself
}

// patience is a load's wait where nothing else is said.
const patience = 3 * time.Second

// textSize is how long messages are where nothing else is said.
const textSize = 64

// connect makes n clients of a server that all hear, and are heard.
func connect(addr string, d *dialect, n int) (*load, error) {
	l := &load{dialect: d, size: textSize, wait: patience, buf: make([]byte, 256<<10), began: time.Now()}
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for range n {
		if err := l.add(addr, d.path); err != nil {
			l.close()
			return nil, fmt.Errorf("client %d: %w", len(l.clients), err)
		}
	}
	return l, nil
}

func (l *load) add(addr, path string) error {
	c, err := dial(addr, path, l.dialect, unix.NsecToTimeval(int64(10*time.Second)))
	if err != nil {
		return err
	}
	i := len(l.clients)
	l.clients = append(l.clients, c)
	if l.digest(i, c.part); c.ended {
		return nil
	}
	return l.watch(i, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
}

func (l *load) close() {
	for _, c := range l.clients {
		if !c.ended {
			unix.Close(c.fd)
		}
	}
	unix.Close(l.ep)
}

func (l *load) watch(i, op int, events uint32) error {
	return unix.EpollCtl(l.ep, op, l.clients[i].fd, &unix.EpollEvent{Events: events, Fd: int32(i)})
}

// login logs the speaker in, where the dialect has that.
func (l *load) login() {
	if l.dialect.login != nil {
		l.write(0, l.dialect.login("ann"))
	}
}

// gather waits until all clients hear what is said, where no answer tells: such a server may let a client in after it has
// answered its handshake. What is said for that holds no number, and again if it came too early for somebody.
func (l *load) gather() {
	missing := func() bool {
		return slices.ContainsFunc(l.clients, func(c *client) bool { return !c.here && !c.ended })
	}
	again := l.wait / 30
	for start := time.Now(); missing() && time.Since(start) < l.wait; {
		l.write(0, l.dialect.say(gathering))
		for said := time.Now(); missing() && time.Since(said) < again; {
			l.poll(again)
		}
	}
}

const gathering = "who is here?"

// speak says the next message. It does not wait.
func (l *load) speak() {
	l.sent = append(l.sent, time.Since(l.began))
	l.write(0, l.dialect.say(numbered(len(l.sent)-1, l.size)))
}

// join lets client i log in, under a name with the next number; where there is no login, it says so.
func (l *load) join(i int) {
	text := numbered(len(l.sent), 0)
	l.sent = append(l.sent, time.Since(l.began))
	if l.dialect.login == nil {
		l.write(i, l.dialect.say("joined "+text))
		return
	}
	l.write(i, l.dialect.login(strings.TrimSpace(text)))
}

// pace says n messages, gap apart, and reads meanwhile.
func (l *load) pace(n int, gap time.Duration) {
	start := time.Now()
	for k := range n {
		for due := start.Add(time.Duration(k) * gap); time.Now().Before(due); {
			l.poll(time.Until(due))
		}
		l.speak()
		l.poll(0)
	}
}

// flood says n messages as fast as the server takes them.
func (l *load) flood(n int) {
	for range n {
		l.speak()
	}
}

// finish reads until every client that reads has got all that was said, or nothing more comes.
func (l *load) finish() {
	for last, since := l.have, time.Now(); l.due() > 0 && time.Since(since) < l.wait; {
		l.poll(l.wait / 10)
		if l.have != last {
			last, since = l.have, time.Now()
		}
	}
}

// due is how many messages are still to come.
func (l *load) due() int {
	n := 0
	for _, c := range l.clients {
		if !c.deaf && !c.ended {
			n += max(len(l.sent)-c.count, 0)
		}
	}
	return n
}

// faults says what was wrong with what the clients got; empty if nothing was.
func (l *load) faults() string {
	var lost, doubled, disorder, ended int
	for _, c := range l.clients {
		if c.deaf {
			continue
		}
		disorder += c.disorder
		lost += max(len(l.sent)-c.count, 0)
		doubled += max(c.count-len(l.sent), 0)
		if c.ended {
			ended++
		}
	}
	var says []string
	for _, f := range []struct {
		n    int
		what string
	}{{lost, "lost"}, {doubled, "doubled"}, {disorder, "out of order"}, {ended, "clients ended"}} {
		if f.n > 0 {
			says = append(says, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if l.err != nil {
		says = append(says, l.err.Error())
	}
	return strings.Join(says, ", ")
}

// poll reads what has come in; if nothing has, it waits for it, at most that long.
func (l *load) poll(wait time.Duration) {
	n, err := unix.EpollWait(l.ep, l.events[:], int((wait+time.Millisecond-1)/time.Millisecond))
	if err != nil && err != unix.EINTR {
		l.err = fmt.Errorf("epoll: %w", err)
		time.Sleep(wait)
	}
	for _, e := range l.events[:max(n, 0)] {
		if e.Events&unix.EPOLLOUT != 0 {
			l.flush(int(e.Fd))
		}
		if e.Events&^unix.EPOLLOUT != 0 {
			l.read(int(e.Fd))
		}
	}
}

func (l *load) read(i int) {
	c := l.clients[i]
	have := copy(l.buf, c.part)
	n, err := unix.Read(c.fd, l.buf[have:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		l.end(i)
		return
	}
	l.digest(i, l.buf[:have+n])
	if len(c.part) == len(l.buf) {
		l.err = errors.New("a frame is too large for the driver")
		l.end(i)
	}
}

// digest acts on what has come in for client i, and keeps what is not whole yet.
func (l *load) digest(i int, rest []byte) {
	c := l.clients[i]
	var now time.Duration
	if l.timed {
		now = time.Since(l.began)
	}
	for !c.ended {
		f, after, ok := cutFrame(rest)
		if !ok {
			break
		}
		rest = after
		switch f.op {
		case opPing:
			l.writeFrame(i, opPong, string(f.payload))
		case opClose:
			c.goodbye = "without a code"
			if len(f.payload) >= 2 {
				c.goodbye = fmt.Sprintf("%d %s", binary.BigEndian.Uint16(f.payload), f.payload[2:])
			}
			l.end(i)
		default:
			l.fragment(i, f, now)
		}
	}
	c.part = append(c.part[:0], rest...)
}

func (l *load) fragment(i int, f frame, now time.Duration) {
	c := l.clients[i]
	if f.final && len(c.message) == 0 {
		l.take(i, f.payload, now)
		return
	}
	if c.message = append(c.message, f.payload...); f.final {
		l.take(i, c.message, now)
		c.message = c.message[:0]
	}
}

// take looks at a whole payload.
func (l *load) take(i int, p []byte, now time.Duration) {
	c, d := l.clients[i], l.dialect
	c.here = c.here || bytes.Contains(p, []byte(gathering))
	if d.ping != "" && hasLine(p, d.ping) {
		l.write(i, d.pong)
	}
	if d.lists != "" && begins(p, d.lists) {
		c.listed = bytes.Count(p, []byte("#"))
		return
	}
	if d.skips != nil && d.skips(p) {
		return
	}
	for {
		at := bytes.IndexByte(p, '#')
		if at < 0 || len(p) < at+9 {
			return
		}
		n := 0
		for _, digit := range p[at+1 : at+9] {
			n = 10*n + int(digit-'0')
		}
		if n != c.next {
			c.disorder++
		}
		c.next = n + 1
		c.count++
		l.have++
		if l.timed && n >= 0 && n < len(l.sent) {
			l.late = append(l.late, now-l.sent[n])
		}
		p = p[at+9:]
	}
}

// hasLine reports whether p is line, or has it between newlines.
func hasLine(p []byte, line string) bool {
	for rest, more := p, true; more; {
		var first []byte
		if first, rest, more = bytes.Cut(rest, []byte("\n")); string(first) == line {
			return true
		}
	}
	return false
}

func (l *load) end(i int) {
	c := l.clients[i]
	c.ended = true
	unix.Close(c.fd) // which also takes it from epoll
}

func (l *load) write(i int, payload string) { l.writeFrame(i, opText, payload) }

func (l *load) writeFrame(i int, op byte, payload string) {
	c := l.clients[i]
	empty := len(c.out) == 0
	if c.out = appendClientFrame(c.out, op, payload); empty {
		l.flush(i)
	}
}

// flush writes what the socket takes, and has itself called again for the rest.
func (l *load) flush(i int) {
	c := l.clients[i]
	if c.ended || len(c.out) == 0 {
		return
	}
	n, err := unix.Write(c.fd, c.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		l.end(i)
		return
	}
	c.out = c.out[:copy(c.out, c.out[max(n, 0):])]
	if c.full == (len(c.out) > 0) {
		return
	}
	events := uint32(unix.EPOLLIN)
	if c.full = !c.full; c.full {
		events |= unix.EPOLLOUT
	}
	if err := l.watch(i, unix.EPOLL_CTL_MOD, events); err != nil {
		l.err = fmt.Errorf("epoll: %w", err)
	}
}

// pause makes client i stop reading, if it is still there.
func (l *load) pause(i int) error {
	if l.clients[i].ended {
		return nil
	}
	l.clients[i].deaf = true
	return l.watch(i, unix.EPOLL_CTL_DEL, 0)
}

// listen lets a client that has paused read on. It stays one of which nothing is due.
func (l *load) listen(i int) error {
	if l.clients[i].ended {
		return nil
	}
	return l.watch(i, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
}
