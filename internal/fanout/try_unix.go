//go:build unix

package fanout

import (
	"net"
	"syscall"
)

// A socket is the tryWriter and awaiter of a socket of the operating system's.
type socket struct {
	raw   syscall.RawConn
	write func(fd uintptr) bool // made once, so that a call allocates nothing
	p     []byte                // its argument
	n     int                   // and results
	err   error
	read  func(fd uintptr) bool // likewise
	in    *chunk                // its result
}

// socketOf returns nil if nc is none. What merely wraps one is none either: its
// Write may do more, as that of TLS does.
func socketOf(nc net.Conn) tryWriter {
	var raw syscall.RawConn
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, err = nc.SyscallConn()
	case *net.UnixConn:
		raw, err = nc.SyscallConn()
	default:
		return nil
	}
	if err != nil {
		return nil // closed: what Write meets then is told
	}
	s := &socket{raw: raw}
	s.write = func(fd uintptr) bool {
		for {
			s.n, s.err = syscall.Write(int(fd), s.p)
			if s.err != syscall.EINTR {
				return true // also for EAGAIN: it is not waited for
			}
		}
	}
	s.read = func(fd uintptr) bool {
		in := chunks.Get().(*chunk)
		for {
			n, err := syscall.Read(int(fd), in.buf[:])
			if err == syscall.EINTR {
				continue
			}
			if n > 0 {
				in.n, s.in = n, in
				return true
			}
			chunks.Put(in)
			return err != syscall.EAGAIN // then it is waited for
		}
	}
	return s
}

func (s *socket) await() *chunk {
	_ = s.raw.Read(s.read) // an error Read will meet as well
	in := s.in
	s.in = nil
	return in
}

func (s *socket) TryWrite(p []byte) (int, error) {
	s.p = p
	err := s.raw.Write(s.write)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.err == syscall.EAGAIN:
		return 0, nil
	case s.err != nil:
		return 0, s.err
	}
	return s.n, nil
}
