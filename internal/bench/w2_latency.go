package main

import (
	"fmt"
	"slices"
	"time"
)

// latency is W2: how long after it was sent a message is in the hands of each client, in a room that is not busy.
func latency(p *plan) workload {
	return workload{
		name: "W2",
		what: fmt.Sprintf("%d clients, 20 messages a second: from the sender's write to each client's read, ms", p.listeners),
		columns: []column{
			{"p50", "p50", "%.2f", true},
			{"p99", "p99", "%.2f", true},
		},
		of: everybody,
		run: func(p *plan, r *rival, s sheet) error {
			return on(p, r, p.listeners, func(_ *process, l *load) error {
				warm(l)
				l.timed = true
				l.pace(int(20*p.latency.Seconds()), time.Second/20)
				l.finish()
				slices.Sort(l.late)
				s.put("p50", quantile(l.late, 0.50), l)
				s.put("p99", quantile(l.late, 0.99), l)
				return nil
			})
		},
	}
}
