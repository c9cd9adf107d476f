package chat_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

var (
	seedFlag      = flag.Int64("seed", -1, "run the one schedule of TestSimulation, or program of TestModel, that this makes, and print it")
	schedulesFlag = flag.Int("schedules", 0, "how many schedules TestSimulation runs, all of them fresh; 0: those that are always the same, and one")
)

// simFixed is how many schedules are the same each time.
const simFixed = 150

// What was planted in the room, one at a time, and the first of the fixed seeds that finds it. Whoever changes what a seed
// makes of a schedule plants them again.
//
//	Send without a guard                         1  a message after its speaker's Left
//	Send guarded on the join                     0  no end to what happens at one time
//	a reply after its event                      1  told of a message at a position that was heard before
//	Left without a guard, of its own ID          0  Left twice
//	IDs forgotten at a resume                    4  doubled
//	an adopted session's Left without a guard   91  leaves for lost, and is there
//	adoption without an end                      0  a ghost
//	a left session's token, Resumed unguarded    0  is back, and left
//	the wrong Prev where a window opens         15  a position is refused that is in the log
//	a judged node that ends nobody              24  fencing: goes on
//	a judged node that keeps its name            0  fencing: goes on
//	a token that a room behind does not look up  2  a token is refused whose session is in
//
// TestSimulation runs schedules: in virtual time, three rooms with a node each on one log that does what a log may do, many
// clients, and all that can happen to them. What anybody is told is compared with the log; see [sim]. A seed makes a
// schedule, and the same one each time.
func TestSimulation(t *testing.T) {
	if *seedFlag >= 0 {
		t.Log(strings.Join(simulate(t, uint64(*seedFlag)).trace, "\n"))
		return
	}
	if *schedulesFlag == 0 {
		for seed := range uint64(simFixed) {
			if simulate(t, seed); t.Failed() {
				return
			}
		}
		for _, seed := range []uint64{1175728068, 4104305404} { // once found something
			if simulate(t, seed); t.Failed() {
				return
			}
		}
	}
	first, n := uint64(rand.Uint32()), uint64(max(1, *schedulesFlag))
	t.Logf("fresh: %d from seed %d on; to run one again: go test -run Simulation -seed %d .", n, first, first)
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		simulate(t, seed)
	}
}

// certain leaves out of a trace what a client is answered at the very moment when its connection ends: whether an answer
// still gets there is nobody's promise.
func certain(trace []string) []string {
	type moment struct{ at, who string }
	of := func(line string) (m moment, what string) {
		if words := strings.Fields(line); len(words) > 2 {
			m, what = moment{words[0], words[1]}, words[2]
		}
		return m, what
	}
	ends := make(map[moment]bool)
	for _, line := range trace {
		if m, what := of(line); what == "ended:" {
			ends[m] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(trace), func(line string) bool {
		m, what := of(line)
		return ends[m] && what != "ended:"
	})
}

// TestSimulationReplays runs schedules twice: all that happens is the same, at the same time.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(10) {
		a, b := certain(simulate(t, seed).trace), certain(simulate(t, seed).trace)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("seed %d: after\n%s\nthere is\n%s\nor\n%s", seed,
					strings.Join(a[max(0, i-10):i], "\n"), strings.Join(a[i:min(i+3, len(a))], "\n"), strings.Join(b[i:min(i+3, len(b))], "\n"))
			}
		}
		if len(a) != len(b) || len(a) < 100 {
			t.Fatalf("seed %d: %d lines, or %d", seed, len(a), len(b))
		}
	}
}

// A sim is one schedule under way.
type sim struct {
	t      *testing.T
	seed   uint64
	rnd    *rand.Rand
	born   time.Time
	bell   chan struct{} // a call has come
	log    *simStore     // the room's
	beats  *simStore     // the nodes'
	epoch  string        // of the room's log, as positions show it
	truth  *simTruth
	judged map[string]bool // incarnations that are dead
	places []*simNode      // what each runs now; nil: nothing
	gens   []int           // how many each has run
	nodes  []*simNode      // all that were
	users  []*simUser
	open   []*simConn // all that have not ended
	waits  []*simWait
	sends  []*simSend
	tokens map[string]*simMember
	labels map[string]int // of random IDs, in the order of their coming

	orders, conns, messages int

	over  bool
	wrong []string
	trace []string
}

// simulate runs the schedule of a seed.
func simulate(t *testing.T, seed uint64) (s *sim) {
	t.Helper()
	replay := fmt.Sprintf("go test -run Simulation -seed %d .", seed)
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("seed %d: %v\n%s\n\n%s", seed, p, tail(s), replay)
		}
	}()
	bubble(t, func(t *testing.T) {
		s = &sim{
			t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 4)), born: time.Now(), bell: make(chan struct{}, 1),
			judged: make(map[string]bool), places: make([]*simNode, 3), gens: make([]int, 3),
			tokens: make(map[string]*simMember), labels: make(map[string]int),
		}
		s.run()
		if len(s.wrong) > 0 {
			t.Errorf("seed %d is broken:\n%s\n\n%s\n\nto replay it: %s", seed, tail(s), strings.Join(s.wrong, "\n"), replay)
		}
	})
	return s
}

