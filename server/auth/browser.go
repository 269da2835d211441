package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// Challenge asks for Basic credentials, as the answer to a request without good
// ones does, unless a browser asks: it would keep what its user types, and send
// it along with whatever other sites make it request from here.
func Challenge(answer http.Header, r *http.Request) {
	if !isBrowser(r) {
		answer.Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	}
}

// isBrowser reports whether a browser sent a request. Where Sec-Fetch-Site is
// missing, because the connection is not encrypted, the name remains that all of
// them begin with.
func isBrowser(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// IsForeignPage reports whether a page of another site made a browser send a
// request that could change something, with no script that asked for leave: by a
// form, most likely. A script that was given credentials for this API is no such
// request (its mode is cors).
func IsForeignPage(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "cors"
	}
	// Over an unencrypted connection browsers say less: where the page is from,
	// and that the answer would be a page.
	origin := r.Header.Get("Origin")
	if origin == "" || r.Header.Get("Upgrade-Insecure-Requests") == "" {
		return false
	}
	from, err := url.Parse(origin)
	return err != nil || from.Host != r.Host
}
