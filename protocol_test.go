package chat_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// The page tells a story in its blocks. Here it is told to a real server, line by line.
func TestProtocolPage(t *testing.T) {
	page, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)))
		st := &story{
			t:       t,
			s:       serveWS(t, nil, &chat.WebSocketOptions{Serve: chat.ServeOptions{Linger: time.Minute}}, nil),
			clients: map[string]*wsClient{},
			tokens:  map[string]string{},
		}
		epoch, _, _ := strings.Cut(wsPosition(t, st.s, 0), "-")
		st.epoch = epoch
		told, inBlock := 0, false
		for i, line := range strings.Split(string(page), "\n") {
			switch {
			case strings.HasPrefix(line, "```"):
				inBlock = line == "```chat"
			case inBlock:
				st.at = fmt.Sprintf("PROTOCOL.md:%d", i+1)
				st.tell(line)
				told++
			}
		}
		if told < 50 {
			t.Errorf("only %d lines of a story", told)
		}
		for name, c := range st.clients {
			synctest.Wait()
			if f, ok := <-c.frames; ok {
				t.Errorf("%s got more than the page tells: %s", name, f)
			}
		}
	})
}

type story struct {
	t       *testing.T
	s       *wsServer
	at      string // where in the page
	clients map[string]*wsClient
	epoch   string            // the real one
	tokens  map[string]string // the real one, by the page's
}

const pageEpoch = "3f2a9c"

var storyLine = regexp.MustCompile(`^(\w+) ([<>]|connects|is cut off|pass)(?: (.*))?$`)

func (st *story) tell(line string) {
	st.t.Helper()
	ctx := context.Background()
	if note, ok := strings.CutPrefix(line, "the program kicks Ann: "); ok {
		if err := st.s.room.Kick(ctx, "Ann", note); err != nil {
			st.t.Errorf("%s: %v", st.at, err)
		}
		return
	}
	if line == "the program shuts the room down" {
		if err := st.s.room.Shutdown(ctx, nil); err != nil {
			st.t.Errorf("%s: %v", st.at, err)
		}
		return
	}
	m := storyLine.FindStringSubmatch(line)
	if m == nil {
		st.t.Fatalf("%s: not a line of a story: %s", st.at, line)
	}
	who, what, rest := m[1], m[2], m[3]
	c := st.clients[who]
	if c == nil && what != "connects" && what != "pass" {
		st.t.Fatalf("%s: %s is not connected", st.at, who)
	}
	switch what {
	case "pass":
		d, err := time.ParseDuration(who)
		if err != nil {
			st.t.Fatalf("%s: %v", st.at, err)
		}
		time.Sleep(d)
	case "connects":
		st.clients[who] = st.s.dial()
	case "is cut off":
		c.drop()
	case ">":
		var code int
		if _, err := fmt.Sscanf(rest, "close %d", &code); err == nil {
			c.bye(code)
			return
		}
		rest = strings.ReplaceAll(rest, `"`+pageEpoch+"-", `"`+st.epoch+"-")
		for pages, real := range st.tokens {
			rest = strings.ReplaceAll(rest, pages, real)
		}
		c.send(rest)
	case "<":
		if got := st.next(c, rest); got != rest {
			st.t.Errorf("%s:\n got %s\npage %s", st.at, got, rest)
		}
	}
}

// next returns the next frame as the page, which says want, would have it.
func (st *story) next(c *wsClient, want string) string {
	synctest.Wait()
	f, ok := "", false
	select {
	case f, ok = <-c.frames:
	default:
		return "nothing"
	}
	if !ok {
		return c.ended()
	}
	f = strings.ReplaceAll(f, `"`+st.epoch+"-", `"`+pageEpoch+"-")
	if real, pages := wsTokens.FindString(f), wsTokens.FindString(want); real != "" && pages != "" {
		if known, ok := st.tokens[pages]; ok && known != real {
			st.t.Errorf("%s: another token than before", st.at)
		}
		st.tokens[pages] = real
		f = strings.Replace(f, real, pages, 1)
	}
	return f
}

// The code says come back, or not, as the page does; and the page has all the codes there are.
func TestProtocolPageHasAllCodes(t *testing.T) {
	page, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := func(heading string) [][]string {
		_, text, ok := strings.Cut(string(page), "\n## "+heading+"\n")
		if !ok {
			t.Fatalf("no heading %s", heading)
		}
		text, _, _ = strings.Cut(text, "\n## ")
		var rows [][]string
		for line := range strings.Lines(text) {
			if cells := strings.Split(line, "|"); len(cells) > 3 && !strings.Contains(line, "---") {
				for i := range cells {
					cells[i] = strings.TrimSpace(cells[i])
				}
				rows = append(rows, cells[1:len(cells)-1])
			}
		}
		return rows[1:]
	}
	word := regexp.MustCompile("`([a-z_]+)`")
	told := map[string]bool{}
	for _, row := range rows("Errors") {
		for _, w := range word.FindAllStringSubmatch(row[0], -1) {
			told[w[1]] = true
		}
	}
	for _, row := range rows("Close codes") {
		for _, w := range word.FindAllStringSubmatch(row[1], -1) {
			told[w[1]] = true
		}
		var code int
		if _, err := fmt.Sscan(row[0], &code); err != nil {
			t.Fatal(err)
		}
		no := code >= 4500 || code == 1003 || 1007 <= code && code <= 1009
		if says := !strings.HasPrefix(row[3], "yes") && code != 1000; says != no {
			t.Errorf("%d: the page says %q, but the comparison %v", code, row[3], !no)
		}
	}
	for _, err := range []error{
		chat.ErrClosed, chat.ErrName, chat.ErrNameTaken, chat.ErrText, chat.ErrID, chat.ErrSession, chat.ErrNotLoggedIn,
		chat.ErrLoggedIn, chat.ErrToken, chat.ErrConnected, chat.ErrTakenOver, chat.ErrFenced, chat.ErrHearing, chat.ErrRequest,
		chat.ErrKicked, chat.ErrLost, chat.ErrTrimmed, chat.ErrEpoch, chat.ErrAhead, chat.ErrFull, chat.ErrTooLarge,
		chat.ErrUnknown, chat.ErrRecord, chat.ErrNameTooLong, chat.ErrTextTooLong, chat.ErrRoomFull, chat.ErrSubscribers,
		chat.ErrRate, chat.ErrSource, chat.ErrAnonymous, chat.ErrLoginTimeout, chat.ErrSlow, errors.New("internal"),
	} {
		code := chat.Code(err)
		if !told[code] {
			t.Errorf("the page does not have %s", code)
		}
		delete(told, code)
	}
	delete(told, "shutdown")
	for code := range told {
		t.Errorf("the page has %s, which is none", code)
	}
}
