package socketio_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"example.com/chat/socketio"
)

// A quickWriter is a response whose client acts as soon as the first bytes of the body are there.
type quickWriter struct {
	*httptest.ResponseRecorder
	then func()
}

func (w *quickWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseRecorder.Write(p)
	if then := w.then; then != nil {
		w.then = nil
		then()
	}
	return n, err
}

// Posts that follow each other are not two at once: a client may send the next as soon as it reads the answer to the
// last, before the server is back from writing it.
func TestNextPostWithTheAnswer(t *testing.T) {
	srv := socketio.NewServer(nil)
	defer srv.Close()
	srv.Handle("/", func(s *socketio.Socket) {
		for {
			if _, err := s.Receive(); err != nil {
				return
			}
		}
	})
	const query = "/socket.io/?EIO=4&transport=polling"
	first := httptest.NewRecorder()
	srv.ServeHTTP(first, httptest.NewRequest(http.MethodGet, query, nil))
	sid := regexp.MustCompile(`"sid":"([^"]+)"`).FindStringSubmatch(first.Body.String())
	if sid == nil {
		t.Fatalf("the handshake: %d %s", first.Code, first.Body)
	}
	post := func(w http.ResponseWriter, body string) {
		srv.ServeHTTP(w, httptest.NewRequest(http.MethodPost, query+"&sid="+sid[1], strings.NewReader(body)))
	}
	second := httptest.NewRecorder()
	w := &quickWriter{ResponseRecorder: httptest.NewRecorder()}
	w.then = func() { post(second, `42["b"]`) }
	post(w, "40")
	for i, got := range []*httptest.ResponseRecorder{w.ResponseRecorder, second} {
		if got.Code != http.StatusOK || got.Body.String() != "ok" {
			t.Errorf("post %d: %d %s", i+1, got.Code, got.Body)
		}
	}
}
