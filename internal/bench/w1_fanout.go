package main

import (
	"fmt"
	"time"
)

// fanOut is W1: one speaks, all hear. Paced is a room in which people talk, busy one with a bot, saturated a sender that
// never waits: its messages are all in the server's socket before the first is delivered to everybody.
func fanOut(p *plan) workload {
	return workload{
		name: "W1",
		what: fmt.Sprintf("%d clients in one room, texts of %d bytes: processor time of the server, µs a delivery. "+
			"Saturated is a burst of %d", p.clients, textSize, p.burst),
		columns: []column{
			{"paced", "paced, 10/s", "%.2f", true},
			{"busy", "busy, 50/s", "%.2f", true},
			{"saturated", "saturated", "%.3f", true},
			{"driver", "the driver, paced", "%.2f", false},
			{"driver saturated", "saturated", "%.3f", false},
		},
		of: func(*rival) bool { return true },
		run: func(p *plan, r *rival, s sheet) error {
			return on(p, r, p.clients, func(proc *process, l *load) error {
				warm(l)
				for _, phase := range []struct {
					key string
					run func()
				}{
					{"paced", func() { l.pace(int(10*p.paced.Seconds()), time.Second/10) }},
					{"busy", func() { l.pace(int(50*p.busy.Seconds()), time.Second/50) }},
					{"saturated", func() { l.flood(p.burst) }},
				} {
					file, err := p.profileOf(r, phase.key)
					if err != nil {
						return err
					}
					if file != "" {
						if _, err := proc.do(order{Profile: file}); err != nil {
							return err
						}
					}
					server, driver, err := perDelivery(proc, l, phase.run)
					if err != nil {
						return err
					}
					s.put(phase.key, server, l)
					switch phase.key {
					case "paced":
						s["driver"] = figure{value: driver}
					case "saturated":
						s["driver saturated"] = figure{value: driver}
					}
					if file != "" {
						if _, err := proc.do(order{Stop: true}); err != nil {
							return err
						}
					}
				}
				return nil
			})
		},
	}
}
