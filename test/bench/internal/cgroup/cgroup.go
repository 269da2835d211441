// Package cgroup limits the processor time of servers by control groups of Linux,
// of either version, so that on one machine each has as much as it would have on a
// small one of its own. Only root may do that.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Group is a control group. Remove removes it.
type Group struct{ dir string }

// period is in what time a group may use its share. The shortest share of it is a
// millisecond, and whoever has used it up waits for the rest.
const period = 10 * time.Millisecond

// roots are where the controller of processor time may be.
const (
	unified = "/sys/fs/cgroup"     // version 2
	legacy  = "/sys/fs/cgroup/cpu" // version 1
)

// New makes a group whose processes have so much of one processor together, and
// have it before what else runs on the machine.
func New(name string, share float64) (*Group, error) {
	quota := int(share * float64(period.Microseconds()))
	root, settings := legacy, map[string]string{"cpu.cfs_period_us": fmt.Sprint(period.Microseconds()), "cpu.cfs_quota_us": fmt.Sprint(quota), "cpu.shares": "262144"}
	if controllers, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers")); err == nil {
		if !slices.Contains(strings.Fields(string(controllers)), "cpu") {
			return nil, errors.New("limit processor time: there is no controller for it in " + unified)
		}
		if err := os.WriteFile(filepath.Join(unified, "cgroup.subtree_control"), []byte("+cpu"), 0); err != nil {
			return nil, fmt.Errorf("limit processor time: %w", err)
		}
		root, settings = unified, map[string]string{"cpu.max": fmt.Sprintf("%d %d", quota, period.Microseconds()), "cpu.weight": "10000"}
	}
	g := &Group{filepath.Join(root, name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("limit processor time, which needs root: %w", err)
	}
	for file, value := range settings {
		if err := os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("limit processor time: %w", err), g.Remove())
		}
	}
	return g, nil
}

// Add moves a process with all its threads into the group.
func (g *Group) Add(pid int) error {
	if err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("limit processor time: %w", err)
	}
	return nil
}

// Yield has the group's processes run only where no other process wants to, from now
// on: as if they were on another machine, as far as others can tell.
func (g *Group) Yield() error {
	if err := os.WriteFile(filepath.Join(g.dir, "cpu.idle"), []byte("1"), 0); err != nil {
		return fmt.Errorf("put other processes first: %w", err)
	}
	return nil
}

// Throttled returns in how many periods there was something to do, and in how many
// of them the group had used up its share.
func (g *Group) Throttled() (periods, throttled int, err error) {
	stat, err := os.ReadFile(filepath.Join(g.dir, "cpu.stat"))
	if err != nil {
		return 0, 0, fmt.Errorf("read what was limited: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "nr_periods":
			periods, err = strconv.Atoi(value)
		case "nr_throttled":
			throttled, err = strconv.Atoi(value)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read what was limited: %w", err)
		}
	}
	return periods, throttled, nil
}

// Remove lets the group's processes do as they like again, and removes it.
func (g *Group) Remove() error {
	const procs = "cgroup.procs"
	members, err := os.ReadFile(filepath.Join(g.dir, procs))
	if err != nil {
		return fmt.Errorf("remove a limit of processor time: %w", err)
	}
	for pid := range strings.FieldsSeq(string(members)) {
		err := os.WriteFile(filepath.Join(filepath.Dir(g.dir), procs), []byte(pid), 0)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // it has ended meanwhile
			return fmt.Errorf("remove a limit of processor time: %w", err)
		}
	}
	for range 100 { // the kernel takes a moment to see that processes have ended
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("remove a limit of processor time: %w", err)
}
