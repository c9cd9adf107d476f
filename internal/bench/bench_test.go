package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A server is this program once more, so here it is the test's.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == serveCommand {
		serve(os.Args[2])
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // for the servers, which would take a second each to end
	os.Exit(m.Run())
}

// Everything is measured once with a few clients: each figure of each server is there, and none is void.
func TestEveryFigure(t *testing.T) {
	if _, err := pinDriver(); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	res := measure(t.Context(), plan{
		rounds: 1, clients: 8, paced: 100 * time.Millisecond, busy: 100 * time.Millisecond, burst: 40,
		listeners: 8, latency: 100 * time.Millisecond, idle: 8, joins: 8, stall: 100 * time.Millisecond, stallRate: 200,
		sends: []int{1, 8}, growth: []int{8}, rooms: []int{1, 3}, messages: 20, empty: 10,
	}, &progress)
	t.Log(progress.String())
	if len(res.workloads) == 0 {
		t.Fatal("no workload")
	}
	_, noNode := exec.LookPath("node")
	for _, w := range res.workloads {
		for _, r := range rivals {
			if !w.of(r) {
				continue
			}
			if err := res.missing[w.name][r.name]; err != nil {
				if !(noNode != nil && r.start == nil && errors.Is(err, errNotRun)) {
					t.Errorf("%s %s: %v", w.name, r.name, err)
				}
				continue
			}
			for _, c := range w.columns {
				sum, ok := res.of(c.key, r.name, "")
				absent := c.key == "told" && r.dialect.lists != "" || r.start == nil && slices.Contains([]string{"heap", "stacks", "goroutines"}, c.key)
				if ok == absent {
					t.Errorf("%s %s, %s: measured %v, want %v", w.name, r.name, c.head, ok, !absent)
				}
				if sum.void {
					t.Errorf("%s %s, %s: void: %+v", w.name, r.name, c.head, res.all[c.key][r.name])
				}
			}
		}
	}
	var out strings.Builder
	res.print(&out)
	for _, name := range append(rivalNames(), workloadNames()...) {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s is not in what is printed:\n%s", name, out.String())
		}
	}
}

// The driver sees what is wrong with what a client gets, however it comes in.
func TestFaultsAreSeen(t *testing.T) {
	msg := func(n int) string { return string(appendServerFrame(nil, []byte(numbered(n, 64)))) }
	for _, tt := range []struct {
		why   string
		sends []string // what a client gets of three messages, a write each
		want  string
	}{
		{"all is well", []string{msg(0), msg(1), msg(2)}, ""},
		{"joined writes", []string{msg(0) + msg(1) + msg(2)}, ""},
		{"half a frame, half a number", []string{msg(0)[:1], msg(0)[1:7], msg(0)[7:] + msg(1)[:3], msg(1)[3:] + msg(2)}, ""},
		{"several messages in one frame", []string{string(appendServerFrame(nil, []byte("#00000000\n#00000001\n#00000002")))}, ""},
		{"one message in several frames, a ping between",
			[]string{msg(0), "\x01\x05#0000", "\x89\x00", "\x80\x040001", msg(2)}, ""},
		{"one is missing", []string{msg(0), msg(2)}, "1 lost, 1 out of order"},
		{"the last is missing", []string{msg(0), msg(1)}, "1 lost"},
		{"one comes twice", []string{msg(0), msg(1), msg(1), msg(2)}, "1 doubled, 1 out of order"},
		{"two have changed places", []string{msg(0), msg(2), msg(1)}, "2 out of order"},
		{"a close frame", []string{msg(0), msg(1), "\x88\x02\x03\xE8"}, "1 lost, 1 clients ended"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				served <- err
				return
			}
			defer conn.Close()
			if err = new(floor).handshake(conn); err == nil {
				for _, s := range tt.sends {
					if _, err = conn.Write([]byte(s)); err != nil {
						break
					}
				}
			}
			served <- err
			_, _ = io.Copy(io.Discard, conn) // until the driver closes
		}()
		l, err := connect(ln.Addr().String(), &raw, 1)
		if err != nil {
			t.Fatalf("%s: %v", tt.why, err)
		}
		l.wait = 200 * time.Millisecond
		l.sent = make([]time.Duration, 3)
		if err := <-served; err != nil {
			t.Errorf("%s: the server: %v", tt.why, err)
		}
		l.finish()
		for range len(tt.sends) { // what comes after all that was due
			l.poll(time.Millisecond)
		}
		if got := l.faults(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
		l.close()
		ln.Close()
	}
}

// A void round makes the cell void, and the ratio is of the rounds' ratios, not of the medians.
func TestMediansAndRatios(t *testing.T) {
	res := &results{all: map[string]map[string][]figure{"k": {
		"floor": {{value: 1}, {value: 2}, {value: 4}},
		"a":     {{value: 3}, {value: 2}, {value: 8}},
		"b":     {{value: 1}, {value: 1, void: "1 lost"}, {value: 1}},
	}}}
	for _, tt := range []struct {
		rival string
		want  summary
	}{
		{"a", summary{median: 3, ratio: 2}},
		{"b", summary{median: 1, ratio: 0.5, void: true}},
	} {
		got, ok := res.of("k", tt.rival, "floor")
		if !ok || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.rival, got, ok, tt.want)
		}
	}
	if _, ok := res.of("k", "c", "floor"); ok {
		t.Error("a rival that was not measured has a figure")
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "W9"}, {"-rivals", "nginx"}, {"quick"}} {
		if err := run(args, new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestHeartbeatsAreFound(t *testing.T) {
	for _, tt := range []struct {
		why, payload string
		want         bool
	}{
		{"alone", "{}", true},
		{"before messages that were joined to it", "{}\n{\"push\":{}}", true},
		{"behind them", "{\"push\":{}}\n{}", true},
		{"a part of an answer is none", `{"id":3,"publish":{}}`, false},
		{"nor is nothing", "", false},
	} {
		if got := hasLine([]byte(tt.payload), "{}"); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.why, got, tt.want)
		}
	}
}
