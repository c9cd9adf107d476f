package socketio_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"example.com/chat/socketio"
)

// The script is served below any path, with a tag that stays the same as long
// as the script does, and 304 to who has it.
func TestScript(t *testing.T) {
	file, err := os.ReadFile("client.js")
	if err != nil {
		t.Fatal(err)
	}
	own := []byte("console.log('another');\n")
	for _, tt := range []struct {
		why    string
		o      *socketio.Options
		path   string
		want   []byte
		status int
	}{
		{"the built-in one", nil, "/socket.io/socket.io.js", file, 200},
		{"below another path", nil, "/a/b/c/socket.io.js", file, 200},
		{"a program's own", &socketio.Options{Script: own}, "/socket.io/socket.io.js", own, 200},
		{"not below Options.Path", &socketio.Options{Path: "/rt/"}, "/socket.io/socket.io.js", nil, 404},
		{"below Options.Path", &socketio.Options{Path: "/rt/"}, "/rt/socket.io.js", file, 200},
	} {
		srv := socketio.NewServer(tt.o)
		ask := func(method, tag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, tt.path, nil)
			if tag != "" {
				r.Header.Set("If-None-Match", tag)
			}
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, r)
			return w
		}
		w := ask("GET", "")
		if w.Code != tt.status {
			t.Errorf("%s: status %d, want %d", tt.why, w.Code, tt.status)
		}
		if w.Code != http.StatusOK {
			continue
		}
		if w.Body.String() != string(tt.want) {
			t.Errorf("%s: %d bytes, want %d", tt.why, w.Body.Len(), len(tt.want))
		}
		h := w.Result().Header
		tag := h.Get("ETag")
		if tag == "" || h.Get("Cache-Control") != "public, no-cache" || h.Get("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("%s: headers %v", tt.why, h)
		}
		if w := ask("GET", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
			t.Errorf("%s: with its tag: %d and %d bytes", tt.why, w.Code, w.Body.Len())
		}
		if w := ask("GET", `"older"`); w.Code != http.StatusOK {
			t.Errorf("%s: with another tag: %d", tt.why, w.Code)
		}
		if w := ask("HEAD", ""); w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("%s: HEAD: %d and %d bytes", tt.why, w.Code, w.Body.Len())
		}
		if w := ask("POST", ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: POST: %d", tt.why, w.Code)
		}
	}
}
