package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/chat"
)

// A transport is one client. T1 to T7 are the clauses of [chat.Transport].
type transport struct {
	conn         net.Conn      // T1: it is read and written at the same time
	in           *bufio.Reader // Receive's own, as are
	asked, named bool          // whether a name is being asked for, and one was granted
	granted      chan bool     // the answer, by Deliver
	writing      sync.Mutex    // held by who writes
	closing      sync.Once     // T3: the first cause counts
	closed, gone chan struct{} // Close was called; and nothing runs any more
}

func newTransport(c net.Conn) *transport {
	return &transport{
		conn: c, in: bufio.NewReader(c), granted: make(chan bool, 1),
		closed: make(chan struct{}), gone: make(chan struct{}),
	}
}

func (t *transport) Receive() (chat.Request, error) {
	if t.asked { // only the answer says whether the next line is a message, or another name
		select {
		case t.named = <-t.granted:
			t.asked = false
		case <-t.closed:
			return nil, net.ErrClosed
		}
	}
	line, err := t.in.ReadSlice('\n')
	text := strings.TrimRight(string(line), "\r\n")
	for err == bufio.ErrBufferFull { // the whole line goes
		text = "\xff"
		_, err = t.in.ReadSlice('\n')
	}
	switch {
	case err != nil: // T4: who breaks off is lost, also between two lines
		return nil, fmt.Errorf("no /quit: %w", err)
	case text == "/quit": // and this is the one goodbye
		return nil, io.EOF
	case !utf8.ValidString(text): // T6
		return chat.BadRequest{Err: fmt.Errorf("not UTF-8, or over %d bytes", t.in.Size())}, nil
	case !t.named:
		t.asked = true
		return chat.LoginRequest{Ref: "name", Name: text}, nil
	}
	return chat.SendRequest{Text: text}, nil
}

func (t *transport) Deliver(b *chat.Batch) error {
	var out []byte
	for _, reply := range b.Replies() {
		switch r := reply.(type) {
		case chat.LoginReply:
			t.granted <- true
			out = fmt.Appendf(out, "Welcome, %s. /quit leaves.\n", r.User.Name)
			for _, user := range r.Start.Roster {
				out = fmt.Appendf(out, "* %s is here\n", user.Name)
			}
		case chat.ErrorReply:
			if r.Ref == "name" {
				t.granted <- false
			}
			out = fmt.Appendf(out, "! %s\n", words(r.Err))
		}
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	t.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // T5: it waits while the peer takes nothing
	select {
	case <-t.closed: // or else Close sets its deadline after this one
		return net.ErrClosed
	default:
	}
	_, err := t.conn.Write(append(out, b.Encoded(lines)...))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", chat.ErrSlow, err)
	}
	return err
}

// Close ends the other two by a deadline, at once (T2). The rest takes a second at most.
func (t *transport) Close(cause error) error {
	t.closing.Do(func() {
		close(t.closed)
		t.conn.SetDeadline(time.Now())
		go t.end(cause)
	})
	return nil
}

func (t *transport) end(cause error) {
	defer close(t.gone)
	t.writing.Lock() // when Deliver has returned
	defer t.writing.Unlock()
	defer t.conn.Close()
	t.conn.SetDeadline(time.Now().Add(time.Second))
	if cause == nil || cause == io.EOF {
		cause = errors.New("as you said")
	}
	fmt.Fprintf(t.conn, "Bye: %s\n", words(cause))
	if tcp, ok := t.conn.(*net.TCPConn); ok { // closing it with something unread would take that line back
		tcp.CloseWrite()
		io.Copy(io.Discard, tcp)
	}
}

// lines is the wire form of events.
var lines = &chat.Format{Append: func(dst []byte, e chat.Event) []byte {
	switch e := e.(type) {
	case chat.Joined:
		return fmt.Appendf(dst, "* %s joined\n", e.User.Name)
	case chat.Said:
		return fmt.Appendf(dst, "<%s> %s\n", e.User.Name, strings.Map(harmless, e.Text))
	case chat.Left:
		return fmt.Appendf(dst, "* %s left (%s)\n", e.User.Name, e.Reason)
	}
	return dst // nobody is away here, and nobody Resumed
}}

// harmless replaces what a terminal would obey, what would make a second line of a text, and what nobody sees: some of it
// turns around what follows.
func harmless(r rune) rune {
	if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
		return unicode.ReplacementChar
	}
	return r
}

func words(err error) string { return strings.TrimPrefix(err.Error(), "chat: ") }
