package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/chat"
	"github.com/google/go-cmp/cmp"
)

// TestMain lets a test run the program itself, in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("BROWSERCHAT_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A program is a run of the program on a real port.
type program struct {
	url    string        // what it says to open
	end    func() int    // Ctrl-C; returns the exit code
	stderr *bytes.Buffer // not to be read before end
}

// start runs the program and waits for the line that says what to open.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	p := &program{stderr: new(bytes.Buffer)}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, flags...), stdout, p.stderr)
		stdout.Close()
		close(code)
	}()
	ended := 0
	p.end = func() int {
		cancel()
		if c, ok := <-code; ok {
			ended = c
		}
		return ended
	}
	t.Cleanup(func() { p.end() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.end()
		t.Fatalf("the program printed no line: %v\n%s", err, p.stderr)
	}
	go io.Copy(io.Discard, out)
	var ok bool
	if p.url, ok = strings.CutPrefix(strings.TrimSpace(line), "browserchat: open "); !ok {
		t.Fatalf("the program printed %q", line)
	}
	return p
}

// get fetches a path.
func (p *program) get(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestOwnPage(t *testing.T) {
	p := start(t)
	for _, test := range []struct{ path, contentType, want, why string }{
		{"", "text/html; charset=utf-8", "<!doctype html>", "the page"},
		{"page.js", "text/javascript; charset=utf-8", `"use strict"`, "its script"},
		{"page.css", "text/css; charset=utf-8", "{", "its style"},
		{"socket.io/socket.io.js", "text/javascript; charset=utf-8", "io", "the script that it loads, from the Socket.IO server"},
	} {
		resp, body := p.get(t, test.path)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != test.contentType || !strings.Contains(body, test.want) {
			t.Errorf("/%s (%s): %s, %s, %.60q…", test.path, test.why, resp.Status, resp.Header.Get("Content-Type"), body)
		}
		if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("/%s: X-Content-Type-Options %q", test.path, got)
		}
		tag := resp.Header.Get("Etag")
		if resp, _ := p.get(t, test.path, "If-None-Match", tag); tag == "" || resp.StatusCode != http.StatusNotModified {
			t.Errorf("/%s with its own tag %s: %s, not 304", test.path, tag, resp.Status)
		}
	}
	resp, body := p.get(t, "")
	csp := resp.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q is not strict", csp)
	}
	for _, inline := range []string{"<style", "onclick=", "<script>"} {
		if strings.Contains(body, inline) {
			t.Errorf("the page has %s, which the policy forbids", inline)
		}
	}
	if resp, _ := p.get(t, "nothing"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("/nothing: %s", resp.Status)
	}
	resp, err := http.Post(p.url, "text/plain", strings.NewReader("hi"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %s", resp.Status)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if p.stderr.Len() > 0 {
		t.Errorf("stderr: %s", p.stderr)
	}
}

