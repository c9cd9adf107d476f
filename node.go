package chat

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Node is what makes several processes that serve the same rooms notice that one is dead: one a process, given to each
// of its rooms by [RoomOptions].Node. Nodes that belong together write heartbeats to one [Log], which is not that of a
// room, and judge each other by what stands there and not by clocks: a node is dead when another has written
// [NodeOptions].Misses heartbeats since its last, and as much time has passed as lies between so many. The judgement is
// an entry guarded on that last heartbeat, so it is final: who is judged can write no more under that name.
//
// The sessions of a dead node are adopted by the rooms of all others: they are away since its last heartbeat, may be
// resumed anywhere for as long as they linger, and leave then. Adopting writes nothing; which node ends a session, or
// resumes it, the room's log decides.
//
// A node that finds itself judged, having been paused for too long, ends the sessions and connections that it still had
// with [ErrFenced] and goes on under a new name, its next incarnation. One whose log ends, with [ErrClosed], can neither be
// heard nor judge any more: its logger is told, and it is to be closed. Its methods may be called from any goroutine.
type Node struct {
	log    Log
	opts   NodeOptions
	ctx    context.Context
	cancel context.CancelFunc
	unread func() // stops following the log; of run, and then of Close
	done   chan struct{}

	end    sync.Once // Close
	endErr error

	mu    sync.Mutex // guards the fields below
	id    string     // of this incarnation
	last  uint64     // the sequence of its last heartbeat; 0: it has none, so that nobody else knows the name
	seen  time.Time  // when this node read that
	peers map[string]*peer
	rooms map[*Room]struct{}
	news  []obituary    // to be told to the rooms
	deaf  error         // why the log is not followed any more
	timer *time.Timer   // calls tick
	due   bool          // a heartbeat is
	wake  chan struct{} // holds one token when there is something to do
}

// A peer is another incarnation that is not known to be dead.
type peer struct {
	last uint64    // the sequence of its last heartbeat
	seen time.Time // when this node read it
	ours int       // how many heartbeats this node has written since
}

// An obituary says that an incarnation is dead, and when it was last seen alive.
type obituary struct {
	id   string
	seen time.Time
}

// NodeOptions configures [NewNode]. The zero value is ready for use.
type NodeOptions struct {
	// Interval is the time between two heartbeats. Zero means 5 s.
	Interval time.Duration

	// Misses is how many heartbeats a node may write without one from another until it judges that one dead. Zero means
	// 3, so that a dead node is noticed 10 to 15 s after its last heartbeat.
	Misses int

	// Logger is told of judgements and of a log out of reach. nil: silent.
	Logger *slog.Logger
}

