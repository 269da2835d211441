// Package source finds the address that a request comes from, for limits and
// logs. It believes X-Forwarded-For only from trusted proxies.
package source

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"lockstep/cluster/slots"
)

// Of returns the address that a request is counted under: for IPv6 that is its
// network of 64 bits.
func Of(r *http.Request, trusted []netip.Prefix) netip.Addr {
	return slots.Network(Address(r, trusted))
}

// Address returns the address that a request comes from: the peer, or, if that
// is a trusted proxy, the last address in X-Forwarded-For that is not trusted
// itself. It is the zero Addr for a peer without an IP address.
func Address(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := OfPeer(r.RemoteAddr)
	if !Trusts(trusted, peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, err := parse(strings.TrimSpace(hop))
		if err != nil {
			break // what is before an unreadable entry cannot be believed
		}
		peer = addr
		if !Trusts(trusted, addr) {
			break
		}
	}
	return peer
}

// OfPeer returns the address of a connection's peer, as host:port, without
// looking at any proxy.
func OfPeer(remote string) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// Trusts reports whether an address is that of a trusted proxy.
func Trusts(trusted []netip.Prefix, addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parse reads what proxies write: an address, some with a port.
func parse(text string) (netip.Addr, error) {
	if p, err := netip.ParseAddrPort(text); err == nil {
		return p.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return addr.Unmap().WithZone(""), err
}
