package main

import (
	"fmt"
	"io"
)

// A target is a bound on a ratio within one run, or, without a rival, on a value.
type target struct {
	what  string
	key   string
	ours  string
	rival string
	key2  string // the rival's column, if it is another
	most  float64
}

var targets = []target{
	{what: "W1 paced", key: "paced", ours: "chat", rival: "floor", most: 1.5},
	{what: "W1 paced", key: "paced", ours: "chat", rival: "gws", most: 0.8},
	{what: "W1 paced", key: "paced", ours: "chat", rival: "melody", most: 0.67},
	{what: "W1 paced", key: "paced", ours: "chat", rival: "nhooyr-naive", most: 0.4},
	{what: "W1 busy", key: "busy", ours: "chat", rival: "floor", most: 1.1},
	{what: "W1 saturated", key: "saturated", ours: "chat", rival: "floor-joined", most: 1.5},
	{what: "W1 saturated, payloads alike", key: "saturated", ours: "chat", rival: padded, most: 1.5},
	{what: "W1 saturated", key: "saturated", ours: "chat", rival: "gorilla-hub", most: 0.2},
	{what: "W1 saturated", key: "saturated", ours: "chat", rival: "gws", most: 0.1},
	{what: "W1 saturated", key: "saturated", ours: "chat", rival: "melody", most: 0.1},
	{what: "W1 saturated", key: "saturated", ours: "chat", rival: "node-original", most: 0.05},
	{what: "W1 paced, Socket.IO", key: "paced", ours: "chat-socketio", rival: "node-original", most: 0.7},
	{what: "W1 saturated, Socket.IO", key: "saturated", ours: "chat-socketio", rival: "node-original", most: 0.05},
	{what: "W2 p99", key: "p99", ours: "chat", rival: "floor", most: 1.6},
	{what: "W2 p99", key: "p99", ours: "chat", rival: "gws", most: 1.1},
	{what: "W2 p99", key: "p99", ours: "chat", rival: "melody", most: 1.1},
	{what: "W2 p99", key: "p99", ours: "chat", rival: "gorilla-hub", most: 1.1},
	{what: "W2 p99", key: "p99", ours: "chat", rival: "centrifuge", most: 1.1},
	{what: "W3 quiet, KiB", key: "quiet", ours: "chat", most: 15},
	{what: "W3 told", key: "told", ours: "chat", rival: "gws", most: 1.2},
	{what: "W3 goroutines", key: "goroutines", ours: "chat", most: 2.01},
	{what: "W4 with full lists", key: "join", ours: "chat-socketio", rival: "node-original", most: 0.45},
	{what: "W4 joins alone", key: "join", ours: "chat", rival: "node-original", most: 0.25},
	{what: "W5 p99 after, to before", key: "after", ours: "chat", rival: "chat", key2: "before", most: 1.3},
	{what: "W5 growth, MiB", key: "growth", ours: "chat", most: 2 * 4}, // twice the window
	{what: "Send, S = 10,000 to S = 1", key: sendKey(10_000), ours: "chat", rival: "chat", key2: sendKey(1), most: 2},
	{what: "growth, 10,000 clients to 1,000", key: growthKey(10_000), ours: "chat", rival: "chat", key2: growthKey(1000), most: 1.5},
	{what: "growth, 100 clients to 1,000", key: growthKey(100), ours: "chat", rival: "chat", key2: growthKey(1000), most: 1.5},
	{what: "rooms, 4,000 to 1", key: roomsKey(4000), ours: "chat", rival: "chat", key2: roomsKey(1), most: 1.5},
	{what: "an empty room, KiB", key: "empty", ours: "chat", most: 4},
}

// value is what the run gives for a target; ok is false if the run has not all that it needs.
func (t target) value(res *results) (v float64, void, ok bool) {
	if t.rival == "" {
		sum, ok := res.of(t.key, t.ours, "")
		return sum.median, sum.void, ok
	}
	if t.key2 != "" {
		ours, ok := res.of(t.key, t.ours, "")
		other, ok2 := res.of(t.key2, t.rival, "")
		return ours.median / other.median, ours.void || other.void, ok && ok2 && other.median > 0
	}
	ours, ok := res.of(t.key, t.ours, t.rival)
	other, ok2 := res.of(t.key, t.rival, "")
	return ours.ratio, ours.void || other.void, ok && ok2
}

func (res *results) printTargets(out io.Writer) {
	fmt.Fprint(out, "### Targets\n\n| | | at most | is | |\n| --- | --- | ---: | ---: | --- |\n")
	for _, t := range targets {
		v, void, ok := t.value(res)
		if !ok {
			continue
		}
		verdict := "met"
		if v > t.most {
			verdict = "missed"
		}
		is := fmt.Sprintf("%.2f", v)
		if void {
			is = "(" + is + ")"
		}
		what := t.ours
		if t.rival != "" && t.key2 == "" {
			what += " / " + t.rival
		}
		fmt.Fprintf(out, "| %s | %s | %g | %s | %s |\n", t.what, what, t.most, is, verdict)
	}
}
