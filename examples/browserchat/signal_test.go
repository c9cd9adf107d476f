//go:build unix

package main

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A process is the program in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func startProcess(t *testing.T) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-addr", "127.0.0.1:0")}
	p.cmd.Stderr = os.Stderr
	p.cmd.Env = append(os.Environ(), "BROWSERCHAT_TEST_MAIN=1")
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // most have ended
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	p.addr = strings.Trim(strings.TrimPrefix(line, "browserchat: open http://"), "/\n")
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Ctrl-C, and what a service manager sends, end the program in order.
func TestSignalEndsInOrder(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := startProcess(t)
		page := newPageAt(t, "page", "websocket", "http://"+p.addr+"/", "", new(net.Dialer).DialContext)
		p.signal(t, sig)
		<-page.done // told
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v: %v, want exit 0", sig, err)
		}
	}
}

// A second Ctrl-C doesn't wait for what the first one waits for.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := startProcess(t)
	url := "http://" + p.addr + "/"
	// Somebody who never polls again is what the end waits for, 2 s.
	resp, err := http.Get(url + "socket.io/?EIO=4&transport=polling")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	page := newPageAt(t, "page", "websocket", url, "", new(net.Dialer).DialContext)
	p.signal(t, os.Interrupt)
	<-page.done // so the first has been seen
	p.signal(t, os.Interrupt)
	_ = p.cmd.Wait() // its error is in the state
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("the program ended with %v, not by the second signal", p.cmd.ProcessState)
	}
}
