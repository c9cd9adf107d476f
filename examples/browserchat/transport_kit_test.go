package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nhooyr.io/websocket"

	"example.com/chat"
	"example.com/chat/chattest"
	"example.com/chat/socketio"
)

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

// TestTransportContract holds the transport to the contract, in virtual time, on both ways that a page may be connected,
// and on a WebSocket over TCP, where something can be delivered without waiting. What a page is told of an end is whether
// to come back, and no cause. On polling a connection that is cut is one that is not heard of any more.
func TestTransportContract(t *testing.T) {
	for _, way := range transports {
		t.Run(way, func(t *testing.T) {
			chattest.TestTransport(t, chattest.Connector{
				Open: func() (chattest.Ends, error) {
					ln := newPipeListener()
					return openPage(way, ln, ln.dial)
				},
				NoCauses:  true,
				Heartbeat: time.Minute, // 25 s and 20 s
				Bubble:    true,
			})
		})
	}
	t.Run("websocket over tcp", func(t *testing.T) {
		chattest.TestTransport(t, chattest.Connector{
			Open: func() (chattest.Ends, error) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return chattest.Ends{}, err
				}
				return openPage("websocket", ln, func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
				})
			},
			NoCauses: true,
		})
	})
}

// openPage connects a page to a server of its own.
func openPage(way string, ln net.Listener, dial dialFunc) (chattest.Ends, error) {
	sio := socketio.NewServer(nil)
	sockets, release := make(chan *socketio.Socket, 1), make(chan struct{})
	sio.Handle("/", func(socket *socketio.Socket) {
		sockets <- socket
		<-release // the socket ends with its handler
	})
	srv := &http.Server{Handler: sio}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	p := newReader(dial)
	shut := func() error {
		close(release)
		p.close()
		err := errors.Join(sio.Close(), srv.Close())
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}
	if err := p.open(way); err != nil {
		return chattest.Ends{}, errors.Join(err, shut())
	}
	nobody := func() []chat.User { return nil } // for the first list
	return chattest.Ends{
		Transport: newTransport(<-sockets, plain, visit{ticket: newTicket(chat.Position{})}, nobody),
		Peer:      p,
		Close:     shut,
	}, nil
}

// A reader is a page that takes only what it is asked to read, on polling a payload at a time.
type reader struct {
	http   *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	ws     *websocket.Conn
	sid    string
	got    []string // of a payload

	mu    sync.Mutex
	conns []net.Conn
	asked []chat.Request // by the number of the acknowledgement
}

func newReader(dial dialFunc) *reader {
	p := &reader{}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.conns = append(p.conns, conn)
		}
		return conn, err
	}}}
	return p
}

// open connects to the namespace.
func (p *reader) open(way string) error {
	var err error
	if way == "websocket" {
		p.ws, _, err = websocket.Dial(p.ctx, "http://chat.test/?EIO=4&transport=websocket", &websocket.DialOptions{HTTPClient: p.http})
		if err == nil {
			p.ws.SetReadLimit(-1)
			_, err = p.packet() // the handshake
		}
	} else {
		var body string
		body, err = p.request(http.MethodGet, "")
		var open struct{ SID string }
		err = errors.Join(err, json.Unmarshal([]byte(strings.TrimPrefix(body, "0")), &open))
		p.sid = open.SID
	}
	if err != nil {
		return err
	}
	if err := p.packets("40"); err != nil {
		return err
	}
	answer, err := p.packet()
	if err == nil && !strings.HasPrefix(answer, "40") {
		err = errors.New(answer)
	}
	return err
}

func (p *reader) request(method, body string) (string, error) {
	url := "http://chat.test/?EIO=4&transport=polling"
	if p.sid != "" {
		url += "&sid=" + p.sid
	}
	return fetch(p.ctx, p.http, method, url, body)
}

// packets sends packets of Engine.IO.
func (p *reader) packets(packets ...string) error {
	if p.ws == nil {
		_, err := p.request(http.MethodPost, strings.Join(packets, "\x1e"))
		return err
	}
	for _, packet := range packets {
		if err := p.ws.Write(p.ctx, websocket.MessageText, []byte(packet)); err != nil {
			return err
		}
	}
	return nil
}

