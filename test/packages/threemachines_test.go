package packages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lockstep/test/harness"
	"lockstep/test/ports"
)

// The goal: from bare machines to three nodes with TLS and a first live update.
const (
	mostCommands = 12
	mostTime     = 10 * time.Minute
)

// The part of docs/getting-started.md that begins with three bare machines, typed as it
// stands. The machines are file systems of their own that share this one's network, on
// three addresses of the loopback; ssh and scp lead there, and systemctl starts what the
// unit starts, as its user and with its environment, since no service manager runs here.
func TestThreeMachinesWithTLS(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	require.NoError(t, err)
	_, part, found := strings.Cut(string(page), "\n## Three machines, with TLS\n")
	require.True(t, found)
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(part, -1) {
		commands = append(commands, split(block[1])...)
	}
	require.LessOrEqual(t, len(commands), mostCommands)

	port, err := ports.Take(3)
	require.NoError(t, err)
	real := strings.NewReplacer("10.0.0.", "127.0.0.", ":8080", fmt.Sprintf(":%d", port), ":7000", fmt.Sprintf(":%d", port+1), ":7001", fmt.Sprintf(":%d", port+2),
		"http-addr: 0.0.0.0\n", fmt.Sprintf("http-port: %d\n", port), // each address is one machine's
		"internal-addr: 0.0.0.0", "#internal-addr: ", "gossip-addr: 0.0.0.0", "#gossip-addr: ")

	w := newWorkplace(t, port)
	began := time.Now()
	script := "set -e\n"
	for _, c := range commands {
		script += real.Replace(c) + "\n"
	}
	ctx, cancel := context.WithTimeout(t.Context(), mostTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script+"wait $!\n")
	cmd.Dir, cmd.Env = w.dir, []string{"PATH=" + w.dir + "/bin:" + os.Getenv("PATH"), "HOME=" + w.dir}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // so that what it left behind ends with it, too
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	require.NoError(t, err, "%s\n%s", out, w.logs())
	require.Regexp(t, `item added\s+alice\s+\{"points":\s?3\}`, string(out))
	require.Less(t, took, mostTime)
	t.Logf("%d commands, %v from bare machines to three nodes with TLS and a first live update", len(commands), took.Round(100*time.Millisecond))

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		status := exec.Command("bash", "-c", fmt.Sprintf("set -a; . ./account.env; set +a; lockstep status --ca cert.pem --url https://127.0.0.2:%d", port))
		status.Dir, status.Env = cmd.Dir, cmd.Env
		out, err = status.CombinedOutput()
		if err == nil && strings.Count(string(out), "follower") == 2 && strings.Count(string(out), "leader") == 1 {
			break
		}
		require.True(t, time.Now().Before(deadline), "three nodes vote: %s\n%s", out, w.logs())
	}
}

// split returns the commands of a block: its lines, of which here documents are one.
func split(block string) (commands []string) {
	inside := false
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		if inside {
			commands[len(commands)-1] += "\n" + line
			inside = line != "END"
			continue
		}
		commands = append(commands, line)
		inside = strings.Contains(line, "<<'END'")
	}
	return commands
}

// workplace is the operator's own machine: a directory with lockstep, the package, and
// ways to three bare machines.
type workplace struct {
	t        *testing.T
	dir      string
	machines []machine
}

func newWorkplace(t *testing.T, port int) workplace {
	w := workplace{t: t, dir: t.TempDir()}
	bin := filepath.Join(w.dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	packages, err := filepath.Glob(filepath.Join(here, "*.deb"))
	require.NoError(t, err)
	content, err := os.ReadFile(packages[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "lockstep.deb"), content, 0o644))
	unpack := exec.Command("tar", "-xzf", archive(t), "-C", bin, "--strip-components=1")
	out, err := unpack.CombinedOutput()
	require.NoError(t, err, "%s", out)

	ways := ""
	for n := 1; n <= 3; n++ {
		m := newMachine(t)
		w.machines = append(w.machines, m)
		ways += fmt.Sprintf("root@127.0.0.%d) root='%s' ;;\n", n, m.root)
		// Each machine listens on its own address: they share the network.
		service := fmt.Sprintf(`#!/bin/sh -e
[ "$*" = "enable --now lockstep" ]
set -a; . /etc/lockstep/account.env; set +a
export LOCKSTEP_HTTP_ADDR=127.0.0.%[1]d LOCKSTEP_INTERNAL_ADDR=127.0.0.%[1]d:%[2]d LOCKSTEP_GOSSIP_ADDR=127.0.0.%[1]d:%[3]d
start=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/lockstep.service)
%[4]s $start > /var/log/node 2>&1 < /dev/null &
echo $! > /run/node
`, n, port+1, port+2, asNode(""))
		require.NoError(t, os.WriteFile(filepath.Join(m.root, "usr/local/bin/systemctl"), []byte(service), 0o755))
		t.Cleanup(m.killNode)
	}
	for name, does := range map[string]string{
		"ssh": `to=$1; shift; way; exec chroot "$root" /bin/sh -c "` + atHome + ` && cd && export DEBIAN_FRONTEND=noninteractive && $*"`,
		"scp": `for to; do :; done; to=${to%:}; way; while [ $# -gt 1 ]; do chroot "$root" /bin/sh -c "` + atHome + ` && cat > ~/'$1'" < "$1"; shift; done`,
	} {
		text := "#!/bin/sh -e\nway() { case $to in\n" + ways + "*) exit 1 ;;\nesac; }\n" + does + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755))
	}
	return w
}

func archive(t *testing.T) string {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(here, "*.tar.gz"))
	require.NoError(t, err)
	require.Len(t, archives, 1)
	return archives[0]
}

// killNode ends the node that systemctl started, which is nobody's child any more.
func (m machine) killNode() {
	text, err := os.ReadFile(filepath.Join(m.root, "run/node"))
	if err != nil {
		return // none was started
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(m.t, err)
	require.NoError(m.t, unix.Kill(pid, unix.SIGKILL), "the node runs to the end")
	harness.Until(m.t, "the node is gone", func() error {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}

// logs are what the nodes say.
func (w workplace) logs() (all string) {
	for _, m := range w.machines {
		text, _ := os.ReadFile(filepath.Join(m.root, "var/log/node")) // it may not have been started
		all += string(text) + "\n"
	}
	return all
}
