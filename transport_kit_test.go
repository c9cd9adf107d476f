package chat_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"example.com/chat"
	"example.com/chat/chattest"
)

// TestWebSocketIsATransport holds the WebSocket adapter to the contract: in virtual time over pipes, where a peer that does
// not read is a full socket, and over TCP.
func TestWebSocketIsATransport(t *testing.T) {
	t.Run("pipes", func(t *testing.T) {
		chattest.TestTransport(t, chattest.Connector{Bubble: true, Open: func() (chattest.Ends, error) {
			l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
			return openWS(l, func() (net.Conn, error) {
				here, there := net.Pipe()
				l.conns <- there
				return here, nil
			})
		}})
	})
	t.Run("tcp", func(t *testing.T) {
		chattest.TestTransport(t, chattest.Connector{Open: func() (chattest.Ends, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return chattest.Ends{}, err
			}
			return openWS(l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
		}})
	})
}

// openWS connects a peer to a server of its own.
func openWS(l net.Listener, dial func() (net.Conn, error)) (chattest.Ends, error) {
	room, err := chat.NewRoom(nil) // only its options are of use
	if err != nil {
		return chattest.Ends{}, err
	}
	type accepted struct {
		transport chat.Transport
		wait      func()
		err       error
	}
	conns := make(chan accepted, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		transport, wait, err := chat.AcceptWebSocket(room, nil, w, r)
		conns <- accepted{transport, wait, err}
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	shut := func() error {
		err := errors.Join(srv.Close(), room.Close())
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}
	peer, err := dialKit(dial)
	if err != nil {
		return chattest.Ends{}, errors.Join(err, shut())
	}
	conn := <-conns
	if conn.err != nil {
		return chattest.Ends{}, errors.Join(conn.err, peer.Drop(false), shut())
	}
	return chattest.Ends{Transport: conn.transport, Peer: peer, Close: func() error {
		conn.wait()
		return shut()
	}}, nil
}

// A kitPeer is a client of chat.v1 that reads only when asked to.
type kitPeer struct {
	net.Conn
	raw rawPeer // reads from it
}

func dialKit(dial func() (net.Conn, error)) (*kitPeer, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	p := &kitPeer{conn, rawPeer{Conn: conn, br: bufio.NewReader(conn)}}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: chat.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	resp, err := http.ReadResponse(p.raw.br, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return p, nil
}

const opText, opClose, opPing, opPong = 0x81, 0x88, 0x89, 0x8A

func (p *kitPeer) frame(op byte, payload string) error {
	_, err := p.Write(rawFrame(op, payload))
	return err
}

func (p *kitPeer) Send(req chat.Request) error {
	var m map[string]string
	switch req := req.(type) {
	case chat.LoginRequest:
		m = map[string]string{"op": "login", "ref": req.Ref, "name": req.Name}
	case chat.SendRequest:
		m = map[string]string{"op": "send", "ref": req.Ref, "text": req.Text}
	case chat.LogoutRequest:
		m = map[string]string{"op": "logout", "ref": req.Ref}
	default:
		return errors.ErrUnsupported
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return p.frame(opText, string(text))
}

func (p *kitPeer) Malformed() error { return p.frame(opText, `{"op":`) }
func (p *kitPeer) Goodbye() error   { return p.frame(opClose, "\x03\xe8") } // 1000

func (p *kitPeer) Drop(half bool) error {
	var err error
	if half {
		f := rawFrame(opText, `{"op":"logout"}`)
		_, err = p.Write(f[:len(f)/2])
	}
	return errors.Join(err, p.Conn.Close())
}

func (p *kitPeer) Read() (any, error) {
	for {
		op, payload, err := p.raw.next()
		if err != nil {
			return nil, err
		}
		switch op | 0x80 {
		case opPing:
			err = p.frame(opPong, payload)
		case opClose:
			return nil, errors.Join(endOf(payload), p.frame(opClose, payload[:min(2, len(payload))]))
		case opText:
			return decodeKit(payload)
		}
		if err != nil {
			return nil, err
		}
	}
}

// endOf returns the error that a close frame stands for.
func endOf(payload string) error {
	if len(payload) < 2 {
		return errors.New("a close frame without a code")
	}
	code := binary.BigEndian.Uint16([]byte(payload))
	if code == 1000 {
		return io.EOF
	}
	var reason struct{ Code string }
	if err := json.Unmarshal([]byte(payload[2:]), &reason); err != nil {
		return err
	}
	for _, err := range []error{chat.ErrKicked, chat.ErrSlow, chat.ErrClosed, chat.ErrLost} {
		if reason.Code == chat.Code(err) {
			return fmt.Errorf("%d: %w", code, err)
		}
	}
	if reason.Code == "shutdown" {
		return chat.ShutdownError{}
	}
	return fmt.Errorf("%d %s", code, reason.Code)
}

// decodeKit reads what the kit compares.
func decodeKit(frame string) (any, error) {
	var f struct {
		Reply, Ref, Event, Text, Code string
		User                          chat.User
	}
	if err := json.Unmarshal([]byte(frame), &f); err != nil {
		return nil, err
	}
	switch f.Reply + f.Event {
	case "login":
		return chat.LoginReply{Ref: f.Ref, User: f.User}, nil
	case "send", "logout":
		return chat.SendReply{Ref: f.Ref}, nil
	case "error":
		return chat.ErrorReply{Ref: f.Ref, Err: errors.New(f.Code)}, nil
	case "joined":
		return chat.Joined{User: f.User}, nil
	case "said":
		return chat.Said{User: f.User, Text: f.Text}, nil
	case "left":
		return chat.Left{User: f.User}, nil
	}
	return nil, fmt.Errorf("a frame of no known kind: %s", frame)
}
