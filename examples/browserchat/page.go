package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"time"
)

//go:embed page
var ours embed.FS

// policy lets our own page do what it does, and nothing else: no inline script, no inline style, no eval, no other
// server, no frame. So if a name or a text should ever reach the document as markup, it still can't run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages serves the files that a browser opens: our own page, or another one in its place.
type pages struct {
	files  http.Handler
	etag   string
	policy string // Content-Security-Policy; empty for another's page, which may be built any way
	text   []byte // of another's page
	name   string // of its file
}

// newPages reads the page that is to be served. file is a path; empty means our own.
func newPages(file string) (*pages, error) {
	if file == "" {
		files, err := fs.Sub(ours, "page")
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(files, name)
			fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
			return err
		})
		return &pages{files: http.FileServerFS(files), etag: etag(sum.Sum(nil)), policy: policy}, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	p := &pages{etag: etag(sum[:]), text: text, name: file}
	p.files = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	})
	return p, nil
}

func etag(sum []byte) string { return `"` + hex.EncodeToString(sum[:12]) + `"` }

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // it is asked for each time, and sent again only if it has changed
	h.Set("Etag", p.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if p.policy != "" {
		h.Set("Content-Security-Policy", p.policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
	p.files.ServeHTTP(w, r)
}

// origins are those that may connect besides the page's own: another's page may name its server as localhost though it
// was opened as 127.0.0.1, or the other way round. They are patterns, so a bracket is escaped.
func (p *pages) origins(port string) []string {
	if p.text == nil {
		return nil
	}
	return []string{"http://localhost:" + port, "http://127.0.0.1:" + port, `http://\[::1\]:` + port}
}

// loopback finds the server that a page names, if that is one on the browser's own machine.
var loopback = regexp.MustCompile(`(\blocalhost|\b127\.0\.0\.1|\[::1\]):([0-9]{1,5})\b`)

// caveat says what comes of it if another's page names its server, and this one listens at addr, on that port. Empty: it
// names none, or none on the browser's own machine.
func (p *pages) caveat(addr, port string) string {
	named := loopback.FindSubmatch(p.text)
	if named == nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	here := host == "" || host == "localhost" || ip.IsUnspecified() || ip.IsLoopback()
	if !here || string(named[2]) != port {
		return fmt.Sprintf("%s connects to %s, which is not this server: it can't work here", p.name, named[0])
	}
	return fmt.Sprintf("%s connects to %s: it works in browsers on this machine alone", p.name, named[0])
}
