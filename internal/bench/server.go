package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"time"
)

// serveCommand is the argument by which this program is a server, for another that measures it.
const serveCommand = "serve"

// An order is a line that a server reads on its standard input. It answers each with a report, in order, and ends when
// there are no more. The first report comes unasked and has the address.
type order struct {
	Settle  bool          `json:",omitempty"` // give back all memory that is not in use
	Profile string        `json:",omitempty"` // begin a processor profile in that file
	Stop    bool          `json:",omitempty"` // end it
	Heap    string        `json:",omitempty"` // write a heap profile into that file
	Send    int           `json:",omitempty"` // say so many things, numbered from From
	From    int           `json:",omitempty"`
	Gap     time.Duration `json:",omitempty"` // between two of them
	Rooms   int           `json:",omitempty"` // make so many rooms
}

type report struct {
	Addr       string
	Goroutines int
	Heap       uint64        // bytes of objects
	Stacks     uint64        // bytes of stacks
	Took       time.Duration // of Send: the median of how long one took to return
}

// serve is a server's whole life.
func serve(name string) {
	h := rivalNamed(name).start()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(h.serve(ln)) }()
	out := json.NewEncoder(os.Stdout)
	tell := func(r report) {
		if err := out.Encode(r); err != nil {
			log.Fatal(err)
		}
	}
	tell(report{Addr: ln.Addr().String()})
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			log.Fatal(err)
		}
		tell(obey(h, o))
	}
}

func obey(h hub, o order) (r report) {
	for range o.Rooms {
		h.room()
	}
	if o.Settle {
		runtime.GC() // a first pass empties the pools, the second frees what they held
		runtime.GC()
		debug.FreeOSMemory()
	}
	if o.Heap != "" {
		create(o.Heap, pprof.WriteHeapProfile)
	}
	if o.Profile != "" {
		create(o.Profile, pprof.StartCPUProfile)
	}
	if o.Stop {
		pprof.StopCPUProfile()
	}
	if o.Send > 0 {
		r.Took = sendTime(h.send, o)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Goroutines, r.Heap, r.Stacks = runtime.NumGoroutine(), mem.HeapAlloc, mem.StackInuse
	return r
}

// create lets write put a profile into a file, which stays open: of a processor profile more comes.
func create(name string, write func(io.Writer) error) {
	f, err := os.Create(name)
	if err == nil {
		err = write(f)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// sendTime is the median of how long a call of send takes, in a room that has come to rest before each.
func sendTime(send func(string), o order) time.Duration {
	var took []time.Duration
	for i := range o.Send {
		time.Sleep(o.Gap)
		text := fmt.Sprintf("#%08d %055d", o.From+i, 0)
		began := time.Now()
		send(text)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
