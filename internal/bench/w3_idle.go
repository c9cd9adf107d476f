package main

import (
	"fmt"
	"time"
)

// idle is W3: what a connection costs on which nothing happens. Told are those where each login was told to all, which
// is when stacks and buffers grow. Where there is no login, who joins says so.
func idle(p *plan) workload {
	return workload{
		name: "W3",
		what: fmt.Sprintf("%d idle connections: memory of the server's own (RssAnon, after a collection), KiB a connection; "+
			"quiet: they hear and nobody has said anything; told: all have logged in, and were told of all", p.idle),
		columns: []column{
			{"quiet", "quiet", "%.1f", false},
			{"heap", "of it objects", "%.1f", false},
			{"stacks", "stacks", "%.1f", false},
			{"told", "told", "%.1f", false},
			{"goroutines", "goroutines a connection", "%.2f", false},
		},
		once: true,
		of:   everybody,
		run: func(p *plan, r *rival, s sheet) error {
			return on(p, r, 0, func(proc *process, l *load) error {
				before, had, err := settled(proc)
				if err != nil {
					return err
				}
				n := float64(p.idle)
				for range p.idle {
					if err := l.add(proc.addr, r.dialect.path); err != nil {
						return err
					}
				}
				after, have, err := settled(proc)
				if err != nil {
					return err
				}
				s.put("quiet", float64(after-before)/1024/n, l)
				if r.start != nil {
					s.put("heap", (float64(have.Heap)-float64(had.Heap))/1024/n, l)
					s.put("stacks", (float64(have.Stacks)-float64(had.Stacks))/1024/n, l)
					s.put("goroutines", float64(have.Goroutines-had.Goroutines)/n, l)
				}
				if file, err := p.profileOf(r, "heap"); err != nil {
					return err
				} else if file != "" {
					if _, err := proc.do(order{Heap: file}); err != nil {
						return err
					}
				}
				if r.dialect.lists != "" || p.idle > 2000 {
					return nil // so many full lists, or so many who are told of so many, take minutes: W4 has them
				}
				joinAll(l)
				after, _, err = settled(proc)
				s.put("told", float64(after-before)/1024/n, l)
				return err
			})
		},
	}
}

// settled returns a server's memory in bytes when it has come to rest, and its own report.
func settled(p *process) (memory int, r report, err error) {
	time.Sleep(50 * time.Millisecond) // what ends, ends
	if r, err = p.do(order{Settle: true}); err != nil {
		return 0, r, err
	}
	memory, err = p.memory()
	return memory, r, err
}

// joinAll lets all clients log in, each when the one before has seen itself come in.
func joinAll(l *load) {
	for i, c := range l.clients {
		l.join(i)
		for since := time.Now(); c.next <= i && !c.ended && time.Since(since) < l.wait; {
			l.poll(l.wait / 10)
		}
		if i%32 == 0 { // nobody falls far behind
			l.finish()
		}
	}
	l.finish()
}
