package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestKeepAliveIsSet asks the system for what a connection has that was accepted.
func TestKeepAliveIsSet(t *testing.T) {
	ln, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	options, err := optionsOf(there.(*net.TCPConn))
	if want := fmt.Sprint("keep-alive after 10 s, every 4 s, 3 times; unanswered for ", unanswered); err != nil || options != want {
		t.Errorf("an accepted connection has %q (%v), want %q", options, err, want)
	}
}

// optionsOf asks the system what it keeps to.
func optionsOf(conn *net.TCPConn) (string, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", err
	}
	var values []any
	var errs []error
	err = raw.Control(func(fd uintptr) {
		for _, option := range []int{syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT, tcpUserTimeout} {
			v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
			if option == tcpUserTimeout {
				values = append(values, time.Duration(v)*time.Millisecond)
			} else {
				values = append(values, v)
			}
			errs = append(errs, err)
		}
	})
	return fmt.Sprintf("keep-alive after %d s, every %d s, %d times; unanswered for %v", values...), errors.Join(append(errs, err)...)
}
