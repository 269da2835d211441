package rest

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// origin gives scheme and host for the URLs in an answer: the configured ones,
// or those by which the client came.
func (h *handler) origin(r *http.Request) string {
	if h.PublicURL != "" {
		return h.PublicURL
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if h.trusts(r.RemoteAddr) {
		if proto := strings.ToLower(forwarded(r, "X-Forwarded-Proto")); proto == "http" || proto == "https" {
			scheme = proto
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

func (h *handler) trusts(remote string) bool {
	if len(h.TrustedProxies) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, p := range h.TrustedProxies {
		if p.Contains(peer.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// forwarded gives what the first proxy on the way said.
func forwarded(r *http.Request, name string) string {
	first, _, _ := strings.Cut(r.Header.Get(name), ",")
	return strings.TrimSpace(first)
}

// validHost says whether a host, with or without a port, can stand in a URL and
// in JSON as it is.
func validHost(host string) bool {
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

// localAddress stands in for the host of a client that named none that can be used.
func localAddress(r *http.Request) string {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }); ok {
		return a.String()
	}
	return "localhost"
}