// file writes a file for a flag.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnothersPage(t *testing.T) {
	const text = "<!DOCTYPE html><title>Mine</title><script>let socket = io('http://localhost:3000')</script>"
	path := file(t, "mine.html", text)
	p := start(t, "-page", path, "-client", file(t, "mine.js", "var io = null"))
	resp, body := p.get(t, "")
	if body != text || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the page is %q, %s", body, resp.Header.Get("Content-Type"))
	}
	if csp := resp.Header.Get("Content-Security-Policy"); csp != "" {
		t.Errorf("a policy %q on a page that has inline script", csp)
	}
	if resp, _ := p.get(t, "page.js"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("our own page's script beside another's page: %s", resp.Status)
	}
	if _, body := p.get(t, "socket.io/socket.io.js"); body != "var io = null" {
		t.Errorf("the script is %q", body)
	}
	_, port, _ := net.SplitHostPort(strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"))
	for _, test := range []struct {
		origin string
		status int
		why    string
	}{
		{"http://localhost:" + port, 200, "opened under another spelling of this machine"},
		{"http://127.0.0.1:" + port, 200, "the same"},
		{"http://[::1]:" + port, 200, "the same"},
		{"http://localhost:1", 403, "another program of this machine"},
		{"https://localhost:" + port, 403, "another scheme"},
		{"http://evil.example:" + port, 403, "a stranger's page"},
		{"http://1:" + port, 403, "would match [::1] as a class of characters"},
	} {
		resp, body := p.get(t, "socket.io/?EIO=4&transport=polling", "Origin", test.origin)
		if resp.StatusCode != test.status {
			t.Errorf("origin %s (%s): %s %s, want %d", test.origin, test.why, resp.Status, body, test.status)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if want := "browserchat: " + path + " connects to localhost:3000, which is not this server: it can't work here\n"; p.stderr.String() != want {
		t.Errorf("stderr %q, want %q", p.stderr, want)
	}
}

func TestNoOtherOriginOnOurOwnPage(t *testing.T) {
	p := start(t)
	resp, _ := p.get(t, "socket.io/?EIO=4&transport=polling", "Origin", strings.TrimSuffix(strings.Replace(p.url, "127.0.0.1", "localhost", 1), "/"))
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: %s", resp.Status)
	}
}

func TestCaveat(t *testing.T) {
	for _, test := range []struct{ text, addr, port, want, why string }{
		{"io()", ":3000", "3000", "", "names no server"},
		{"io('http://chat.example:3000')", ":4000", "4000", "", "names a server that we don't know"},
		{"io('http://localhost:3000')", ":3000", "3000", "p connects to localhost:3000: it works in browsers on this machine alone", "the usual case"},
		{"io('http://localhost:3000')", "127.0.0.1:3000", "3000", "p connects to localhost:3000: it works in browsers on this machine alone", "on one address"},
		{"io('http://[::1]:3000')", "[::1]:0", "3000", "p connects to [::1]:3000: it works in browsers on this machine alone", "IPv6"},
		{"io('http://localhost:3000')", ":4000", "4000", "p connects to localhost:3000, which is not this server: it can't work here", "another port"},
		{"io('http://localhost:3000')", "192.0.2.1:3000", "3000", "p connects to localhost:3000, which is not this server: it can't work here", "an address that is not the loopback's"},
		{"io('http://localhost:30001')", ":3000", "3000", "p connects to localhost:30001, which is not this server: it can't work here", "a longer port"},
	} {
		p := &pages{name: "p", text: []byte(test.text)}
		if got := p.caveat(test.addr, test.port); got != test.want {
			t.Errorf("%s, listening on %s: %q, want %q: %s", test.text, test.addr, got, test.want, test.why)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, test := range []struct{ asked, got, want string }{
		{":3000", "[::]:3000", "http://localhost:3000/"},
		{"0.0.0.0:0", "0.0.0.0:4711", "http://localhost:4711/"},
		{"[::]:0", "[::]:4711", "http://localhost:4711/"},
		{"127.0.0.1:0", "127.0.0.1:4711", "http://127.0.0.1:4711/"},
		{"[::1]:0", "[::1]:4711", "http://[::1]:4711/"},
		{"chat.example:http", "192.0.2.1:80", "http://chat.example:80/"},
	} {
		got, err := net.ResolveTCPAddr("tcp", test.got)
		if err != nil {
			t.Fatal(err)
		}
		if a := address(test.asked, got); a != test.want {
			t.Errorf("asked for %s, got %s: %s, want %s", test.asked, test.got, a, test.want)
		}
	}
}

func TestPortTaken(t *testing.T) {
	first := start(t)
	addr := strings.Trim(strings.TrimPrefix(first.url, "http://"), "/")
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"-addr", addr}, &stdout, &stderr); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), addr) {
		t.Errorf("stdout %q, stderr %q, want one line that names %s", stdout.String(), stderr.String(), addr)
	}
}

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		line string // the beginning of what stands on stderr
		why  string
	}{
		{[]string{"-rate", "-1"}, 2, `browserchat: invalid value "-1" for flag -rate: want a whole number, 0 for no limit`, "0 is how a limit is switched off"},
		{[]string{"-max-text", "many"}, 2, `browserchat: invalid value "many" for flag -max-text: want a whole number`, "not a number"},
		{[]string{"-max-unread", "9999999999999"}, 2, `browserchat: invalid value "9999999999999" for flag -max-unread: want a whole number`, "no int on every machine"},
		{[]string{"-max-name", "513"}, 2, "browserchat: -max-name: 513 is over 512", "no log takes it"},
		{[]string{"-heartbeat", "0"}, 2, "browserchat: -heartbeat: 0s is too short, and a heartbeat can't be switched off", "without it the vanished stay"},
		{[]string{"-heartbeat", "-5s"}, 2, "browserchat: -heartbeat: -5s is too short", "the same"},
		{[]string{"-window", "0"}, 2, "browserchat: -window: 0 is not a size, and the window can't be switched off", "a room without one can't work"},
		{[]string{"-log", "loud"}, 2, `browserchat: invalid value "loud" for flag -log`, "no level"},
		{[]string{"-addr", "3000"}, 2, "browserchat: -addr: address 3000: missing port in address", "a port without its colon"},
		{[]string{"-nonsense"}, 2, "browserchat: flag provided but not defined: -nonsense", "no such flag"},
		{[]string{"page.html"}, 2, `browserchat: unexpected argument "page.html"`, "-page was forgotten"},
		{[]string{"-addr", "127.0.0.1:0", "-page", "no/such/file"}, 1, "browserchat: open no/such/file: ", "nothing to serve"},
		{[]string{"-addr", "127.0.0.1:0", "-client", "no/such/file"}, 1, "browserchat: open no/such/file: ", "nothing to serve"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), test.args, &stdout, &stderr)
		if code != test.code || !strings.HasPrefix(stderr.String(), test.line) || strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want exit %d and one line %q…: %s",
				test.args, code, stdout.String(), stderr.String(), test.code, test.line, test.why)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"-h"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
	for flag, def := range map[string]string{
		"addr": `":3000"`, "rate": "20", "max-members": "10000", "max-subscribers": "20000", "max-per-source": "100",
		"max-anonymous": "5000", "max-text": "4096", "max-name": "64", "max-unread": "1048576", "window": "4194304",
		"heartbeat": "25s", "log": "WARN",
	} {
		_, text, ok := strings.Cut(stdout.String(), "\n  -"+flag+" ")
		text, _, _ = strings.Cut(text, "\n  -")
		if !ok || !strings.Contains(text, "(default "+def+")") {
			t.Errorf("-%s is not listed with its default %s: %q", flag, def, text)
		}
	}
}

