package chattest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/chat/chattest"
)

// A fault is what is wrong with a faultyLog, in words.
type fault string

const (
	lost                   fault = "what was appended is not in the log"
	doubled                fault = "what was appended is in the log twice"
	answersLess            fault = "the record returned has no key"
	guardFirst             fault = "the guard is looked at before the ID"
	noDedupe               fault = "IDs are not looked at"
	dedupeByHandle         fault = "each node remembers its own IDs"
	dedupeUntilTrimmed     fault = "the ID goes with the record"
	guardIgnored           fault = "the guard is not looked at"
	finalKeepsKey          fault = "a final record does not free its key"
	trimmedKeyIsFree       fault = "a guard knows what is kept alone"
	guardNotAtomic         fault = "somebody may come between guard and adding"
	contentionIsConflict   fault = "contention is not retried"
	refusedForEver         fault = "a refusal is remembered as an answer"
	positionsInAdvance     fault = "each node takes two positions at a time"
	toldLater              fault = "followers are told after the return"
	secondToldLater        fault = "a second follower is told after the return"
	longKeyIsCut           fault = "a long key is cut"
	refusedIsAdded         fault = "what the guard refuses is added all the same"
	contextIsNotUnknown    fault = "the error of a context is not ErrUnknown"
	endedDeniesAll         fault = "when it has ended it denies what is in it"
	keepsData              fault = "the caller's bytes are kept"
	changesData            fault = "the caller's bytes are changed"
	snapshotHasFinals      fault = "a snapshot holds final records"
	snapshotUnordered      fault = "a snapshot is in another order"
	snapshotOfTwoPositions fault = "a snapshot's At is older than its records"
	snapshotIsStale        fault = "a node's snapshot is as of its own last append"
	trimmedLeavesSnapshot  fault = "trimming removes keys"
	firstStays             fault = "First does not move"
	readIncludes           fault = "a page begins with the record it is to follow"
	readGivesMore          fault = "a page is longer than asked for"
	readReverses           fault = "a page has the latest first"
	readWaits              fault = "reading waits for the first record"
	readPanics             fault = "reading panics"
	readSkipsTrimmed       fault = "reading skips what is trimmed"
	readTakesAnyEpoch      fault = "reading takes another life's positions for this one's"
	readTakesAhead         fault = "beyond the end there is just nothing"
	followSkipsTrimmed     fault = "following skips what is trimmed"
	toldTwice              fault = "a follower is given a record twice"
	toldNot                fault = "a follower is not given a record"
	toldInAnotherOrder     fault = "a follower is given two records in the other order"
	betweenIsLost          fault = "what comes between past and present is lost"
	pastToldAtOnce         fault = "apply is called twice at once"
	hangsWhileTelling      fault = "a snapshot asked for while followers are told never comes"
	toldInABuffer          fault = "the bytes given to followers are used again"
	refusedIsTold          fault = "a refused append is told, as nothing"
	lastCallMissing        fault = "there is no last call"
	lastCallTwice          fault = "there are two last calls"
	lastCallWithRecords    fault = "the last call has records"
	lastCallWithoutReason  fault = "the last call has no reason"
	lastCallOfTheNetwork   fault = "the last call is for a reason of the network's"
	stopDoesNothing        fault = "stop does nothing"
	stopLetsOneMore        fault = "stop lets one more record through"
	stopDoesNotWait        fault = "stop does not wait for apply"
	stopTwicePanics        fault = "stop panics when it comes again"

	openHangs, cleanupHangs, endHangs fault = "Open hangs", "cleanup hangs", "Close hangs"
	appendHangs, snapshotHangs        fault = "Append hangs", "Snapshot hangs"
	readHangs, followHangs, stopHangs fault = "Read hangs", "Follow hangs", "stop hangs"
)

