package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A client is one WebSocket of the load driver's, by hand and on a bare socket, so that a thousand cost little. While it
// is introduced it blocks, then the driver's loop reads it.
type client struct {
	fd      int
	dialect *dialect
	part    []byte // what came in of a frame that is not whole yet
	message []byte // the earlier fragments of a message
	out     []byte // what the socket did not take yet
	full    bool   // the loop says when it takes more

	here     bool   // it is known to hear what is said
	next     int    // the number of the message that is due
	count    int    // how many messages it has got
	disorder int    // how many were not the one that was due
	listed   int    // how many users were on the last list
	deaf     bool   // it does not read
	ended    bool   // the connection is closed
	goodbye  string // the code and reason of the server's close frame
}

// dial opens a connection that hears all that is said from now on. patience bounds each read until then.
func dial(addr, path string, d *dialect, patience unix.Timeval) (*client, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &client{fd: fd, dialect: d, here: d.hello != nil}
	if err := c.introduce(to, path, patience); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", net.JoinHostPort(to.Addr().String(), path), err)
	}
	return c, nil
}

func (c *client) introduce(to netip.AddrPort, path string, patience unix.Timeval) error {
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.Connect(c.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + to.String() + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + c.dialect.header + "\r\n"
	if _, err := unix.Write(c.fd, []byte(request)); err != nil {
		return err
	}
	for {
		if head, rest, ok := bytes.Cut(c.part, []byte("\r\n\r\n")); ok {
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
				return fmt.Errorf("the handshake was answered with %.80q", head)
			}
			c.part = append([]byte(nil), rest...)
			break
		}
		if err := c.more(); err != nil {
			return err
		}
	}
	if c.dialect.hello != nil {
		if err := c.dialect.hello(c); err != nil {
			return err
		}
	}
	return unix.SetNonblock(c.fd, true)
}

// ask says something and waits for the answer.
func (c *client) ask(payload, answer string) error {
	if _, err := unix.Write(c.fd, appendClientFrame(nil, opText, payload)); err != nil {
		return err
	}
	return c.await(answer)
}

// await drops what comes up to a payload that begins with what is waited for.
func (c *client) await(answer string) error {
	for {
		f, rest, ok := cutFrame(c.part)
		if !ok {
			if err := c.more(); err != nil {
				return fmt.Errorf("waiting for %s: %w", answer, err)
			}
			continue
		}
		c.part = append([]byte(nil), rest...)
		if begins(f.payload, answer) {
			return nil
		}
	}
}

// more reads on, blocking.
func (c *client) more() error {
	var buf [4 << 10]byte
	n, err := unix.Read(c.fd, buf[:])
	for err == unix.EINTR { // with a timeout it is not restarted
		n, err = unix.Read(c.fd, buf[:])
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("closed after %.80q", c.part)
	}
	if err == nil {
		c.part = append(c.part, buf[:n]...)
	}
	return err
}

// Opcodes of RFC 6455 section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// A frame as a server sends it. Its payload is a part of what it was cut from.
type frame struct {
	op      byte
	final   bool
	payload []byte
}

// cutFrame cuts the first frame off b; ok is false if it is not whole.
func cutFrame(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < 2 {
		return f, b, false
	}
	head, n := 2, int(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head, n = 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	if len(b) < head+n {
		return f, b, false
	}
	return frame{b[0] & 0xF, b[0]&0x80 != 0, b[head : head+n]}, b[head+n:], true
}

// appendClientFrame appends one frame as a client sends it, masked.
func appendClientFrame(dst []byte, op byte, payload string) []byte {
	mask := [4]byte{0x5A, 0x13, 0xC7, 0x2E}
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	default:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	}
	dst = append(dst, mask[:]...)
	for i := range len(payload) {
		dst = append(dst, payload[i]^mask[i&3])
	}
	return dst
}
