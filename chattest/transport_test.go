package chattest

import (
	"io"
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
