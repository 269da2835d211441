package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"lockstep/cluster/durable"
	"lockstep/server/nodedir"
)

// node is one of the processes.
type node struct {
	name string // node1 …
	dir  string
	port int
	url  string

	// Of the process that start started; exited is closed when it has ended.
	started int
	exited  chan struct{}
}

// defaults are settings that a node of its own would not have: a developer's
// webhook receivers are on this machine, and three nodes share its memory.
var defaults = map[string]string{
	"LOCKSTEP_WEBHOOK_ALLOW":   "127.0.0.0/8,::1/128",
	"LOCKSTEP_MAX_STATE_BYTES": "13%",
}

// writeScript writes the node's run script: the one way in which it is started,
// here and by hand. It keeps the settings that there are now, and reads no file.
func (n *node) writeScript(binary string, settings []Setting) error {
	var s strings.Builder
	s.WriteString("#!/bin/sh\n# Starts this node in the foreground. Settings in the environment come first.\n")
	for _, setting := range settings {
		name, value, ok := setting.Variable, setting.Value, setting.Set
		if !ok {
			value, ok = defaults[name]
		}
		if ok {
			fmt.Fprintf(&s, "%s=${%s-%s}\nexport %s\n", name, name, quote(value), name)
		}
	}
	fmt.Fprintf(&s, "exec %s serve --config none --data-dir %s --node-id %s --http-addr 127.0.0.1 --http-port %d \"$@\"\n",
		quote(binary), quote(n.dir), n.name, n.port)
	if err := durable.WriteFile(n.script(), []byte(s.String()), 0o700); err != nil {
		return fmt.Errorf("write run script: %w", err)
	}
	return nil
}

func (n *node) script() string { return filepath.Join(n.dir, "run") }

// quote makes one word of a text for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// unquote takes back what quote did.
func unquote(s string) string {
	inner := strings.TrimSuffix(strings.TrimPrefix(s, "'"), "'")
	return strings.ReplaceAll(inner, `'\''`, "'")
}

// member reports whether the node belongs to a cluster already.
func (n *node) member() (bool, error) {
	r, err := nodedir.Load(n.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && r.Member(), err
}

// start runs the node's script in a process of its own, which outlives a signal
// to this one's terminal: it is stopped in order, by stop.
func (n *node) start(env []string, args ...string) error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", n.name, err)
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", append([]string{n.script()}, args...)...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.started, n.exited = cmd.Process.Pid, make(chan struct{})
	go func() {
		defer close(n.exited)
		_ = cmd.Wait() // however it ended, it has
	}()
	return nil
}

func (n *node) logFile() string { return filepath.Join(n.dir, "log") }

// hasExited reports whether the started process ended before anyone stopped it.
func (n *node) hasExited() bool {
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

// lastWords returns the end of the node's log, for an error.
func (n *node) lastWords() string {
	b, err := os.ReadFile(n.logFile())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

const (
	// stopTime is how long a node may take to stop in order.
	stopTime = 20 * time.Second
	stopPoll = 20 * time.Millisecond
)

// stop ends the process that runs the node now, the one that start started or a
// later one, and waits for it.
func (n *node) stop() error {
	signal, end := syscall.SIGTERM, time.Now().Add(stopTime)
	told := map[int]syscall.Signal{}
	for {
		running := n.processes()
		if len(running) == 0 {
			return nil
		}
		if time.Now().After(end) {
			signal = syscall.SIGKILL
		}
		for _, pid := range running {
			if told[pid] == signal {
				continue
			}
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop %s (process %d): %w", n.name, pid, err)
			}
			told[pid] = signal
		}
		time.Sleep(stopPoll)
	}
}

// processes returns those that run the node, or are about to.
func (n *node) processes() []int {
	var pids []int
	if n.exited != nil && !n.hasExited() {
		pids = append(pids, n.started)
	}
	if pid, ok := nodedir.Running(n.dir); ok && !slices.Contains(pids, pid) {
		pids = append(pids, pid)
	}
	return pids
}
