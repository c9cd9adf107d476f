package chattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/chat"
)

// A LogStore says how to open the logs that [TestLog] and [CheckLog] try out. Each case opens its own, so that the
// functions are called some thirty times, one at a time; a cleanup that is not nil is called when the case is done.
//
// A case makes up to 5,000 appends. A log that takes a millisecond for each passes the kit in a few seconds.
type LogStore struct {
	// Open opens a new, empty log and returns two handles on it, as two nodes of a room would have. Where one value serves
	// several rooms they may be the same. It keeps at least 1,000 records.
	Open func() (a, b chat.Log, cleanup func(), err error)

	// Tiny opens a new, empty log that keeps no more than 64 records, so that it trims.
	Tiny func() (l chat.Log, cleanup func(), err error)

	// Close ends a log that Open returned, while it has followers, as whoever opened it would. Cleanup comes after it. nil:
	// these logs do not end while somebody uses them; then the cases that need an end are left out: F3's last call, and what
	// A5 says of a log that has ended.
	Close func(l chat.Log)

	// Patience is how long a call may take, and a record from its append to a follower. Zero means 10 s. It is spent on what
	// is broken alone.
	Patience time.Duration
}

// TestLog holds a log to the clauses of [chat.Log], with a subtest for each case, named as in "A2_guard". It must not be
// called in a bubble of testing/synctest: there, use [CheckLog].
//
// What it can't see: whether a log remembers IDs for 30 s, since the 4,096 records that it is to remember are there in less;
// ErrFull, and ErrUnknown but for a context, since only the store can bring them about; and F1, which is what apply promises
// a log: of the log it asks no more than that those whom apply wakes can call it.
//
// In a bubble of testing/synctest a log that hangs on a mutex hangs CheckLog as well, for time stands still there.
func TestLog(t *testing.T, s LogStore) {
	if err := s.valid(); err != nil {
		t.Fatal(err)
	}
	for _, c := range logCases {
		if c.closes && s.Close == nil {
			continue
		}
		t.Run(c.clause+"_"+strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			for _, err := range s.check(c) {
				t.Error(err)
			}
		})
	}
}

// CheckLog is [TestLog] without a test: it returns what is broken, joined, each part a [ClauseError]. With clauses given
// ("A1" to "A6", "S1", "S2", "F1" to "F4", "Append", "Snapshot", "Read", "Follow") it tries those alone; one that does not
// exist is an error.
func CheckLog(s LogStore, clauses ...string) error {
	if err := s.valid(); err != nil {
		return err
	}
	for _, clause := range clauses {
		if !slices.ContainsFunc(logCases, func(c logCase) bool { return c.clause == clause }) {
			return fmt.Errorf("chattest: a log has no clause %q", clause)
		}
	}
	var errs []error
	for _, c := range logCases {
		if (len(clauses) == 0 || slices.Contains(clauses, c.clause)) && (!c.closes || s.Close != nil) {
			errs = append(errs, s.check(c)...)
		}
	}
	return errors.Join(errs...)
}

// valid also resolves the options.
func (s *LogStore) valid() error {
	if s.Open == nil || s.Tiny == nil {
		return errors.New("chattest: a LogStore needs Open and Tiny")
	}
	if s.Patience <= 0 {
		s.Patience = 10 * time.Second
	}
	return nil
}

// A logCase tests one clause of [chat.Log], or a part of one.
type logCase struct {
	clause, name string
	run          func(p *logProbe)
	closes       bool // it needs LogStore.Close
}

var logCases = []logCase{
	{clause: "Append", name: "each once", run: appendsEachOnce},
	{clause: "A1", name: "dedupe first", run: dedupesFirst},
	{clause: "A1", name: "dedupe beyond retention", run: dedupesBeyondRetention},
	{clause: "A2", name: "guard", run: guards},
	{clause: "A2", name: "guard on what is trimmed", run: guardsTrimmed},
	{clause: "A2", name: "guard and adding are one step", run: guardsInOneStep},
	{clause: "A2", name: "no conflict but by the guard", run: conflictsByGuard},
	{clause: "A3", name: "order", run: ordersByTime},
	{clause: "A4", name: "seen", run: showsBeforeReturn},
	{clause: "A5", name: "too large", run: refusesTooLarge},
	{clause: "A5", name: "refused is not there", run: refusedIsNotThere},
	{clause: "A5", name: "an ended context is settled by a retry", run: settlesByRetry},
	{clause: "A5", name: "closed is true", run: closedIsTrue, closes: true},
	{clause: "A6", name: "copies", run: copies},
	{clause: "Snapshot", name: "last under each key", run: snapshotOfKeys},
	{clause: "Snapshot", name: "of one position", run: snapshotOfOnePosition},
	{clause: "S1", name: "includes what had returned", run: snapshotIsFresh},
	{clause: "S2", name: "trimming keeps keys", run: trimmingKeepsKeys},
	{clause: "S2", name: "first", run: snapshotSaysFirst},
	{clause: "Read", name: "pages", run: readsPages},
	{clause: "Read", name: "errors", run: readRefuses},
	{clause: "Read", name: "no gap at the trim", run: readsFromTheTrim},
	{clause: "Follow", name: "errors", run: followRefuses},
	{clause: "Follow", name: "in order, each once, no gap", run: followsInOrder},
	{clause: "Follow", name: "no gap between past and present", run: followsOnFromThePast},
	{clause: "Follow", name: "never two calls at once", run: followsOneAtATime},
	{clause: "F1", name: "what apply wakes can call", run: applyWakesCallers},
	{clause: "F2", name: "records may be kept", run: recordsMayBeKept},
	{clause: "F3", name: "no call without records", run: callsHaveRecords},
	{clause: "F3", name: "last call", run: callsLast, closes: true},
	{clause: "F4", name: "stop", run: stops},
	{clause: "F4", name: "stop waits for apply", run: stopWaits},
}

// check runs a case on fresh logs.
func (s LogStore) check(c logCase) []error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &logProbe{store: s, c: c, ctx: ctx}
	p.together(func() { c.run(p) })
	p.done()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.errs)
}
