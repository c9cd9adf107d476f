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
			{"told", "told", "%.1f", false},
			{"goroutines", "goroutines a connection", "%.2f", false},
		},
		once: true,
		of:   everybody,
		run: func(p *plan, r *rival, s sheet) error {
			return on(r, 0, func(proc *process, l *load) error {
				before, _, err := settled(proc)
				if err != nil {
					return err
				}
				note := func(key string) error {
					after, goroutines, err := settled(proc)
					s.put(key, float64(after-before)/1024/float64(p.idle), l)
					if r.start != nil {
						s.put("goroutines", float64(goroutines)/float64(p.idle), l)
					}
					return err
				}
				for range p.idle {
					if err := l.add(proc.addr, r.dialect.path); err != nil {
						return err
					}
				}
				if err := note("quiet"); err != nil {
					return err
				}
				if r.dialect.lists != "" {
					return nil // so many full lists take minutes: W4 has them
				}
				joinAll(l)
				return note("told")
			})
		},
	}
}

// settled returns a server's memory in bytes and its goroutines when it has come to rest.
func settled(p *process) (memory, goroutines int, err error) {
	time.Sleep(50 * time.Millisecond) // what ends, ends
	r, err := p.do(order{Settle: true})
	if err != nil {
		return 0, 0, err
	}
	memory, err = p.memory()
	return memory, r.Goroutines, err
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