func tail(s *sim) string {
	if s == nil {
		return ""
	}
	n := 60
	if *seedFlag >= 0 {
		n = len(s.trace)
	}
	return strings.Join(s.trace[len(s.trace)-min(n, len(s.trace)):], "\n")
}

func (s *sim) run() {
	s.log = s.newStore("session", []int{12, 40, 200, 4000}[s.rnd.IntN(4)])
	s.beats = s.newStore("node", 30)
	s.epoch = strings.TrimSuffix(s.log.snapshot().At.String(), "0")
	s.truth = newTruth(s, s.log.mem)
	if _, err := s.beats.mem.Follow(chat.Position{}, func(recs []chat.Record, err error) {
		for _, rec := range recs {
			if rec.Final {
				s.judged[rec.Key] = true
				s.tracef("nodes: %s is dead", s.beats.label(rec.Key))
			}
		}
	}); err != nil {
		s.failf("following the nodes' log: %v", err)
	}
	names := []string{"Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gil", "Hal", "Ivy", "Jon"}
	for i := range 8 + s.rnd.IntN(12) {
		u := &simUser{index: i, name: names[i%len(names)], program: i%5 == 4, back: make(map[*simNode]bool)}
		if i >= len(names) { // another who would have the same name
			u.name = strings.ToUpper(u.name)
		}
		s.users = append(s.users, u)
	}
	for place := range s.places {
		s.openRoom(place, nil)
	}
	s.settle()
	for range 80 + s.rnd.IntN(160) {
		if len(s.wrong) > 0 {
			break
		}
		s.step()
		s.settle()
		if s.chance(70) {
			s.wait(time.Duration(math.Pow(10, 6.5+3.2*s.rnd.Float64()))) // 3 ms to 5 s
		}
	}
	s.finish()
}

func (s *sim) now() time.Duration { return time.Since(s.born) }

func (s *sim) chance(percent int) bool { return s.rnd.IntN(100) < percent }

// upTo draws a time.
func (s *sim) upTo(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(s.rnd.Int64N(int64(most)))
}

func (s *sim) tracef(format string, args ...any) {
	line := fmt.Sprintf("%10.3fs  ", s.now().Seconds()) + fmt.Sprintf(format, args...)
	s.trace = append(s.trace, strings.ReplaceAll(line, s.epoch, "#"))
}

// failf notes what is broken. The schedule ends soon.
func (s *sim) failf(format string, args ...any) {
	if len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf("%10.3fs  ", s.now().Seconds())+fmt.Sprintf(format, args...))
	}
	s.tracef("BROKEN: "+format, args...)
}

func (s *sim) ago(then time.Duration) string { return fmt.Sprintf(", %v ago", s.now()-then) }

// label numbers random IDs in the order of their coming.
func (s *sim) label(id string) int {
	id = id[:min(len(id), textLen)]
	if s.labels[id] == 0 {
		s.labels[id] = len(s.labels) + 1
	}
	return s.labels[id]
}

// number is the label of an ID that has one.
func (s *sim) number(id string) int { return s.labels[id[:min(len(id), textLen)]] }

func keyOf(name string) string {
	_, key, _ := chat.Nickname(name)
	return key
}

func (s *sim) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// settle lets all happen that happens at this time, one thing after the other.
func (s *sim) settle() {
	for i := 0; ; i++ {
		synctest.Wait()
		s.log.meet()
		s.beats.meet()
		if s.look() {
			continue
		}
		at, do := s.log.due()
		if at2, do2 := s.beats.due(); at2 < at {
			at, do = at2, do2
		}
		if at > s.now() {
			return
		}
		do()
		if i > 5000 {
			s.failf("no end to what happens at one time")
			s.stop()
			return
		}
	}
}

// look takes in what everybody was told.
func (s *sim) look() (again bool) {
	again = s.returned()
	for _, n := range s.nodes {
		for _, v := range n.subs {
			again = v.look(s) || again
		}
	}
	for _, c := range s.open {
		c.look()
	}
	s.open = slices.DeleteFunc(s.open, func(c *simConn) bool { return c.ended })
	return again
}

// wait lets time pass.
func (s *sim) wait(d time.Duration) {
	for end := s.now() + d; ; {
		s.settle()
		now := s.now()
		if now >= end || len(s.wrong) > 0 && !s.over {
			s.fenced()
			return
		}
		next := end
		for _, st := range []*simStore{s.log, s.beats} {
			if at, _ := st.due(); at < next {
				next = at
			}
		}
		timer := time.NewTimer(next - now)
		select {
		case <-timer.C:
		case <-s.bell:
			timer.Stop()
		}
	}
}
