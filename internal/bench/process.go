package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a server that runs by itself.
type process struct {
	addr    string
	cmd     *exec.Cmd
	orders  io.WriteCloser
	reports chan report // closed when the process has no more to say
}

// startTimeout is how long a server may take to listen, or to obey an order.
const startTimeout = 20 * time.Second

// start starts a rival's server, pinned to the servers' processor.
func start(r *rival) (*process, error) {
	cmd, err := command(r)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a Ctrl-C is for this process alone
	p := &process{cmd: cmd, reports: make(chan report)}
	if p.orders, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startPinned(cmd); err != nil {
		return nil, err
	}
	go func() { // until the process ends: see stop
		defer close(p.reports)
		for in := bufio.NewScanner(out); in.Scan(); {
			var r report
			if json.Unmarshal(in.Bytes(), &r) == nil {
				p.reports <- r
			}
		}
	}()
	first, err := p.wait()
	if err != nil {
		p.stop()
		return nil, err
	}
	p.addr = first.Addr
	return p, nil
}

// command is how a rival's server is started: this program once more, or node.
func command(r *rival) (*exec.Cmd, error) {
	if r.start != nil {
		self, err := os.Executable()
		return exec.Command(self, serveCommand, r.name), err
	}
	folder, err := socketIO()
	if err != nil {
		return nil, err
	}
	return exec.Command("node", "--expose-gc", "original.mjs", folder), nil
}

// errNotRun is wrapped by the reason why a rival can't be measured on this machine.
var errNotRun = errors.New("not run")

// socketIO returns the folder whose node_modules have the official server, installing them if they are not there.
var socketIO = sync.OnceValues(func() (string, error) {
	folder := filepath.Join("..", "e2e")
	if _, err := exec.LookPath("node"); err != nil {
		return "", fmt.Errorf("%w: there is no node on this machine", errNotRun)
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "socket.io")); err == nil {
		return folder, nil
	}
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--silent")
	npm.Dir = folder
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: npm ci in %s: %w: %.200s", errNotRun, folder, err, out)
	}
	return folder, nil
})

// stop ends the process and waits for it.
func (p *process) stop() {
	p.orders.Close()
	kill := time.AfterFunc(time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.reports {
	}
	_ = p.cmd.Wait() // how it ends says nothing: it is told to in the middle of things
}

// do gives an order and waits for the report.
func (p *process) do(o order) (report, error) {
	if err := p.tell(o); err != nil {
		return report{}, err
	}
	return p.wait()
}

func (p *process) tell(o order) error {
	line, err := json.Marshal(o)
	if err == nil {
		_, err = p.orders.Write(append(line, '\n'))
	}
	return err
}

func (p *process) wait() (report, error) {
	select {
	case r, ok := <-p.reports:
		if !ok {
			return report{}, errors.New("the server has ended")
		}
		return r, nil
	case <-time.After(startTimeout):
		return report{}, errors.New("the server does not answer")
	}
}

// cpu is the processor time that the process has used, in user and kernel, as the kernel accounts it.
func (p *process) cpu() (time.Duration, error) {
	var t unix.Timespec
	clock := int32(^p.cmd.Process.Pid<<3 | 2) // CPUCLOCK_SCHED of that process, see clock_getcpuclockid(3)
	err := unix.ClockGettime(clock, &t)
	return time.Duration(t.Nano()), err
}

// memory is what the process has in memory that is its own: RssAnon of proc_pid_status(5), in bytes.
func (p *process) memory() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nRssAnon:")
	kib, _, ok := strings.Cut(strings.TrimSpace(rest), " kB")
	if !ok {
		return 0, errors.New("no RssAnon in the status of the process")
	}
	n, err := strconv.Atoi(kib)
	return n << 10, err
}

// The processors: servers run on the first that this process may use, the driver on the last. With one they share it.
var serverCPU, driverCPU unix.CPUSet

// pinDriver pins this process, and chooses where servers will run. It returns false if there is one processor alone.
func pinDriver() (apart bool, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return false, fmt.Errorf("affinity: %w", err)
	}
	first, last := -1, -1
	for i := range len(all) * 64 {
		if all.IsSet(i) {
			if last = i; first < 0 {
				first = i
			}
		}
	}
	serverCPU.Zero()
	serverCPU.Set(first)
	driverCPU.Zero()
	driverCPU.Set(last)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err == nil {
			err = unix.SchedSetaffinity(id, &driverCPU)
		}
		if err != nil && err != unix.ESRCH { // threads come and go
			return false, fmt.Errorf("affinity: %w", err)
		}
	}
	runtime.GOMAXPROCS(1)
	return first != last, nil
}

// startPinned starts a process on the servers' processor: a child has the affinity of the thread that starts it.
func startPinned(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &serverCPU); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	err := cmd.Start()
	if back := unix.SchedSetaffinity(0, &driverCPU); back != nil {
		return fmt.Errorf("affinity: %w", back)
	}
	return err
}

// driverTime is the processor time that this process has used.
func driverTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) // every Linux has it
	return time.Duration(t.Nano())
}
