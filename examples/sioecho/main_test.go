package main

//lint:file-ignore SA1019 nhooyr.io/websocket is the given choice; its line continues as github.com/coder/websocket with the same API

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"nhooyr.io/websocket"
)

// start runs the program on a free port of 127.0.0.1 and returns the address that it says it serves.
func start(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), in, &stderr)
		in.Close()
	}()
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	t.Cleanup(func() {
		stop()
		go io.Copy(io.Discard, lines)
		if got := <-code; got != 0 || stderr.Len() > 0 {
			t.Errorf("exit code %d: %s", got, &stderr)
		}
	})
	if err != nil {
		t.Fatalf("it said %q, and %s", line, &stderr)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(line), " at ")
	if !ok {
		t.Fatalf("it said %q", line)
	}
	return url
}

// A client sends packets and reads what comes back, a packet at a time.
type client interface {
	send(packets ...string)
	next() string // a binary one as polling has it: b and base64
}

type polling struct {
	*testing.T
	url  string
	rest []string
}

func (c *polling) send(packets ...string) {
	c.Helper()
	resp, err := http.Post(c.url, "text/plain", strings.NewReader(strings.Join(packets, "\x1e")))
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok" {
		c.Fatalf("posting %q: %s %s, %v", packets, resp.Status, b, err)
	}
}

func (c *polling) next() string {
	c.Helper()
	if len(c.rest) == 0 {
		status, body := get(c.T, c.url)
		if status != http.StatusOK {
			c.Fatalf("polling: %d %s", status, body)
		}
		c.rest = strings.Split(body, "\x1e")
	}
	p := c.rest[0]
	c.rest = c.rest[1:]
	return p
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

type webSocket struct {
	*testing.T
	conn *websocket.Conn
}

func (c *webSocket) send(packets ...string) {
	c.Helper()
	for _, p := range packets {
		typ, data := websocket.MessageText, []byte(p)
		if b, ok := binary(p); ok {
			typ, data = websocket.MessageBinary, b
		}
		if err := c.conn.Write(c.Context(), typ, data); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *webSocket) next() string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	typ, data, err := c.conn.Read(ctx)
	if err != nil {
		c.Fatal(err)
	}
	if typ == websocket.MessageBinary {
		j, err := json.Marshal(data)
		if err != nil {
			c.Fatal(err)
		}
		return "b" + strings.Trim(string(j), `"`)
	}
	return string(data)
}

// binary decodes a binary packet as polling has it.
func binary(p string) ([]byte, bool) {
	s, ok := strings.CutPrefix(p, "b")
	var b []byte
	return b, ok && json.Unmarshal([]byte(`"`+s+`"`), &b) == nil
}

// connect opens a session and returns its open packet.
func connect(t *testing.T, url, transport string) (client, string) {
	t.Helper()
	url += "?EIO=4&transport=" + transport
	if transport == "websocket" {
		conn, _, err := websocket.Dial(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		c := &webSocket{t, conn}
		return c, c.next()
	}
	_, open := get(t, url)
	var o struct{ SID string }
	if err := json.Unmarshal([]byte(open[1:]), &o); err != nil {
		t.Fatalf("%q: %v", open, err)
	}
	return &polling{T: t, url: url + "&sid=" + o.SID}, open
}

// Each mode does what it says, on both transports.
func TestEcho(t *testing.T) {
	const placeholder = `{"_placeholder":true,"num":0}`
	eio := [][2]string{
		{"4hello", "4hello"}, {"bAQIDBA==", "bAQIDBA=="}, {"4", "4"}, {"42[\"message\"]", "42[\"message\"]"},
	}
	sio := [][2]string{
		{`40`, `40{"sid":*}|42["auth",{}]`},
		{`40/custom,{"token":"123"}`, `40/custom,{"sid":*}|42/custom,["auth",{"token":"123"}]`},
		{`40/random`, `44/random,{"message":"Invalid namespace"}`},
		{`42["message",1,"2",{"3":[true]}]`, `42["message-back",1,"2",{"3":[true]}]`},
		{`42/custom,["message"]`, `42/custom,["message-back"]`},
		{`452-["message",{"a":` + placeholder + `},{"_placeholder":true,"num":1}]|bAQID|bBAUG`,
			`452-["message-back",{"a":` + placeholder + `},{"_placeholder":true,"num":1}]|bAQID|bBAUG`},
		{`42456["message-with-ack",1,"2",{"3":[false]}]`, `43456[1,"2",{"3":[false]}]`},
		{`451-789["message-with-ack",` + placeholder + `]|bAQID`, `461-789[` + placeholder + `]|bAQID`},
		{`42["message-with-ack"]|42["something else"]|42["message"]`, `42["message-back"]`},
		{`41/custom,|42["message",1]`, `42["message-back",1]`},
	}
	for _, mode := range []struct {
		name, path string
		says       [][2]string
	}{{"eio", "/engine.io/", eio}, {"sio", "/socket.io/", sio}} {
		url := start(t, "-mode", mode.name, "-ping-interval", "61s", "-ping-timeout", "7000", "-max-payload", "12345")
		if !strings.HasSuffix(url, mode.path) {
			t.Errorf("%s at %s", mode.name, url)
		}
		for _, transport := range []string{"polling", "websocket"} {
			c, open := connect(t, url, transport)
			var got struct{ PingInterval, PingTimeout, MaxPayload int }
			if err := json.Unmarshal([]byte(open[1:]), &got); err != nil || fmt.Sprint(got) != "{61000 7000 12345}" {
				t.Errorf("%s, %s: opened with %s, %v", mode.name, transport, open, err)
			}
			for _, line := range mode.says {
				c.send(strings.Split(line[0], "|")...)
				for _, want := range strings.Split(line[1], "|") {
					got := c.next()
					if before, after, ok := strings.Cut(want, "*"); ok && strings.HasPrefix(got, before) && strings.HasSuffix(got, after) {
						continue
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s, %s: after %s (-want +got):\n%s", mode.name, transport, line[0], d)
					}
				}
			}
		}
		if status, _ := get(t, strings.Replace(url, mode.path, "/elsewhere/", 1)); status != http.StatusNotFound {
			t.Errorf("%s: another path got %d", mode.name, status)
		}
	}
}

// pipes is a listener for virtual time: a real socket would not be part of a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// The times are those asked for, exactly: who says nothing is pinged, and ended.
func TestEchoTimes(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // packets until the end, and when each came
	}{
		{[]string{"-mode", "eio", "-ping-interval", "20ms", "-ping-timeout", "30ms"}, "2 after 20ms|end after 50ms"},
		{[]string{"-mode", "sio", "-ping-interval", "1m", "-connect-timeout", "20"}, "end after 20ms"},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, err := parse(tt.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			srv, path := c.server()
			ln := make(pipes)
			web := &http.Server{Handler: srv}
			served := make(chan error, 1)
			go func() { served <- web.Serve(ln) }()
			hc := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				ln <- there
				return here, nil
			}}}
			start := time.Now()
			conn, _, err := websocket.Dial(t.Context(), "http://echo.test"+path+"?EIO=4&transport=websocket",
				&websocket.DialOptions{HTTPClient: hc})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				_, data, err := conn.Read(t.Context())
				if err != nil {
					if websocket.CloseStatus(err) == -1 {
						t.Errorf("%v: ended with %v", tt.args, err)
					}
					break
				}
				if !bytes.HasPrefix(data, []byte("0{")) {
					got = append(got, fmt.Sprintf("%s after %v", data, time.Since(start)))
				}
			}
			got = append(got, fmt.Sprintf("end after %v", time.Since(start)))
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("%v: got %q, want %q", tt.args, s, tt.want)
			}
			conn.CloseNow()
			srv.Close()
			web.Close()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

