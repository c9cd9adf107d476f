// Package chattest holds what others write for package chat to its contracts, and helps to test programs that use it.
//
//   - [TestLog] and [CheckLog] hold a [chat.Log] to its clauses.
//   - [TestTransport] and [CheckTransport] hold a [chat.Transport] to its clauses.
//   - [Pipe] is a connection in memory: a room's side, and the client for a test to play.
//
// A kit is a list of cases, each of which tests a clause, or a part of one, on a fresh instance. What is broken is told
// with the clause's number and the case's name, as "A2 (guard): …". Where the contract gives a sentence no number, the
// clause has the method's name: "Read".
//
// The Test functions run each case as a subtest. The Check functions are for use outside go test, for a bubble of
// testing/synctest, which has no subtests, and for a single clause: they return what is broken as one error, each part of
// which is a [ClauseError].
//
// Nothing waits for ever: a call that does not return fails its case after a time that can be set. What still hangs then
// is left behind, since nothing can end it.
//
// A kit shows faults, not their absence: what depends on the schedule is tried often, and only some of the schedules come
// up. In a bubble a wait takes no time, and outside one the race detector sees more: run both.
package chattest

import "fmt"

// A ClauseError says which clause of a contract is broken, and how it shows.
type ClauseError struct {
	Clause string // its number: "A2"; or the method whose first sentences it stands in: "Read"
	Case   string // the case that found it
	Text   string // what was seen, and what should have been
}

func (e ClauseError) Error() string { return fmt.Sprintf("%s (%s): %s", e.Clause, e.Case, e.Text) }
