package main

import (
	"fmt"
	"time"
)

// joins is W4: everybody logs in and everybody is told. The page's protocol, over Socket.IO, also brings the list of all
// users to everybody, the original's at each login; chat.v1 tells who came, and a client keeps the list itself.
func joins(p *plan) workload {
	return workload{
		name: "W4",
		what: fmt.Sprintf("%d clients log in, one after the other, and all are told: processor time of the server, ms a login",
			p.joins),
		columns: []column{{"join", "a login", "%.2f", false}},
		of:      func(r *rival) bool { return r.dialect.login != nil },
		run: func(p *plan, r *rival, s sheet) error {
			return on(p, r, p.joins, func(proc *process, l *load) error {
				before, err := proc.cpu()
				if err != nil {
					return err
				}
				joinAll(l)
				unlisted := awaitLists(l)
				after, err := proc.cpu()
				if err != nil {
					return err
				}
				s.put("join", (after-before).Seconds()*1000/float64(p.joins), l)
				if unlisted > 0 {
					s["join"] = figure{value: s["join"].value, void: fmt.Sprintf("the last list of %d clients is not whole", unlisted)}
				}
				return nil
			})
		},
	}
}

// awaitLists waits until the last list of every client names all, and returns how many miss somebody.
func awaitLists(l *load) (unlisted int) {
	if l.dialect.lists == "" {
		return 0
	}
	for since := time.Now(); ; l.poll(l.wait / 10) {
		unlisted = 0
		for _, c := range l.clients {
			if c.listed != len(l.clients) {
				unlisted++
			}
		}
		if unlisted == 0 || time.Since(since) > l.wait {
			return unlisted
		}
	}
}
