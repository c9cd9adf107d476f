package fanout

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// OriginAllowed reports whether a page of r's Origin may talk to this server:
// a request without an Origin (it comes from no page), one of the same host, or
// one that a pattern allows.
//
// The pattern "*" allows every page. Any other is matched, without regard to case, against the origin's host and
// port ("chat.example.com:*") or, if it holds "://", against the whole origin
// ("https://*.example.com"), by the rules of [path.Match]. A pattern that is
// not well formed allows nothing.
func OriginAllowed(r *http.Request, patterns []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if slices.Contains(patterns, "*") {
		return true // also "null", the origin of sandboxed pages and files
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // among them "null"
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	host := strings.ToLower(u.Host)
	for _, p := range patterns {
		p = strings.ToLower(p)
		s := host
		if scheme, rest, ok := strings.Cut(p, "://"); ok {
			if scheme != strings.ToLower(u.Scheme) {
				continue
			}
			p = rest
		}
		if ok, err := path.Match(p, s); err == nil && ok {
			return true
		}
	}
	return false
}
