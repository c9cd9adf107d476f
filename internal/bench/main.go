// Bench measures this module's fan-out against a hand-written floor and against the libraries that one would otherwise
// use, all in one run, and prints tables in Markdown:
//
//	cd internal/bench && go run .            # everything, about half an hour
//	go run . -quick                          # under a minute, with few clients
//	go run . -only W1 -rivals floor,gws,chat # some of it
//	go run . -only W1 -rivals chat -profile DIR
//
// Each server is a process of its own, pinned to one processor; the load driver is this process, pinned to another. What
// is counted is the processor time that the operating system charges to the server. Servers are measured in turn, a
// round after the other, and a cell is the median of the rounds. The driver looks at the order and the number of the
// messages that each client gets: a loss, a duplicate or a wrong order makes a figure void, and it stands in brackets.
//
// Ctrl-C ends it after the server that is being measured, and prints what there is.
//
// It needs Linux, for epoll, affinity and the accounting of another process.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == serveCommand {
		serve(os.Args[2])
		return
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A plan is what to measure, and how much of it.
type plan struct {
	rounds  int
	only    []string // workloads; empty: all
	rivals  []string // empty: all
	profile string   // the folder for processor profiles; empty: none

	clients   int           // W1: how many hear
	paced     time.Duration // W1: how long 10 messages a second are sent
	busy      time.Duration // W1: and 50
	burst     int           // W1 saturated: how many are sent at once
	listeners int           // W2 and W5
	latency   time.Duration // W2: how long 20 messages a second are sent
	idle      int           // W3: connections
	joins     int           // W4
	stall     time.Duration // W5: how long before one stops to read, and again after
	stallRate int           // W5: messages a second
	sends     []int         // Send: how many hear
	growth    []int         // growth: how many hear
	rooms     []int         // rooms: how many of two
	messages  int           // rooms: in all of them together
	empty     int           // rooms: how many that nobody is in
}

var full = plan{
	rounds:    3,
	clients:   1000,
	paced:     4 * time.Second,
	busy:      2 * time.Second,
	burst:     1000,
	listeners: 200,
	latency:   5 * time.Second,
	idle:      1000,
	joins:     500,
	stall:     5 * time.Second,
	stallRate: 2000,
	sends:     []int{1, 10, 100, 1000, 10_000},
	growth:    []int{100, 1000, 10_000},
	rooms:     []int{1, 100, 4000},
	messages:  8000,
	empty:     10_000,
}

var quick = plan{
	rounds:    1,
	clients:   100,
	paced:     500 * time.Millisecond,
	busy:      500 * time.Millisecond,
	burst:     200,
	listeners: 50,
	latency:   500 * time.Millisecond,
	idle:      100,
	joins:     50,
	stall:     300 * time.Millisecond,
	stallRate: 500,
	sends:     []int{1, 100},
	growth:    []int{10, 100},
	rooms:     []int{1, 20},
	messages:  100,
	empty:     100,
}

// run measures what args ask for, prints the tables on out, and tells on progress what it is at.
func run(args []string, out, progress io.Writer) error {
	p, err := parse(args, progress)
	if err != nil {
		return err
	}
	if p.profile != "" {
		if err := os.MkdirAll(p.profile, 0o777); err != nil {
			return err
		}
	}
	pinned, err := pinDriver()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res := measure(ctx, p, progress)
	fmt.Fprintf(out, "    cd internal/bench && go run . %s\n\n%s\n\n", strings.Join(args, " "), machine(pinned))
	res.print(out)
	return nil
}

func parse(args []string, usage io.Writer) (plan, error) {
	p := full
	if slices.Contains(args, "-quick") || slices.Contains(args, "--quick") {
		p = quick
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.Bool("quick", false, "few clients, one round, under a minute: shows that it works, no figures to quote")
	flags.IntVar(&p.rounds, "rounds", p.rounds, "how often each server is measured")
	flags.IntVar(&p.clients, "clients", p.clients, "how many hear in W1")
	flags.DurationVar(&p.paced, "paced", p.paced, "how long W1 paced lasts: for a profile it needs half a minute")
	flags.IntVar(&p.burst, "burst", p.burst, "how many messages are sent at once in W1 saturated")
	flags.IntVar(&p.idle, "idle", p.idle, "how many connections are idle in W3")
	flags.IntVar(&p.stallRate, "stall-rate", p.stallRate, "how many messages a second are sent in W5")
	flags.StringVar(&p.profile, "profile", "", "write processor profiles of the Go servers in W1 into this `folder`")
	only := flags.String("only", "", "measure these `workloads` alone: "+strings.Join(workloadNames(), ","))
	some := flags.String("rivals", "", "measure these `servers` alone: "+strings.Join(rivalNames(), ","))
	if err := flags.Parse(args); err != nil {
		return p, err
	}
	if flags.NArg() > 0 {
		return p, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var err error
	if p.only, err = choice(*only, workloadNames()); err != nil {
		return p, err
	}
	p.rivals, err = choice(*some, rivalNames())
	return p, err
}

// choice splits a list of names and sees to it that they are known.
func choice(list string, known []string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown name %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return names, nil
}
