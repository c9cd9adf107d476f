package main

import (
	"cmp"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), in milliseconds: how long sent data may stay unacknowledged. Connections
// have what their listener has.
const tcpUserTimeout = 18

func boundUnanswered(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unanswered.Milliseconds()))
	})
	return cmp.Or(err, set)
}