// NewNode writes the first heartbeat of a new incarnation to log and begins to follow it. It fails with the log's error
// if that takes more than 10 s. Who opened the log closes it, after the node.
func NewNode(log Log, o *NodeOptions) (*Node, error) {
	var opts NodeOptions
	if o != nil {
		opts = *o
	}
	if opts.Interval <= 0 {
		opts.Interval = 5 * time.Second
	}
	if opts.Misses <= 0 {
		opts.Misses = 3
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		log: log, opts: opts, done: make(chan struct{}),
		peers: make(map[string]*peer), rooms: make(map[*Room]struct{}), wake: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	n.id = rand.Text()
	if err := n.read(ctx); err != nil {
		return nil, fmt.Errorf("chat: opening the nodes' log: %w", err)
	}
	if err := n.beat(ctx); err != nil {
		n.unread()
		return nil, fmt.Errorf("chat: the node's first heartbeat: %w", err)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	go n.run()
	return n, nil
}

// again reports whether the nodes' log, having ended with err, can be read anew: it has lost its past, or has begun a new
// life.
func again(err error) bool { return errors.Is(err, ErrTrimmed) || errors.Is(err, ErrEpoch) }

// read reads who is alive, and follows the log from there. If the log is trimmed meanwhile it begins anew. Where it has
// read before, those who are missing now are dead.
func (n *Node) read(ctx context.Context) error {
	for {
		snap, err := n.log.Snapshot(ctx)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.deaf = nil
		before, now := n.peers, time.Now()
		n.peers = make(map[string]*peer, len(snap.Records))
		known := n.last == 0
		for _, rec := range snap.Records {
			p := before[rec.Key]
			delete(before, rec.Key)
			switch {
			case rec.Key == n.id:
				known, n.last = true, rec.Pos.Seq
			case p != nil && p.last == rec.Pos.Seq:
				n.peers[rec.Key] = p
			default:
				n.peers[rec.Key] = &peer{last: rec.Pos.Seq, seen: now}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(before)) {
			n.news = append(n.news, obituary{id, before[id].seen})
		}
		if !known {
			n.news = append(n.news, obituary{n.id, n.seen})
			n.rename()
		}
		n.mu.Unlock()
		unread, err := n.log.Follow(snap.At, n.apply)
		if err == nil {
			n.unread = unread
		}
		if !again(err) || ctx.Err() != nil {
			return err
		}
	}
}

// Incarnation returns the name that this node has now; every start, and every new start after being judged, makes one.
func (n *Node) Incarnation() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// Close ends the node's heartbeats and, for at most 1 s, tries to say so in the log, so that others adopt at once what
// its rooms left to them. It comes after the Close or Shutdown of the rooms. Twice is harmless. The error is the log's, if
// it did not take that; then others judge the node later.
func (n *Node) Close() error {
	n.end.Do(func() {
		n.cancel()
		<-n.done
		defer n.unread()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		for {
			n.mu.Lock()
			id, last := n.id, n.last
			n.mu.Unlock()
			if last == 0 {
				return // nobody knows it
			}
			_, n.endErr = n.log.Append(ctx, Entry{ID: id + "!end", Key: id, Final: true, Guard: Guard{id, last}})
			if !errors.Is(n.endErr, ErrConflict) {
				return
			}
			n.endErr = nil
			n.mu.Lock()
			moved := n.last != last && n.id == id // by a heartbeat whose outcome was unknown
			n.mu.Unlock()
			if !moved { // it was judged, so that it is known already
				return
			}
		}
	})
	return n.endErr
}

// run writes a heartbeat each interval, judges after each that was taken, and brings the news to the rooms.
func (n *Node) run() {
	defer close(n.done)
	n.mu.Lock()
	n.timer = time.AfterFunc(n.opts.Interval, n.tick)
	defer n.timer.Stop()
	n.mu.Unlock()
	var told error
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.wake:
		}
		n.tell() // before a log that may be slow
		ctx, cancel := context.WithTimeout(n.ctx, n.opts.Interval)
		n.mu.Lock()
		due, deaf := n.due, n.deaf
		n.due = false
		n.mu.Unlock()
		switch {
		case again(deaf):
			if err := n.read(ctx); err != nil {
				n.mu.Lock()
				n.deaf = deaf // at the next heartbeat again
				n.mu.Unlock()
				n.opts.Logger.Warn("chat: the nodes' log cannot be read", "err", err)
			}
		case deaf != nil && told == nil:
			told = deaf
			n.opts.Logger.Error("chat: the nodes' log has ended", "err", deaf)
		}
		n.tell()
		if due || !n.named() {
			if err := n.beat(ctx); err != nil {
				n.opts.Logger.Warn("chat: a heartbeat is not in the log", "err", err)
			} else if due {
				n.judge(ctx)
			}
			n.tell()
		}
		cancel()
	}
}

// tick makes a heartbeat due, each interval until the node is closed.
func (n *Node) tick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() == nil {
		n.timer.Reset(n.opts.Interval)
	}
	n.due = true
	n.nudge()
}

// beat writes one heartbeat. A conflict means that the node was judged, which apply reads too, or that a heartbeat
// whose outcome was unknown has landed meanwhile. A name whose first heartbeat has no good end is given up: that one may
// land when others have judged the name, and nothing would guard against it.
func (n *Node) beat(ctx context.Context) error {
	n.mu.Lock()
	id, last := n.id, n.last
	n.mu.Unlock()
	_, err := n.log.Append(ctx, Entry{ID: id + "/" + rand.Text(), Key: id, Guard: Guard{id, last}})
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && n.id == id && n.last == 0 {
		n.id = rand.Text()
	}
	return err
}

// judge ends the incarnations that have missed too many heartbeats. Heartbeats of this node may come close to each other,
// one that was slow and the next; so that there must also have been time for as many.
func (n *Node) judge(ctx context.Context) {
	n.mu.Lock()
	var late []Entry
	least := time.Duration(n.opts.Misses-1) * n.opts.Interval
	for id, p := range n.peers {
		if p.ours >= n.opts.Misses && time.Since(p.seen) >= least {
			late = append(late, Entry{ID: id + "!dead", Key: id, Final: true, Guard: Guard{id, p.last}})
		}
	}
	n.mu.Unlock()
	slices.SortFunc(late, func(a, b Entry) int { return cmp.Compare(a.Guard.Seq, b.Guard.Seq) })
	for _, e := range late {
		switch _, err := n.log.Append(ctx, e); {
		case err == nil:
			n.opts.Logger.Warn("chat: a node is dead", "node", e.Key)
		case !errors.Is(err, ErrConflict): // a conflict: it has just written one
			n.opts.Logger.Warn("chat: a judgement is not in the log", "node", e.Key, "err", err)
		}
	}
}

// apply reads the nodes' log.
func (n *Node) apply(recs []Record, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.deaf = err
		n.nudge()
	}
	now := time.Now()
	for _, rec := range recs {
		switch {
		case rec.Final:
			seen := now
			if p := n.peers[rec.Key]; p != nil {
				seen = p.seen
			}
			if rec.Key == n.id {
				seen = n.seen
				n.rename()
			}
			delete(n.peers, rec.Key)
			n.news = append(n.news, obituary{rec.Key, seen})
			n.nudge()
		case rec.Key == n.id:
			if n.last == 0 {
				n.nudge()
			}
			n.last, n.seen = rec.Pos.Seq, now
			for _, p := range n.peers {
				p.ours++
			}
		default:
			n.peers[rec.Key] = &peer{last: rec.Pos.Seq, seen: now}
		}
	}
}

