package chat_test

import (
	"errors"
	"fmt"
	"testing"

	"example.com/chat"
)

// TestSlowIsSlowWhicheverSideSaysSo shows what becomes of a transport that takes no bytes, and learns of it where it
// reads: the two race when a connection is cut.
func TestSlowIsSlowWhicheverSideSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoom(t, nil)
		c := serve(t, r, nil)
		c.lose(fmt.Errorf("%w: nothing taken for 10 s", chat.ErrSlow))
		err, cause := c.end()
		var slow chat.SlowError
		if !errors.As(err, &slow) || errors.Is(err, chat.ErrLost) {
			t.Errorf("Serve: %v, not a SlowError alone", err)
		}
		if cause != err {
			t.Errorf("Close was told %v, Serve returned %v", cause, err)
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
