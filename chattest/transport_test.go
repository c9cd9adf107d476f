package chattest

import (
	"errors"
	"io"
	"strings"
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
		var got []string
		for _, fault := range w.faults {
			got = append(got, fault.Clause+": "+fault.Text)
		}
		want := []string{
			"T1: Receive was called beside itself",
			"T7: Serve did not wait for Receive and Deliver",
			"T7: Serve did not call Close",
			"T7: Serve had returned when Close was called",
			"T7: Serve had returned when Deliver was called",
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("faults (-want +got):\n%s", d)
		}
	})
}

// A blocked transport, and peer, do nothing until they are let.
type blocked struct{ let chan struct{} }

func (b blocked) wait() error                    { <-b.let; return io.ErrClosedPipe }
func (b blocked) Receive() (chat.Request, error) { return nil, b.wait() }
func (b blocked) Deliver(*chat.Batch) error      { return b.wait() }
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
		{"a peer that does", func(b blocked) Ends { p, _ := Pipe(); return b.ends(p, b) }},
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

// TestKitNeedsOpen shows that a case which has no connection says so.
func TestKitNeedsOpen(t *testing.T) {
	broken := errors.New("no network")
	err := CheckTransport(Connector{Open: func() (Ends, error) { return Ends{}, broken }}, "T6")
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("%v, not %v", err, broken)
	}
}
