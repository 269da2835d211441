package nodedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lockstep/cluster/durable"
)

const (
	pidFile  = "pid"
	lockFile = "lock"
)

// ErrRunning is a data directory that another process uses.
var ErrRunning = errors.New("another process runs this node")

// lockWait is how long Occupy tries: a process that looks whether the node runs
// holds its lock for a moment.
const lockWait = time.Second

// Claim makes a directory, if it does not exist, and makes it this process's own
// (see Occupy).
func Claim(dir string) (release func(), err error) {
	if err := Make(dir); err != nil {
		return nil, err
	}
	return Occupy(dir)
}

// Occupy makes the directory this process's own until release is called, or
// the process dies, and says in the file pid which process that is.
func Occupy(dir string) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 50) {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			lock.Close()
			return nil, fmt.Errorf("%w: %s", ErrRunning, dir)
		}
	}
	pid := filepath.Join(dir, pidFile)
	if err := durable.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		lock.Close()
		return nil, fmt.Errorf("write pid file: %w", err)
	}
	return func() {
		os.Remove(pid)
		lock.Close()
	}, nil
}

// Running returns the process that occupies the directory, if there is one now.
func Running(dir string) (pid int, ok bool) {
	lock, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return 0, false
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0, false
	}
	b, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return pid, err == nil && pid > 0
}
