package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// A floor is the least that a Go server on package net can do: a frame is made once, by hand, and whoever read the
// message writes it to everybody, one write a delivery. joined is the least that a server can do which sends all that is
// due in one write: here the messages that came in one read. pad is how long each text is made at least: a frame of
// chat.v1 says more than a text, and what its bytes cost is told apart so.
//
// It is no server to use. One client that does not read stops everybody, and there is no limit and no heartbeat.
type floor struct {
	joined bool
	pad    int

	mu    sync.Mutex // guards conns, and makes one order of the messages
	conns map[net.Conn]struct{}
}

func newFloor(joined bool, pad int) func() hub {
	return func() hub {
		f := &floor{joined: joined, pad: pad, conns: make(map[net.Conn]struct{})}
		return hub{
			serve: func(ln net.Listener) error {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return err
					}
					go f.client(conn)
				}
			},
			send: func(text string) { f.write(f.frame(nil, []byte(text))) },
		}
	}
}

func (f *floor) client(conn net.Conn) {
	defer conn.Close()
	if err := f.handshake(conn); err != nil {
		return
	}
	f.mu.Lock()
	f.conns[conn] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
	}()
	buf, have := make([]byte, 512), 0
	var out []byte
	for {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return
		}
		rest := buf[:have+n]
		for {
			text, after, ok := cutClientFrame(rest)
			if !ok {
				break
			}
			rest = after
			if out = f.frame(out, text); !f.joined {
				f.write(out)
				out = out[:0]
			}
		}
		if len(out) > 0 {
			f.write(out)
			out = out[:0]
		}
		if have+n == len(buf) { // it has more to say than a client that mostly listens
			buf = append(make([]byte, 0, 64<<10), rest...)[:64<<10]
			have = len(rest)
		} else {
			have = copy(buf, rest)
		}
	}
}

// handshake answers a client's. What it reads with is not kept.
func (f *floor) handshake(conn net.Conn) error {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return err
}

func (f *floor) write(frames []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_, _ = conn.Write(frames) // of one that is gone its reader learns
	}
}

// frame appends the frame of a message.
func (f *floor) frame(dst, text []byte) []byte {
	if n := f.pad - len(text); n > 0 {
		text = append(text[:len(text):len(text)], bytes.Repeat([]byte{' '}, n)...)
	}
	return appendServerFrame(dst, text)
}

func appendServerFrame(dst, text []byte) []byte {
	if len(text) < 126 {
		dst = append(dst, 0x81, byte(len(text)))
	} else {
		dst = binary.BigEndian.AppendUint16(append(dst, 0x81, 126), uint16(len(text)))
	}
	return append(dst, text...)
}

// cutClientFrame returns the text of the first frame in b, unmasked in place, and what follows it. ok is false if the
// frame is not whole.
func cutClientFrame(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	head, n := 2, int(b[1]&0x7F)
	if n == 126 && len(b) >= 4 {
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < head+4+n {
		return nil, b, false
	}
	mask, text := b[head:head+4], b[head+4:head+4+n]
	for i := range text {
		text[i] ^= mask[i&3]
	}
	return text, b[head+4+n:], true
}
