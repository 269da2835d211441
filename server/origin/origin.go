// Package origin finds the scheme and host of URLs: those by which a client
// reaches this node, and those that people type. And it has their path as it came.
package origin

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"lockstep/server/source"
)

// Of returns the origin of the URLs in the answers to a client: the public one,
// or, if that is empty, the one by which the client came. The latter is taken
// from its request and, if that came through a trusted proxy, from
// X-Forwarded-Proto and X-Forwarded-Host. The origin needs no escaping in a URL
// or in JSON.
func Of(r *http.Request, public string, trusted []netip.Prefix) string {
	if public != "" {
		return public
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if len(trusted) > 0 && source.Trusts(trusted, source.OfPeer(r.RemoteAddr)) {
		if s := schemes[strings.ToLower(forwarded(r, "X-Forwarded-Proto"))]; s != "" {
			scheme = s
		}
		if name := forwarded(r, "X-Forwarded-Host"); validHost(name) {
			host = name
		}
	}
	if !validHost(host) {
		host = localAddress(r)
	}
	return scheme + "://" + host
}

// schemes maps what a proxy calls a scheme to that of a URL: for a websocket
// some say ws or wss.
var schemes = map[string]string{"http": "http", "https": "https", "ws": "http", "wss": "https"}

// forwarded returns what the first proxy on the way said.
func forwarded(r *http.Request, name string) string {
	first, _, _ := strings.Cut(r.Header.Get(name), ",")
	return strings.TrimSpace(first)
}

// validHost reports whether a host, with or without a port, can stand in a URL
// and in JSON as it is.
func validHost(host string) bool {
	if isPlainHost(host) {
		return true
	}
	for i := 0; i < len(host); i++ {
		c := host[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(".-_:[]", c) >= 0:
		default:
			return false
		}
	}
	u, err := url.Parse("http://" + host)
	return err == nil && u.Host == host && u.Hostname() != ""
}

// isPlainHost reports whether a host is a name or an IPv4 address with or without
// a port, which need no parsing to be known as valid.
func isPlainHost(host string) bool {
	name, port, _ := strings.Cut(host, ":")
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return name != ""
}

// localAddress returns the address that a client connected to, for one that
// named no usable host.
func localAddress(r *http.Request) string {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }); ok {
		return a.String()
	}
	return "localhost"
}

// Complete completes what people type for a node: HOST:PORT is an origin of http.
func Complete(text string) string {
	if text != "" && !strings.Contains(text, "://") {
		text = "http://" + text
	}
	return strings.TrimRight(text, "/")
}

// IsLoopback reports whether a host is reached from its own machine only.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Validate returns an error if a text is not an origin of http or https.
func Validate(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") ||
		text != u.Scheme+"://"+u.Host || strings.ContainsAny(u.Host, "\"\\<>") {
		if strings.ContainsAny(text, "@?") { // what these mark may be secret
			text = "the URL"
		} else {
			text = strconv.Quote(text)
		}
		return fmt.Errorf("%s is not an origin such as http://10.0.0.1:8080", text)
	}
	return nil
}

// RawPath returns a path as it came. URL.EscapedPath is not that: where it finds
// characters that should have been encoded, it encodes the decoded path anew,
// and what was %2F has become a slash.
func RawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}
