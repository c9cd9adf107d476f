package chattest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
	"example.com/chat/chattest"
)

func TestTestLog(t *testing.T) {
	chattest.TestLog(t, faultyStores("", nil))
}

// A log that hangs fails the clause in which it does, and the kit comes to its end.
func TestLogsThatHang(t *testing.T) {
	for _, f := range []fault{openHangs, cleanupHangs, endHangs, appendHangs, snapshotHangs, readHangs, followHangs, stopHangs} {
		t.Run(strings.ReplaceAll(string(f), " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				s := faultyStores(f, release)
				s.Patience = time.Minute
				began := time.Now()
				err := chattest.CheckLog(s)
				took := time.Since(began)
				close(release)
				clauses := brokenClauses(t, err)
				if len(clauses) == 0 || took > time.Duration(strings.Count(err.Error(), "has not returned"))*2*time.Minute {
					t.Errorf("%v, after %v, names %v:\n%v", f, took, clauses, err)
				}
				for line := range strings.Lines(err.Error()) {
					if !strings.Contains(line, "has not returned after 1m0s") && !strings.Contains(line, "a follower waits for") {
						t.Errorf("%v: %s", f, line)
					}
				}
			})
		})
	}
}

// What a LogStore does wrong is told, too.
func TestLogStores(t *testing.T) {
	right := faultyStores("", nil)
	broken := errors.New("no disk")
	for _, row := range []struct {
		store chattest.LogStore
		want  string
		why   string
	}{
		{chattest.LogStore{}, "chattest: a LogStore needs Open and Tiny", "nothing to open"},
		{chattest.LogStore{Open: right.Open}, "chattest: a LogStore needs Open and Tiny", "nothing that trims"},
		{chattest.LogStore{Open: func() (a, b chat.Log, cleanup func(), err error) { return nil, nil, nil, broken }, Tiny: right.Tiny},
			"A3 (order): LogStore.Open: [<nil> <nil>], no disk", "no log, and why"},
		{chattest.LogStore{Open: func() (a, b chat.Log, cleanup func(), err error) {
			a, _, _, err = right.Open()
			return a, nil, nil, err
		}, Tiny: right.Tiny}, "], <nil>", "one handle alone"},
		{chattest.LogStore{Open: func() (a, b chat.Log, cleanup func(), err error) { panic("no such driver") }, Tiny: right.Tiny},
			"A3 (order): LogStore.Open panics: no such driver", "a panic"},
	} {
		err := chattest.CheckLog(row.store, "A3")
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, which does not contain %q", row.why, err, row.want)
		}
	}
}

func TestCheckLogOfOneClause(t *testing.T) {
	store := faultyStores(guardIgnored, nil)
	for _, row := range []struct {
		clauses []string
		want    string
		why     string
	}{
		{[]string{"A1"}, "", "another one is broken"},
		{[]string{"A2"}, "A2 (guard): guard {Key:free", "this one is"},
		{[]string{"F4", "A2"}, "A2 (guard): guard {Key:free", "one of these is"},
		{[]string{"A1", "A7"}, `chattest: a log has no clause "A7"`, "there is no such"},
	} {
		err := chattest.CheckLog(store, row.clauses...)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.HasPrefix(err.Error(), row.want)) {
			t.Errorf("%v: %v: %s", row.clauses, err, row.why)
		}
	}
}

// What is handed over is given back, once a case, whatever becomes of it.
func TestLogsAreGivenBack(t *testing.T) {
	for _, f := range []fault{"", guardIgnored} {
		opened, given := 0, 0
		s := faultyStores(f, nil)
		counted := s
		counted.Open = func() (a, b chat.Log, cleanup func(), err error) {
			a, b, _, err = s.Open()
			opened++
			return a, b, func() { given++ }, err
		}
		counted.Tiny = func() (l chat.Log, cleanup func(), err error) {
			l, _, err = s.Tiny()
			opened++
			return l, func() { given++ }, err
		}
		err := chattest.CheckLog(counted)
		if (err != nil) != (f != "") || opened == 0 || given != opened {
			t.Errorf("%q: %d of %d logs were given back; %v", f, given, opened, err)
		}
	}
}