// packet reads the next one, and answers pings.
func (p *reader) packet() (string, error) {
	for {
		if len(p.got) == 0 {
			var payload string
			var err error
			if p.ws != nil {
				var data []byte
				_, data, err = p.ws.Read(p.ctx)
				payload = string(data)
			} else {
				payload, err = p.request(http.MethodGet, "")
			}
			if err != nil {
				return "", err
			}
			p.got = strings.Split(payload, "\x1e")
		}
		next := p.got[0]
		p.got = p.got[1:]
		switch next {
		case "1", "41":
			return "", errors.New("closed by the server")
		case "2":
			if err := p.packets("3"); err != nil {
				return "", err
			}
		case "6":
		default:
			return next, nil
		}
	}
}

// ask sends an event that wants an acknowledgement, for a request.
func (p *reader) ask(req chat.Request, name string, args ...any) error {
	event, err := json.Marshal(append([]any{name}, args...))
	if err != nil {
		return err
	}
	p.mu.Lock()
	id := len(p.asked)
	p.asked = append(p.asked, req)
	p.mu.Unlock()
	return p.packets(fmt.Sprintf("42%d%s", id, event))
}

func (p *reader) Send(req chat.Request) error {
	switch r := req.(type) {
	case chat.LoginRequest:
		return p.ask(r, "login", r.Name)
	case chat.SendRequest:
		return p.ask(r, "message", map[string]string{"message": r.Text})
	case chat.LogoutRequest:
		return p.ask(r, "loginOut")
	}
	return errors.ErrUnsupported
}

func (p *reader) Malformed() error { return p.ask(chat.BadRequest{}, "login", 5) }
func (p *reader) Goodbye() error   { return p.packets("41") }

func (p *reader) Drop(half bool) error {
	if half && p.ws == nil {
		return errors.ErrUnsupported
	}
	p.mu.Lock()
	conns := p.conns
	p.mu.Unlock()
	var err error
	if half {
		_, err = conns[0].Write([]byte{0x81, 0x85, 0, 0, 0, 0, '4', '2'}) // of a frame of five bytes
	}
	p.cancel()
	for _, conn := range conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// close leaves nothing of it behind.
func (p *reader) close() {
	p.cancel()
	if p.ws != nil {
		p.ws.CloseNow()
	}
	p.http.CloseIdleConnections()
}

func (p *reader) Read() (any, error) {
	for {
		packet, err := p.packet()
		if err != nil {
			return nil, err
		}
		if v, err := p.decode(packet); v != nil || err != nil {
			return v, err
		}
	}
}

// decode reads what the kit compares; nil for what is the page's own.
func (p *reader) decode(packet string) (any, error) {
	start := strings.IndexByte(packet, '[')
	if start < 2 {
		return nil, fmt.Errorf("not an event: %q", packet)
	}
	var args []any
	if err := json.Unmarshal([]byte(packet[start:]), &args); err != nil {
		return nil, err
	}
	if packet[:2] == "43" {
		var id int
		var a ack
		if _, err := fmt.Sscan(packet[2:start], &id); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(packet[start+1:len(packet)-1]), &a); err != nil {
			return nil, err
		}
		p.mu.Lock()
		req := p.asked[id]
		p.mu.Unlock()
		switch r := req.(type) {
		case chat.LoginRequest:
			if a.OK {
				return chat.LoginReply{Ref: r.Ref, User: chat.User{Name: a.Username}}, nil
			}
		case chat.SendRequest:
			if a.OK {
				return chat.SendReply{Ref: r.Ref}, nil
			}
		case chat.LogoutRequest:
			if a.OK {
				return chat.SendReply{Ref: r.Ref}, nil
			}
		}
		return chat.ErrorReply{Err: errors.New(a.Error)}, nil
	}
	name, _ := args[1].(string) // null is nobody
	switch args[0] {
	case "notify":
		return chat.Joined{User: chat.User{Name: name}}, nil
	case "recevied":
		text, _ := args[2].(string)
		return chat.Said{User: chat.User{Name: name}, Text: text}, nil
	case "loginOut":
		if name != "" {
			return chat.Left{User: chat.User{Name: name}}, nil
		}
	}
	return nil, nil
}
