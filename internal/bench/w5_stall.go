package main

import (
	"fmt"
	"slices"
	"time"
)

// stall is W5: one of the clients stops reading while much is said. What counts is what the others notice, what it costs
// in memory, and what becomes of that one.
func stall(p *plan) workload {
	return workload{
		name: "W5",
		what: fmt.Sprintf("%d clients, texts of 1 KiB, %d a second, for %v; then one stops reading, for as long again: "+
			"the others' p99 in ms, and how much the server's memory grew in MiB", p.listeners, p.stallRate, p.stall),
		columns: []column{
			{"before", "p99 before", "%.1f", false},
			{"after", "p99 after", "%.1f", false},
			{"growth", "growth", "%.1f", false},
		},
		once: true,
		of:   everybody,
		run: func(p *plan, r *rival, s sheet) error {
			return on(p, r, p.listeners, func(proc *process, l *load) error {
				warm(l)
				l.size = 1024
				n, gap := int(float64(p.stallRate)*p.stall.Seconds()), time.Second/time.Duration(p.stallRate)
				late := func() float64 {
					l.late, l.timed = l.late[:0], true
					l.pace(n, gap)
					l.finish()
					l.timed = false
					slices.Sort(l.late)
					return quantile(l.late, 0.99)
				}
				s.put("before", late(), l)
				before, err := proc.memory()
				if err != nil {
					return err
				}
				slow := len(l.clients) - 1
				if err := l.pause(slow); err != nil {
					return err
				}
				s.put("after", late(), l)
				after, err := proc.memory()
				if err != nil {
					return err
				}
				fate, err := fateOf(l, slow)
				s.put("growth", max(float64(after-before), 0)/(1<<20), l)
				s["growth"] = figure{value: s["growth"].value, void: s["growth"].void, note: r.slow + "; here it " + fate}
				return err
			})
		},
	}
}

// fateOf lets a client that has not read for a while read all that there is for it, and says what became of it.
func fateOf(l *load, i int) (string, error) {
	if err := l.listen(i); err != nil {
		return "", err
	}
	c := l.clients[i]
	for since, last := time.Now(), c.count; !c.ended && c.count < len(l.sent) && time.Since(since) < l.wait/2; {
		l.poll(l.wait / 10)
		if c.count != last {
			since, last = time.Now(), c.count
		}
	}
	got := fmt.Sprintf("got %d of %d", c.count, len(l.sent))
	if c.disorder > 0 {
		got += fmt.Sprintf(", with %d gaps", c.disorder)
	}
	switch {
	case c.goodbye != "":
		return got + ", then was told " + c.goodbye, nil
	case c.ended:
		return got + ", then was cut off", nil
	case c.count == len(l.sent):
		return "got all", nil
	}
	return got + ", and was told nothing", nil
}