// rename begins the next incarnation. The node's mutex is held.
func (n *Node) rename() { n.id, n.last = rand.Text(), 0 }

// named reports whether others can know this incarnation's name.
func (n *Node) named() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last != 0
}

func (n *Node) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// tell brings the news to the rooms.
func (n *Node) tell() {
	n.mu.Lock()
	news := n.news
	n.news = nil
	rooms := make([]*Room, 0, len(n.rooms))
	for r := range n.rooms {
		rooms = append(rooms, r)
	}
	n.mu.Unlock()
	for _, r := range rooms {
		for _, o := range news {
			r.nodeDied(o.id, o.seen)
		}
		r.mu.Lock()
		r.change() // there may be a name
		r.mu.Unlock()
	}
}

// enter makes r one of the node's rooms, and leave undoes it.
func (n *Node) enter(r *Room) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rooms[r] = struct{}{}
}

func (n *Node) leave(r *Room) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.rooms, r)
}

// alive reports whether an incarnation is this node's or a known peer's.
func (n *Node) alive(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return id == n.id || n.peers[id] != nil
}

// serves reports whether a room value of this incarnation is open that gave its sessions the name nodeID. Those of one
// that is closed are nobody's, as if the node had died.
func (n *Node) serves(nodeID string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for r := range n.rooms {
		if n.id+"/"+r.instance == nodeID {
			return true
		}
	}
	return false
}

// gone asks the log whether an incarnation that is not known to be alive is dead, for this node may just not have read
// of it yet: its first heartbeat was in the log before any of its sessions was in a room's.
func (n *Node) gone(ctx context.Context, id string) (bool, error) {
	snap, err := n.log.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(snap.Records, func(rec Record) bool { return rec.Key == id }), nil
}

// nodeID is what this room writes into its sessions' records: the node's incarnation, if there is a node, a slash, and
// the room value's own name.
func (r *Room) nodeID() string {
	if r.opts.Node == nil {
		return "/" + r.instance
	}
	return r.opts.Node.Incarnation() + "/" + r.instance
}

// named waits until what the room writes under its node's name will not be taken for a dead node's: when the node was
// judged, until its next name is known. Where ctx ends first that is an ErrFenced.
func (r *Room) named(ctx context.Context) error {
	n := r.opts.Node
	if n == nil || n.named() {
		return nil
	}
	if err := r.until(ctx, func() bool { return n.named() || r.refusal() != nil }); err != nil {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return nil
}

func incarnation(nodeID string) string {
	id, _, _ := strings.Cut(nodeID, "/")
	return id
}

// check looks after a member whose record says that it is another's: if that node is dead, or it was a room of this node
// that is closed, it is adopted. One of this room's own that was under way when its node was judged ends like all others of
// the node. The room's mutex is held.
func (r *Room) check(m *member) {
	n, id := r.opts.Node, incarnation(m.node)
	switch s := r.sessions[m.session]; {
	case s != nil && !s.adopted && m.node == id+"/"+r.instance && m.node != r.nodeID():
		s.end(ErrFenced)
		r.orphan(m, time.Now())
	case s != nil:
	case m.node == r.nodeID(): // a resuming of ours that has no caller left
		r.orphan(m, time.Now())
	case n != nil && id == n.Incarnation() && !n.serves(m.node):
		r.orphan(m, time.Now())
	case n != nil && id != "" && !n.alive(id) && !r.inquiries[id]:
		r.inquiries[id] = true
		r.goLocked(func() { r.inquire(id) })
	}
}

// inquire adopts the sessions of an incarnation if it is dead.
func (r *Room) inquire(id string) {
	r.retry(r.gone, func() bool {
		dead, err := r.opts.Node.gone(r.ctx, id)
		if dead {
			r.nodeDied(id, time.Now())
			return true
		}
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.inquiries, id)
		}
		return err == nil
	})
}

// nodeDied adopts the sessions of a dead incarnation, last seen alive at seen. If it was this node's own, what it held
// ends first.
func (r *Room) nodeDied(id string, seen time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inquiries, id) // in one step with the look around: who comes after it is looked into anew
	var orphans []*member
	for _, m := range r.fold.members {
		if incarnation(m.node) == id {
			orphans = append(orphans, m)
		}
	}
	slices.SortFunc(orphans, func(a, b *member) int { return cmp.Compare(a.join, b.join) })
	for _, m := range orphans {
		if s := r.sessions[m.session]; s != nil && !s.adopted {
			s.end(ErrFenced)
		}
		r.orphan(m, seen)
	}
}
