package nodedir

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports that a node keeps are chosen below the range from which systems take
// those of outgoing connections (from 32768 on Linux), or one of these could
// sit on a node's port while the node is down.
const (
	firstPort = 20000
	lastPort  = 31999
)

var errNoPort = errors.New("no free port was found")

// FreePorts returns n consecutive ports of a host, free for TCP and UDP at this
// moment.
func FreePorts(host string, n int) (first int, err error) {
	for range 1000 {
		first := firstPort + rand.IntN(lastPort-firstPort-n)
		if allFree(host, first, n) {
			return first, nil
		}
	}
	return 0, errNoPort
}

func allFree(host string, first, n int) bool {
	for port := first; port < first+n; port++ {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			return false
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", addr)
		if err != nil {
			return false
		}
		udp.Close()
	}
	return true
}

// FixPort returns addr (host:port) with a free port in the place of port 0.
func FixPort(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return addr, err
	}
	free, err := FreePorts(host, 1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(free)), nil
}
