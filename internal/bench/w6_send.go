package main

import (
	"fmt"
	"time"
)

// sends measures how long the program's own call takes to return that says something to all, in a room at rest.
func sends(p *plan) workload {
	const calls = 20
	w := workload{
		name: "Send",
		what: fmt.Sprintf("the call that says something to S clients: the median time of %d until it returns, µs", calls),
		once: true,
		of:   func(r *rival) bool { return r.start != nil },
		run: func(p *plan, r *rival, s sheet) error {
			for _, n := range p.sends {
				err := on(p, r, n, func(proc *process, l *load) error {
					warm(l)
					o := order{Send: calls, From: len(l.sent), Gap: 2*time.Millisecond + time.Duration(n)*30*time.Microsecond}
					if err := proc.tell(o); err != nil {
						return err
					}
					for range calls {
						l.sent = append(l.sent, 0)
					}
					l.finish()
					took, err := proc.wait()
					s.put(sendKey(n), float64(took.Took)/1000, l)
					return err
				})
				if err != nil {
					return fmt.Errorf("%d clients: %w", n, err)
				}
			}
			return nil
		},
	}
	for _, n := range p.sends {
		w.columns = append(w.columns, column{sendKey(n), fmt.Sprintf("S = %d", n), "%.1f", false})
	}
	return w
}

func sendKey(n int) string { return fmt.Sprint("send ", n) }