// A limit's flag of 0 is no limit in the options, and the others are themselves.
func TestLimits(t *testing.T) {
	c, err := parse([]string{"-rate=0", "-max-members=7", "-max-text=0"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got := []int{c.rate.option(), c.members.option(), c.maxText.option(), c.perSource.option(), int(c.maxPayload())}
	if diff := cmp.Diff([]int{-1, 7, -1, 100, -1}, got); diff != "" {
		t.Error(diff)
	}
	if c, err = parse([]string{"-max-text=1000000"}, io.Discard); err != nil || c.maxPayload() < 6_000_000 {
		t.Errorf("a message of -max-text does not fit into %d bytes (%v)", c.maxPayload(), err)
	}
}

func TestEscapeByDefaultWithPage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want bool
	}{
		{nil, false}, {[]string{"-escape"}, true}, {[]string{"-page=x"}, true}, {[]string{"-page=x", "-escape=false"}, false},
	} {
		c, err := parse(test.args, io.Discard)
		if err != nil || c.escape != test.want {
			t.Errorf("%q: escape %v, want %v (%v)", test.args, c.escape, test.want, err)
		}
	}
}

// Too many connections of one source are refused over both ways to the room, which count together.
func TestPerSource(t *testing.T) {
	p := start(t, "-max-per-source", "1")
	if resp, body := p.get(t, "socket.io/?EIO=4&transport=polling"); resp.StatusCode != http.StatusOK {
		t.Fatalf("first: %s %s", resp.Status, body)
	}
	if resp, body := p.get(t, "socket.io/?EIO=4&transport=polling"); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("second over Socket.IO: %s %s", resp.Status, body)
	}
	resp, body := p.get(t, "ws", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol", "chat.v1")
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("second over chat.v1: %s %s", resp.Status, body)
	}
}

// The status of a refusal tells who is at fault: 429 the client, who may try again later, 503 the server.
func TestRefusal(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
		why  string
	}{
		{chat.LimitError{Limit: chat.ErrSource, Max: 1}, http.StatusTooManyRequests, "too many from there"},
		{chat.LimitError{Limit: chat.ErrAnonymous, Max: 1}, http.StatusTooManyRequests, "too many who are not logged in"},
		{chat.ErrClosed, http.StatusServiceUnavailable, "the room has ended"},
		{io.ErrUnexpectedEOF, http.StatusServiceUnavailable, "its log has failed"},
	} {
		err := error(refusal{test.err})
		var status interface{ StatusCode() int }
		if !errors.As(err, &status) || status.StatusCode() != test.want || !errors.Is(err, test.err) {
			t.Errorf("%v (%s): %v, want status %d", test.err, test.why, err, test.want)
		}
	}
}

func TestSource(t *testing.T) {
	for _, test := range []struct{ remote, want, why string }{
		{"192.0.2.1:1234", "192.0.2.1", "a host, whatever its port"},
		{"[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64", "one customer has that many"},
		{"[::ffff:192.0.2.1]:1234", "192.0.2.1", "IPv4 on a socket for both"},
		{"[fe80::1%eth0]:1234", "fe80::/64", "the zone is ours"},
		{"pipe", "pipe", "a listener of another kind"},
	} {
		if got := source(&http.Request{RemoteAddr: test.remote}); got != test.want {
			t.Errorf("%s: %s, want %s: %s", test.remote, got, test.want, test.why)
		}
	}
}
