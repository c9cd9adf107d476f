package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"example.com/chat"
	"example.com/chat/socketio"
)

// What a stranger sends becomes a request of the right kind, or a bad one, whatever it is.
func FuzzRequest(f *testing.F) {
	f.Add("login", `["a"]`)
	f.Add("login", `[null,"a"]`)
	f.Add("message", `[{"username":"a","message":"hi","Message":7}]`)
	f.Add("message", `[{"message":"\ud800"}]`)
	f.Add("message", `[]`)
	f.Add("loginOut", `[1]`)
	f.Add("typing", `[{}]`)
	f.Fuzz(func(t *testing.T, name, array string) {
		e := &socketio.Event{Name: name}
		if json.Unmarshal([]byte(array), &e.Args) != nil {
			return // what the package below refuses
		}
		var arg any // the first argument, as package json reads it
		if len(e.Args) > 0 {
			if err := json.Unmarshal(e.Args[0], &arg); err != nil {
				return
			}
		}
		object, _ := arg.(map[string]any)
		var want chat.Request = chat.BadRequest{Ref: "7"}
		if s, ok := arg.(string); ok && name == "login" {
			want = chat.LoginRequest{Ref: "7", Name: s}
		} else if s, ok := object["message"].(string); ok && name == "message" {
			want = chat.SendRequest{Ref: "7", Text: s}
		} else if name == "loginOut" {
			want = chat.LogoutRequest{Ref: "7"}
		}
		got := request("7", e)
		if bad, ok := got.(chat.BadRequest); ok {
			if bad.Err == nil {
				t.Error("a bad request without a reason")
			}
			got = chat.BadRequest{Ref: bad.Ref}
		}
		if got != want {
			t.Errorf("%s%s: %#v, want %#v", name, array, got, want)
		}
	})
}

// Whatever the policy lets in means nothing in HTML, and is what it is let in as again.
func FuzzHarmless(f *testing.F) {
	for _, name := range []string{"a", "＜b＞", "a&b", "ﷺ", "O'Neil", "\u00c0", "ẞ"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		shown, key, err := harmless(name)
		if err != nil {
			if !errors.Is(err, chat.ErrName) {
				t.Errorf("%q: %v is not an ErrName", name, err)
			}
			return
		}
		if strings.ContainsAny(shown, `<>&"'`) {
			t.Errorf("%q is let in as %q", name, shown)
		}
		if again, key2, err := harmless(shown); again != shown || key2 != key || err != nil {
			t.Errorf("%q is shown as %q (%q), and that as %q (%q), %v", name, shown, key, again, key2, err)
		}
	})
}
