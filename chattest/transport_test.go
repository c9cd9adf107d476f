package chattest

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	gocmp "github.com/google/go-cmp/cmp"

	"example.com/chat"
)

// A pipePeer is a Pipe's client as the kit wants it.
type pipePeer struct{ *Client }

func (p pipePeer) Malformed() error { return p.Send(chat.BadRequest{Ref: "bad"}) }
func (p pipePeer) Goodbye() error   { p.Client.Goodbye(); return nil }
func (p pipePeer) Drop(half bool) error {
	if half {
		p.Lose(io.ErrUnexpectedEOF)
	}
	p.Lose(nil)
	return nil
}

func connectPipe() (Ends, error) {
	transport, client := Pipe()
	return Ends{Transport: transport, Peer: pipePeer{client}}, nil
}

func TestPipeIsATransport(t *testing.T) {
	TestTransport(t, Connector{Open: connectPipe, Bubble: true})
}

// TestPipeInRealTime does the same without a bubble.
func TestPipeInRealTime(t *testing.T) {
	if err := CheckTransport(Connector{Open: connectPipe}); err != nil {
		t.Error(err)
	}
}

// TestTap shows that what a room owes a transport is looked at as well.
func TestTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		w := &tap{inner: p}
		for range 2 {
			go w.Receive()
		}
		synctest.Wait()
		w.ended()
		p.Close(io.EOF)
		synctest.Wait()
		w.Close(nil)
		w.Deliver(&chat.Batch{})
		want := []string{
			"T1: Receive was called beside itself",
			"T7: Serve did not wait for Receive and Deliver",
			"T7: Serve did not call Close",
			"T7: Serve had returned when Close was called",
			"T7: Serve had returned when Deliver was called",
		}
		if d := gocmp.Diff(want, w.told()); d != "" {
			t.Errorf("faults (-want +got):\n%s", d)
		}
	})
}

// TestTapOfTries does the same for TryDeliver, which is called beside itself and beside Deliver.
func TestTapOfTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocked{make(chan struct{})}
		w := &tap{inner: b, try: b.TryDeliver, atOnce: 1}
		go showing{w}.TryDeliver(&chat.Batch{})
		go showing{w}.TryDeliver(&chat.Batch{})
		synctest.Wait()
		go w.Deliver(&chat.Batch{})
		synctest.Wait()
		w.ended()
		close(b.let)
		synctest.Wait()
		showing{w}.TryDeliver(&chat.Batch{})
		want := []string{
			"T8: TryDeliver was called beside Deliver or TryDeliver",
			"T8: Deliver was called beside Deliver or TryDeliver",
			"T7: Serve did not wait for Receive and Deliver",
			"T7: Serve did not call Close",
			"T7: Serve had returned when TryDeliver was called",
		}
		if d := gocmp.Diff(want, w.told()); d != "" {
			t.Errorf("faults (-want +got):\n%s", d)
		}
	})
}

// told lists the faults.
func (t *tap) told() (list []string) {
	for _, fault := range t.faults {
		list = append(list, fault.Clause+": "+fault.Text)
	}
	return list
}

// A blocked transport, and peer, do nothing until they are let.
type blocked struct{ let chan struct{} }

func (b blocked) wait() error                    { <-b.let; return io.ErrClosedPipe }
func (b blocked) Receive() (chat.Request, error) { return nil, b.wait() }
func (b blocked) Deliver(*chat.Batch) error      { return b.wait() }
func (b blocked) TryDeliver(*chat.Batch) bool    { return b.wait() == nil }
func (b blocked) Close(error) error              { return b.wait() }
func (b blocked) Send(chat.Request) error        { return b.wait() }
func (b blocked) Malformed() error               { return b.wait() }
func (b blocked) Read() (any, error)             { return nil, b.wait() }
func (b blocked) Goodbye() error                 { return b.wait() }
func (b blocked) Drop(bool) error                { return b.wait() }
func (b blocked) ends(t chat.Transport, p Peer) Ends {
	return Ends{Transport: t, Peer: p, Close: b.wait}
}

// TestKitReturns shows that the kit comes to an end with what never does: a transport, a peer, or both.
func TestKitReturns(t *testing.T) {
	for _, row := range []struct {
		why  string
		open func(b blocked) Ends
	}{
		{"a transport that blocks for ever", func(b blocked) Ends { _, c := Pipe(); return b.ends(b, pipePeer{c}) }},
		{"a peer that does", func(b blocked) Ends { return b.ends(newTrying(newPipe()), b) }},
		{"both", func(b blocked) Ends { return b.ends(b, b) }},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := blocked{make(chan struct{})}
				for _, c := range transportCases { // each, also where the first has failed
					if err := CheckTransport(Connector{Bubble: true, Open: func() (Ends, error) { return row.open(b), nil }}, c.clause); err == nil {
						t.Errorf("%s (%s): nothing found", c.clause, c.name)
					}
				}
				close(b.let)
			})
		})
	}
}

