package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// guard keeps webhooks away from addresses that are no business of somebody who
// may only configure a service: this machine, the local link, the cluster
// itself, and the metadata services of clouds. It looks at the address that is
// about to be connected to, so that neither names nor spellings nor a name
// server that changes its mind lead around it. Private networks are not
// refused: those who run Lockstep themselves have their receivers there.
type guard struct {
	allow   func() []netip.Prefix
	cluster func() []string // host:port of every listener of every member
	own     func() ([]net.Addr, error)
}

// dialTimeout bounds a connection attempt.
const dialTimeout = 10 * time.Second

// special are networks that are no place for a receiver.
var special = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/3", // this host, loopback, link-local, protocol assignments, multicast and reserved
	"::/96", "fe80::/10", "fec0::/10", "ff00::/8", // likewise
	"100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::/32", // metadata outside of them
)

// embedding are networks of IPv6 whose addresses stand for one of IPv4, which
// begins at a byte of theirs.
var embedding = []struct {
	network netip.Prefix
	at      int
}{{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("2002::/16"), 2}}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// dial is the DialContext of a transport.
func (g guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	off, err := g.offLimits(ctx)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address of a receiver: %w", err)
		}
		return off.check(a, g.allow())
	}}
	return dialer.DialContext(ctx, network, address)
}

// offLimits is what belongs to the cluster.
type offLimits struct {
	local   []netip.Addr // of this machine
	members []netip.AddrPort
}

func (g guard) offLimits(ctx context.Context) (offLimits, error) {
	var off offLimits
	addrs, err := g.own()
	if err != nil {
		return off, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			off.local = append(off.local, bare(p.Addr()))
		}
	}
	for _, listener := range g.cluster() {
		off.members = append(off.members, resolve(ctx, listener)...)
	}
	return off, nil
}

// resolve returns the addresses of a host:port. A name that cannot be resolved
// has none: the member could not be reached by it either.
func resolve(ctx context.Context, listener string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(listener)
	if err != nil {
		return nil
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(bare(ip), uint16(number)))
	}
	return all
}

// bare returns an address without what makes two spellings of one.
func bare(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// refused is the error of an address that webhooks may not reach.
type refused struct {
	ip  netip.Addr
	why string
}

func (e refused) Error() string { return fmt.Sprintf("webhooks may not reach %s: %s", e.ip, e.why) }

// check refuses an address. Networks that are allowed open all but the
// listeners of the cluster itself.
func (off offLimits) check(a netip.AddrPort, allow []netip.Prefix) error {
	ip := bare(a.Addr())
	for _, e := range embedding {
		if e.network.Contains(ip) {
			v6 := ip.As16()
			ip = netip.AddrFrom4([4]byte(v6[e.at : e.at+4]))
		}
	}
	contains := func(p netip.Prefix) bool { return p.Contains(ip) }
	local := ip.IsLoopback() || ip.IsUnspecified() || slices.Contains(off.local, ip)
	machine := false
	for _, m := range off.members {
		if m.Port() == a.Port() && (m.Addr() == ip || local) {
			return refused{ip, "it is a node of this cluster"}
		}
		machine = machine || m.Addr() == ip
	}
	switch {
	case slices.ContainsFunc(allow, contains):
		return nil
	case slices.ContainsFunc(special, contains):
		return refused{ip, "it is a loopback, link-local or otherwise special address (--webhook-allow)"}
	case local || machine:
		return refused{ip, "it is a machine of this cluster (--webhook-allow)"}
	}
	return nil
}
