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

// FixPort returns addr (host:port) with a port that is free at this moment in the place
// of port 0.
func FixPort(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return addr, err
	}
	for range 1000 {
		chosen := net.JoinHostPort(host, strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		if Free(chosen) {
			return chosen, nil
		}
	}
	return "", errNoPort
}

// Free reports whether nobody listens on addr (host:port), neither for TCP nor for UDP.
func Free(addr string) bool {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	udp.Close()
	return true
}