// The kit names exactly the clause that a log breaks. Where it names another one as well, that can't be helped, for the
// reason that the row gives.
func TestWrongLogs(t *testing.T) {
	for _, row := range []struct {
		fault   fault
		clauses string
		why     string // there are two
	}{
		{fault: lost, clauses: "Append"},
		{fault: doubled, clauses: "Append"},
		{fault: answersLess, clauses: "Append"},
		{fault: guardFirst, clauses: "A1"},
		{fault: noDedupe, clauses: "A1 A5", why: "what settles an unknown outcome is that a retry is recognised"},
		{fault: dedupeByHandle, clauses: "A1"},
		{fault: dedupeUntilTrimmed, clauses: "A1"},
		{fault: guardIgnored, clauses: "A2"},
		{fault: finalKeepsKey, clauses: "A2"},
		{fault: trimmedKeyIsFree, clauses: "A2"},
		{fault: guardNotAtomic, clauses: "A2"},
		{fault: contentionIsConflict, clauses: "A2"},
		{fault: refusedForEver, clauses: "A2"},
		{fault: positionsInAdvance, clauses: "A3 Follow", why: "what is put before others is told after them"},
		{fault: toldLater, clauses: "A4"},
		{fault: secondToldLater, clauses: "A4"},
		{fault: longKeyIsCut, clauses: "A5"},
		{fault: refusedIsAdded, clauses: "A5"},
		{fault: contextIsNotUnknown, clauses: "A5"},
		{fault: endedDeniesAll, clauses: "A5"},
		{fault: keepsData, clauses: "A6"},
		{fault: changesData, clauses: "A6"},
		{fault: snapshotHasFinals, clauses: "Snapshot"},
		{fault: snapshotUnordered, clauses: "Snapshot"},
		{fault: snapshotOfTwoPositions, clauses: "Snapshot"},
		{fault: snapshotIsStale, clauses: "S1"},
		{fault: trimmedLeavesSnapshot, clauses: "S2"},
		{fault: firstStays, clauses: "S2"},
		{fault: readIncludes, clauses: "Read"},
		{fault: readGivesMore, clauses: "Read"},
		{fault: readReverses, clauses: "Read"},
		{fault: readWaits, clauses: "Read"},
		{fault: readPanics, clauses: "Read"},
		{fault: readSkipsTrimmed, clauses: "Read"},
		{fault: readTakesAnyEpoch, clauses: "Read"},
		{fault: readTakesAhead, clauses: "Read"},
		{fault: followSkipsTrimmed, clauses: "Follow"},
		{fault: toldTwice, clauses: "Follow"},
		{fault: toldNot, clauses: "Follow"},
		{fault: toldInAnotherOrder, clauses: "Follow"},
		{fault: betweenIsLost, clauses: "Follow"},
		{fault: pastToldAtOnce, clauses: "Follow"},
		{fault: hangsWhileTelling, clauses: "F1"},
		{fault: toldInABuffer, clauses: "F2"},
		{fault: refusedIsTold, clauses: "F3"},
		{fault: lastCallMissing, clauses: "F3"},
		{fault: lastCallTwice, clauses: "F3"},
		{fault: lastCallWithRecords, clauses: "F3"},
		{fault: lastCallWithoutReason, clauses: "F3"},
		{fault: lastCallOfTheNetwork, clauses: "F3"},
		{fault: stopDoesNothing, clauses: "F4"},
		{fault: stopLetsOneMore, clauses: "F4"},
		{fault: stopDoesNotWait, clauses: "F4"},
		{fault: stopTwicePanics, clauses: "F4"},
		{fault: "", clauses: ""}, // a right one
	} {
		t.Run(strings.ReplaceAll(string(row.fault), " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				err := chattest.CheckLog(faultyStores(row.fault, release))
				close(release)
				if got := strings.Join(brokenClauses(t, err), " "); got != row.clauses {
					t.Errorf("a log where %s breaks %q, and the kit names %q:\n%v", row.fault, row.clauses, got, err)
				}
			})
		})
	}
}

// brokenClauses returns the clauses named in err, sorted, each once.
func brokenClauses(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("not a joined error: %v", err)
	}
	var clauses []string
	for _, part := range joined.Unwrap() {
		var broken chattest.ClauseError
		if !errors.As(part, &broken) {
			t.Errorf("not a ClauseError: %v", part)
		}
		if want := fmt.Sprintf("%s (%s): %s", broken.Clause, broken.Case, broken.Text); part.Error() != want || broken.Case == "" || broken.Text == "" {
			t.Errorf("%q, not %q", part, want)
		}
		clauses = append(clauses, broken.Clause)
	}
	slices.Sort(clauses)
	return slices.Compact(clauses)
}
