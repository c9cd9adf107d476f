package main

import (
	"fmt"
	"slices"
	"time"
)

// growth measures W1 paced with few clients and with many, at ten thousand deliveries a second.
func growth(p *plan) workload {
	w := workload{
		name: "growth",
		what: "clients in one room, 10,000 deliveries a second: processor time of the server, µs a delivery",
		once: true,
		of:   func(r *rival) bool { return slices.Contains([]string{"floor", "gws", "chat", "chat-socketio"}, r.name) },
		run: func(p *plan, r *rival, s sheet) error {
			for _, n := range p.growth {
				err := on(p, r, n, func(proc *process, l *load) error {
					warm(l)
					gap := time.Duration(n) * time.Second / 10_000
					server, _, err := perDelivery(proc, l, func() { l.pace(int(p.paced/gap), gap) })
					s.put(growthKey(n), server, l)
					return err
				})
				if err != nil {
					return fmt.Errorf("%d clients: %w", n, err)
				}
			}
			return nil
		},
	}
	for _, n := range p.growth {
		w.columns = append(w.columns, column{growthKey(n), fmt.Sprintf("%d clients", n), "%.2f", true})
	}
	return w
}

func growthKey(n int) string { return fmt.Sprint("growth ", n) }

// manyRooms measures a message in a room of two, in turn through ever more rooms, and what a room costs in which nobody
// is. Only this module's have rooms in this sense.
func manyRooms(p *plan) workload {
	w := workload{
		name: "rooms",
		what: fmt.Sprintf("%d messages in rooms of two, one room after the other: processor time of the server, µs a delivery; "+
			"and what each of %d rooms costs that nobody is in, KiB", p.messages, p.empty),
		once: true,
		of:   func(r *rival) bool { return r.name == "chat" },
		run: func(p *plan, r *rival, s sheet) error {
			for _, n := range p.rooms {
				if err := inRooms(p, r, s, n); err != nil {
					return fmt.Errorf("%d rooms: %w", n, err)
				}
			}
			return on(p, r, 0, func(proc *process, l *load) error {
				before, had, err := settled(proc)
				if err != nil {
					return err
				}
				if _, err := proc.do(order{Rooms: p.empty}); err != nil {
					return err
				}
				after, have, err := settled(proc)
				s.put("empty", float64(after-before)/1024/float64(p.empty), l)
				s.put("empty goroutines", float64(have.Goroutines-had.Goroutines)/float64(p.empty), l)
				return err
			})
		},
	}
	for _, n := range p.rooms {
		w.columns = append(w.columns, column{roomsKey(n), fmt.Sprintf("%d rooms", n), "%.2f", false})
	}
	w.columns = append(w.columns, column{"empty", "an empty room", "%.2f", false},
		column{"empty goroutines", "its goroutines", "%.2f", false})
	return w
}

func inRooms(p *plan, r *rival, s sheet, n int) error {
	return on(p, r, 0, func(proc *process, all *load) error {
		var loads []*load
		for i := range n {
			l, err := connect(proc.addr, r.dialect, 0)
			if err != nil {
				return err
			}
			defer l.close()
			l.buf = all.buf
			for range 2 {
				if err := l.add(proc.addr, fmt.Sprint("/", i)); err != nil {
					return err
				}
			}
			l.login()
			l.speak()
			l.finish()
			loads = append(loads, l)
		}
		before, err := proc.cpu()
		if err != nil {
			return err
		}
		for i := range p.messages {
			l := loads[i%n]
			l.speak()
			l.finish()
		}
		after, err := proc.cpu()
		void := ""
		for _, l := range loads {
			if f := l.faults(); f != "" {
				void = f
			}
		}
		s[roomsKey(n)] = figure{value: float64(after-before) / 1000 / float64(2*p.messages), void: void}
		return err
	})
}

func roomsKey(n int) string { return fmt.Sprint("rooms ", n) }
