//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestSignals runs the program: Ctrl-C, and what a service manager sends, end it in order.
func TestSignals(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "LINECHAT_TEST_MAIN=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended
		line, err := bufio.NewReader(out).ReadString('\n')
		addr, ok := strings.CutPrefix(line, "linechat: listening on ")
		if err != nil || !ok {
			t.Fatalf("%q, %v", line, err)
		}
		ann := dial(t, strings.TrimSpace(addr))
		ann.types("ann\n")
		ann.sees("Your name?", "Welcome, ann. /quit leaves.", "* ann joined")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		ann.sees("Bye: room is shutting down")
		ann.isOut()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v, not exit 0", sig, err)
		}
	}
}

func TestHelp(t *testing.T) {
	for arg, want := range map[string]int{"-h": 0, "-nothing": 2} {
		cmd := exec.Command(os.Args[0], arg)
		cmd.Env = append(os.Environ(), "LINECHAT_TEST_MAIN=1")
		out, _ := cmd.CombinedOutput() // its error is in the state
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(string(out), "-addr host:port") {
			t.Errorf("%s: exit %d and %q", arg, code, out)
		}
	}
}
