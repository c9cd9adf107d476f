package socketio

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"time"
)

//go:embed client.js
var clientScript []byte

// scriptName is the script's place below the path that the server is mounted
// at, where pages look for it.
const scriptName = "/socket.io.js"

// script is the browser's script with its tag.
type script struct {
	body []byte
	etag string
}

func newScript(body []byte) script {
	if body == nil {
		body = clientScript
	}
	sum := sha256.Sum256(body)
	return script{body, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// ServeHTTP answers GET and HEAD, with 304 for a browser that has it. Browsers
// may keep it but ask each time, so that a page never runs an older one.
func (s script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, no-cache")
	h.Set("ETag", s.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
}
