package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// A workload is one thing that is done to a server, and what is measured at it.
type workload struct {
	name    string
	what    string   // for a heading
	columns []column // in the order of the table
	once    bool     // it takes long: one round
	of      func(*rival) bool
	run     func(*plan, *rival, sheet) error
}

// A column is one measure.
type column struct {
	key    string
	head   string
	format string // of a value
	ratio  bool   // to the first rival's value of the same round is shown as well
}

func workloads(p *plan) []workload {
	return []workload{fanOut(p), latency(p), idle(p), joins(p), stall(p), sends(p), growth(p), manyRooms(p)}
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads(&full) {
		names = append(names, w.name)
	}
	return names
}

func everybody(r *rival) bool { return r.name != padded }

// A sheet takes down what is measured at one rival in one round.
type sheet map[string]figure

// A figure is one measurement. void says what was wrong in it, note what else is to be said.
type figure struct {
	value float64
	void  string
	note  string
}

func (s sheet) put(key string, value float64, l *load) {
	s[key] = figure{value: value, void: l.faults()}
}

// measure runs the workloads of a plan on its rivals, interleaved: each round goes through all servers. When ctx ends it
// returns what it has.
func measure(ctx context.Context, p plan, progress io.Writer) *results {
	res := &results{plan: p, all: make(map[string]map[string][]figure), missing: make(map[string]map[string]error)}
	for _, w := range workloads(&p) {
		if len(p.only) > 0 && !slices.Contains(p.only, w.name) {
			continue
		}
		res.workloads = append(res.workloads, w)
		rounds := p.rounds
		if w.once {
			rounds = 1
		}
		for round := range rounds {
			for _, r := range rivals {
				if !w.of(r) || len(p.rivals) > 0 && !slices.Contains(p.rivals, r.name) {
					continue
				}
				if ctx.Err() != nil {
					return res
				}
				began := time.Now()
				s := make(sheet)
				err := w.run(&p, r, s)
				res.add(w, r, s, err)
				fmt.Fprintf(progress, "%s %s, round %d of %d: %.1f s", w.name, r.name, round+1, rounds, time.Since(began).Seconds())
				if err != nil {
					fmt.Fprintf(progress, ": %v", err)
				}
				fmt.Fprintln(progress)
			}
		}
	}
	return res
}

// on starts a rival's server with n clients, lets f measure, and ends both.
func on(p *plan, r *rival, n int, f func(*process, *load) error) error {
	proc, err := start(r)
	if err != nil {
		return err
	}
	defer proc.stop()
	l, err := connect(proc.addr, r.dialect, n)
	if err != nil {
		return err
	}
	defer l.close()
	return errors.Join(f(proc, l), l.err)
}

// profileOf is the file that a profile of a rival goes into; empty if nobody asked for one.
func (p *plan) profileOf(r *rival, what string) (string, error) {
	if p.profile == "" || r.start == nil {
		return "", nil
	}
	return filepath.Abs(filepath.Join(p.profile, r.name+"-"+what+".pprof"))
}

// warm lets some messages through, so that what is made once is made.
func warm(l *load) {
	l.login()
	l.gather()
	l.pace(5, 5*time.Millisecond)
	l.finish()
}

// perDelivery runs f and returns the processor time that the server and the driver used meanwhile, in µs for each
// message that a client got.
func perDelivery(p *process, l *load, f func()) (server, driver float64, err error) {
	have, mine := l.have, driverTime()
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	f()
	l.finish()
	after, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	n := float64(max(l.have-have, 1)) * 1000
	return float64(after-before) / n, float64(driverTime()-mine) / n, nil
}

// quantile is the q-th of sorted values, in ms.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Seconds() * 1000
}
