// Package ports gives ports of this machine to tests.
//
// Tests of several processes run at a time, and a port that one of them has chosen is
// free until somebody listens on it, and while its node is down. So ports are given in
// turn on the whole machine, and again only when all have been given. Which one is next
// is in a file.
package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"lockstep/server/nodedir"
)

// The ports that are given are below those that nodes choose themselves.
const (
	firstPort = 10000
	endPort   = 20000
)

var errNone = errors.New("no free ports were found")

// Take returns the first of n consecutive ports of 127.0.0.1 that are free.
func Take(n int) (first int, err error) {
	turn, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-test-ports-%d", os.Getuid())), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer turn.Close() // and the lock with it
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		return 0, fmt.Errorf("lock %s: %w", turn.Name(), err)
	}
	first, err = freeFrom(next(turn), n)
	if err != nil {
		return 0, err
	}
	_, err = turn.WriteAt(fmt.Appendf(nil, "%5d\n", first+n), 0)
	return first, err
}

// next reads whose turn it is: the first port's in a file that is new or not ours.
func next(turn *os.File) int {
	var text [5]byte
	_, _ = turn.ReadAt(text[:], 0)
	port, err := strconv.Atoi(strings.TrimSpace(string(text[:])))
	if err != nil || port < firstPort || port > endPort {
		return firstPort
	}
	return port
}

func freeFrom(first, n int) (int, error) {
	for range endPort - firstPort {
		if first+n > endPort {
			first = firstPort
		}
		if allFree(first, n) {
			return first, nil
		}
		first++
	}
	return 0, errNone
}

func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		if !nodedir.Free(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
			return false
		}
	}
	return true
}
