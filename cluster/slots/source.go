package slots

import (
	"net"
	"net/netip"
)

// network is the part of an IPv6 address that is one source: a host that has
// one address of a network has all of them.
const network = 64

// Source returns what the other side of a connection is counted as; the zero
// Addr if it has no IP address.
func Source(remote net.Addr) netip.Addr {
	addr, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}
	}
	return Network(addr.Addr().Unmap().WithZone(""))
}

// Network returns what an address is counted as: IPv6 addresses stand for their
// network of 64 bits.
func Network(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	p, err := addr.Prefix(network)
	if err != nil {
		return addr
	}
	return p.Addr()
}
