// Package proc runs the servers that are measured, and reads what they use of the
// machine from /proc.
//
// Start starts a goroutine that waits for the process, and ends with it.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a server that was started here.
type Process struct {
	name   string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Program returns the path of a program that is built beside this one.
func Program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the servers' programs: %w", err)
	}
	return filepath.Join(filepath.Dir(self), name), nil
}

// Start starts a program in a group of its own, so that Ctrl-C reaches it through
// Stop only. What it prints goes to name.log in the directory.
func Start(dir, name, program string, env []string, args ...string) (*Process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close() // the process has it as its own
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // whoever needs it finds that it has ended
	}()
	return p, nil
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Until repeats a check until it returns nil. It fails when ctx ends, with the
// check's last error, or when the process has.
func (p *Process) Until(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended; its log ends with: %s", p.name, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log ends with: %s", p.name, err, p.lastWords())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Listens is a check that something accepts connections at an address.
func Listens(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func (p *Process) lastWords() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(log[max(0, len(log)-600):]))
}

// Kill kills the process, and waits for its end.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.exited
	return err
}

// Stop ends the process in order, or kills it when it takes longer than ten seconds.
// One that was not started, or has ended, is left alone.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		err = p.Kill() // if it has not ended just now
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// StopAll stops processes one after another.
func StopAll(all []*Process) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// PIDs returns the ids of processes.
func PIDs(all []*Process) []int {
	ids := make([]int, len(all))
	for i, p := range all {
		ids[i] = p.PID()
	}
	return ids
}

// tick is the unit of processor time in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the processor time that processes have used.
func CPU(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		const user, system = 11, 12 // proc_pid_stat(5), without the two before the name's end
		if len(fields) <= system {
			return 0, fmt.Errorf("read processor time: /proc/%d/stat has %d fields", pid, len(fields))
		}
		for _, field := range []string{fields[user], fields[system]} {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read processor time: %w", err)
			}
			sum += time.Duration(ticks) * tick
		}
	}
	return sum, nil
}

// RSS returns the resident memory of processes, in bytes.
func RSS(pids []int) (sum int64, err error) {
	for _, pid := range pids {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, fmt.Errorf("read resident memory: %w", err)
		}
		fields := strings.Fields(string(statm))
		if len(fields) < 2 {
			return 0, fmt.Errorf("read resident memory: /proc/%d/statm has %d fields", pid, len(fields))
		}
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read resident memory: %w", err)
		}
		sum += pages * int64(os.Getpagesize())
	}
	return sum, nil
}

// FreePorts returns the first of n consecutive ports of the loopback that nobody
// listens on.
func FreePorts(n int) (int, error) {
	for first := 20000 + os.Getpid()%5000; first+n < 32000; first += n {
		if first < nextPort {
			continue
		}
		if allFree(first, n) {
			nextPort = first + n
			return first, nil
		}
	}
	return 0, errors.New("there are no free ports between 20000 and 32000")
}

// nextPort is behind what was given out before, since those who got it may not
// listen yet. One goroutine asks for ports.
var nextPort int

func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil || l.Close() != nil {
			return false
		}
	}
	return true
}