// A panicking peer does so in one method.
type panicking struct {
	Peer
	in string
}

func (p panicking) at(method string) {
	if p.in == method {
		panic("at a loss")
	}
}

func (p panicking) Send(req chat.Request) error { p.at("Send"); return p.Peer.Send(req) }
func (p panicking) Malformed() error            { p.at("Malformed"); return p.Peer.Malformed() }
func (p panicking) Read() (any, error)          { p.at("Read"); return p.Peer.Read() }
func (p panicking) Goodbye() error              { p.at("Goodbye"); return p.Peer.Goodbye() }
func (p panicking) Drop(half bool) error        { p.at("Drop"); return p.Peer.Drop(half) }

// An exiting peer ends the goroutine that calls it, as t.Fatal would.
type exiting struct{ Peer }

func (exiting) Send(chat.Request) error { runtime.Goexit(); return nil }

// TestOddConnectors shows that what a connector does wrong is an error of the case.
func TestOddConnectors(t *testing.T) {
	peer := func(in string) func() (Ends, error) {
		return func() (Ends, error) {
			ends, err := connectPipe()
			ends.Peer = panicking{ends.Peer, in}
			return ends, err
		}
	}
	for _, row := range []struct {
		clause, why string
		open        func() (Ends, error)
		want        string
	}{
		{"T1", "no ends", func() (Ends, error) { return Ends{}, nil }, "Open: the Transport or the Peer is nil"},
		{"T1", "no transport", func() (Ends, error) { _, c := Pipe(); return Ends{Peer: pipePeer{c}}, nil }, "is nil"},
		{"T1", "no peer", func() (Ends, error) { p, _ := Pipe(); return Ends{Transport: p}, nil }, "is nil"},
		{"T1", "Open panics", func() (Ends, error) { panic("at a loss") }, "Open panics: at a loss"},
		{"T1", "Open ends its goroutine", func() (Ends, error) { runtime.Goexit(); return Ends{}, nil }, "was ended by runtime.Goexit"},
		{"T1", "Send panics", peer("Send"), "the peer's Send panics: at a loss"},
		{"T1", "Send ends its goroutine", func() (Ends, error) {
			ends, err := connectPipe()
			ends.Peer = exiting{ends.Peer}
			return ends, err
		}, "was ended by runtime.Goexit"},
		{"T6", "Malformed panics", peer("Malformed"), "the peer's Malformed panics: at a loss"},
		{"T1", "Read panics", peer("Read"), "the peer's Read panics: at a loss"},
		{"T4", "Goodbye panics", peer("Goodbye"), "the peer's Goodbye panics: at a loss"},
		{"T1", "Drop panics, in the end", peer("Drop"), "the peer's Drop panics: at a loss"},
		{"T7", "Ends.Close panics", func() (Ends, error) {
			ends, err := connectPipe()
			ends.Close = func() error { panic("at a loss") }
			return ends, err
		}, "Ends.Close panics: at a loss"},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := CheckTransport(Connector{Bubble: true, Open: row.open}, row.clause)
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, which does not contain %q", err, row.want)
				}
			})
		})
	}
}

// TestFailedOpenIsClosed shows that ends which come with an error are ended like others, each once.
func TestFailedOpenIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no buffers")
		opened, closed := 0, 0
		err := CheckTransport(Connector{Bubble: true, Open: func() (Ends, error) {
			opened++
			p := newPipe()
			return Ends{Transport: p, Peer: pipePeer{&Client{p}}, Close: func() error { <-p.closed; closed++; return nil }}, broken
		}}, "T4")
		if err == nil || !strings.Contains(err.Error(), broken.Error()) || strings.Contains(err.Error(), "T7") {
			t.Errorf("%v, not %v alone", err, broken)
		}
		if opened == 0 || closed != opened {
			t.Errorf("%d of %d were closed", closed, opened)
		}
	})
}

// TestLateFaults lets what a case has left behind find more while its errors are read; the race detector sees to it.
func TestLateFaults(t *testing.T) {
	p := &transportProbe{Connector: &Connector{Patience: 1, Heartbeat: 1}}
	var late sync.WaitGroup
	for range 5 {
		late.Go(func() { p.errorf("late") })
	}
	p.finish()
	p.found()
	late.Wait()
	if got := len(p.found()); got != 5 {
		t.Errorf("%d errors, not 5", got)
	}
}

// TestKitNeedsOpen shows that a case which has no connection says so.
func TestKitNeedsOpen(t *testing.T) {
	broken := errors.New("no network")
	err := CheckTransport(Connector{Open: func() (Ends, error) { return Ends{}, broken }}, "T6")
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("%v, not %v", err, broken)
	}
}