// A command line that makes no sense is told in one line, and -h lists every flag.
func TestCommandLine(t *testing.T) {
	var help, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &help, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("-h: exit code %d, %s", code, &stderr)
	}
	for _, flag := range []string{"-mode", "-addr", "-ping-interval", "-ping-timeout", "-max-payload", "-connect-timeout"} {
		if !strings.Contains(help.String(), "\n  "+flag+" ") {
			t.Errorf("-h says nothing of %s:\n%s", flag, &help)
		}
	}
	for _, args := range [][]string{
		{"-mode", "x"}, {"-addr", "nowhere"}, {"-ping-interval", "0"}, {"-ping-interval", "soon"}, {"-ping-timeout", "-1s"},
		{"-connect-timeout", "1us"}, {"-max-payload", "0"}, {"-max-payload", "much"}, {"more"}, {"-what"},
	} {
		stderr.Reset()
		code := run(t.Context(), args, io.Discard, &stderr)
		if code != 2 || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%v: exit code %d and %q", args, code, &stderr)
		}
	}
	stderr.Reset()
	if code := run(t.Context(), []string{"-addr", "256.0.0.1:0"}, io.Discard, &stderr); code != 1 || stderr.Len() == 0 {
		t.Errorf("an address that there is not: exit code %d and %q", code, &stderr)
	}
}
