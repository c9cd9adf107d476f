package chat_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"example.com/chat"
)

// A jammed transport takes no bytes, and learns of it where it reads: the two race when a connection is cut.
type jammed struct {
	*pipe
	fail chan struct{} // closed when it has learnt
}

func (j jammed) Receive() (chat.Request, error) {
	<-j.fail
	return nil, fmt.Errorf("%w: nothing taken for 10 s", chat.ErrSlow)
}

func TestSlowIsSlowWhicheverSideSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, nil)
		j := jammed{newPipe(), make(chan struct{})}
		done := make(chan error)
		go func() { done <- r.Serve(context.Background(), j, nil) }()
		close(j.fail)
		err := <-done
		var slow chat.SlowError
		if !errors.As(err, &slow) || errors.Is(err, chat.ErrLost) {
			t.Errorf("Serve: %v, not a SlowError alone", err)
		}
		if j.cause != err {
			t.Errorf("Close was told %v, Serve returned %v", j.cause, err)
		}
		if n := r.Stats().Slow; n != 1 {
			t.Errorf("Stats has %d ended for slowness", n)
		}
	})
}

func TestAdmitNoSource(t *testing.T) {
	r := newRoom(t, &chat.RoomOptions{MaxPerSource: 1})
	for range 3 { // as many as come: each of them is a stranger
		release, err := r.Admit("")
		if err != nil {
			t.Fatal(err)
		}
		defer release()
	}
	release, err := r.Admit("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Admit("a"); !errors.Is(err, chat.ErrSource) {
		t.Errorf("a second of one source: %v", err)
	}
	release()
	release()
	if release, err = r.Admit("a"); err != nil {
		t.Errorf("after the release: %v", err)
	} else {
		release()
	}
}
