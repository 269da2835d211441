package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"lockstep/test/devenv"
	"lockstep/test/ports"
)

// devCluster is a running `lockstep dev`.
type devCluster struct {
	binary string
	cmd    *exec.Cmd
	env    devenv.Env
}

func startCluster(ctx context.Context, binary, dataDir string) (*devCluster, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	port, err := ports.Take(3)
	if err != nil {
		return nil, err
	}
	// Its end is an order of its own (stop), not the end of ctx.
	cmd := exec.Command(binary, "dev", "--data-dir", dataDir, "--http-port", strconv.Itoa(port))
	cmd.Env = append(os.Environ(), "LOCKSTEP_RATE_LIMITS=default", "LOCKSTEP_ACCOUNT_SID=", "LOCKSTEP_AUTH_TOKEN=")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the cluster: %w", err)
	}
	c := &devCluster{binary: binary, cmd: cmd}
	if err := untilReady(ctx, out); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	if c.env, err = devenv.Read(dataDir); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// untilReady reads until the line that says that all nodes take writes.
func untilReady(ctx context.Context, out io.Reader) error {
	found := make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "ready") {
				found <- nil
				return
			}
		}
		found <- errors.New("the cluster ended before it was ready")
	}()
	select {
	case err := <-found:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *devCluster) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the cluster: %w", err)
	}
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("stop the cluster: %w", err)
	}
	return nil
}

// verify fails unless all nodes have one state, which is what was put there, and can
// write it down.
func (c *devCluster) verify(ctx context.Context) error {
	for _, args := range [][]string{{"verify"}, {"snapshot", "--url", c.env.URLs[0]}, {"snapshot", "--url", c.env.URLs[1]}, {"snapshot", "--url", c.env.URLs[2]}} {
		cmd := exec.CommandContext(ctx, c.binary, args...)
		cmd.Env = append(os.Environ(), c.environment()...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("lockstep %s after the suites: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// environment is how the suites are told about the cluster.
func (c *devCluster) environment() []string {
	return []string{
		"SYNC_BASE_URL=" + c.env.URLs[0],
		"SYNC_BASE_URLS=" + strings.Join(c.env.URLs, ","),
		"SYNC_ACCOUNT_SID=" + c.env.AccountSID,
		"SYNC_AUTH_TOKEN=" + c.env.AuthToken,
		"SYNC_API_KEY=" + c.env.APIKey,
		"SYNC_API_SECRET=" + c.env.APISecret,
		"TWILIO_REGION=", "TWILIO_EDGE=",

		// The field cases know a cluster by its dev.env, and start some of their
		// own, on ports that neither the system nor nodedir.FreePorts gives away.
		"LOCKSTEP_BIN=" + c.binary, "FIELD_PORT=19000",
		"LOCKSTEP_URLS=" + strings.Join(c.env.URLs, ","),
		"LOCKSTEP_ACCOUNT_SID=" + c.env.AccountSID,
		"LOCKSTEP_AUTH_TOKEN=" + c.env.AuthToken,
		"LOCKSTEP_API_KEY=" + c.env.APIKey,
		"LOCKSTEP_API_SECRET=" + c.env.APISecret,
	}
}
