// Package packages tests what a release consists of: that it is built the same, byte
// for byte, wherever it is built, and that the package for Debian installs, runs and
// goes away again.
package packages

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lockstep/test/ports"
)

const version = "v0.9.0"

// here is the release of this machine's system, which all tests look at.
var here string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lockstep-packages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	here = filepath.Join(dir, "dist")
	code := 1
	if out, err := build(filepath.Join("..", ".."), here); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// build makes a release of a checkout, at a moment of the past.
func build(checkout, out string) ([]byte, error) {
	cmd := exec.Command("go", "run", "./scripts/release", "-version", version, "-targets", runtime.GOOS+"/"+runtime.GOARCH, "-out", out)
	cmd.Dir, cmd.Env = checkout, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	return cmd.CombinedOutput()
}

func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	found := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		found[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return found
}

// A copy of the sources in another directory, by name and depth, and without the
// repository, gives the same bytes.
func TestReleaseIsTheSameByteForByte(t *testing.T) {
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = filepath.Join("..", "..")
	out, err := list.Output()
	require.NoError(t, err)
	elsewhere := filepath.Join(t.TempDir(), "a", "copy of it")
	for _, name := range strings.Split(strings.Trim(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("..", "..", name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join("..", "..", name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(elsewhere, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(elsewhere, name), content, info.Mode().Perm()))
	}
	again := filepath.Join(t.TempDir(), "dist")
	said, err := build(elsewhere, again)
	require.NoError(t, err, "%s", said)
	require.Equal(t, digests(t, here), digests(t, again))
}

func TestReleaseSaysWhatItConsistsOf(t *testing.T) {
	sums, err := os.ReadFile(filepath.Join(here, "SHA256SUMS"))
	require.NoError(t, err)
	found := digests(t, here)
	delete(found, "SHA256SUMS")
	require.Len(t, found, 3, "an archive, a package, and a list of parts")
	listed := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(sums)), "\n") {
		sum, name, _ := strings.Cut(line, "  ")
		listed[name] = sum
	}
	require.Equal(t, found, listed)

	parts, err := os.ReadFile(filepath.Join(here, "lockstep_0.9.0_"+runtime.GOOS+"_"+runtime.GOARCH+".cdx.json"))
	require.NoError(t, err)
	var bom struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	require.NoError(t, json.Unmarshal(parts, &bom))
	require.Equal(t, "CycloneDX", bom.BOMFormat)
	require.Equal(t, version, bom.Metadata.Component.Version)
	var names []string
	for _, c := range bom.Components {
		names = append(names, c.Name)
		require.NotEmpty(t, c.Version, c.Name)
	}
	require.Contains(t, names, "github.com/hashicorp/raft")
	require.Contains(t, names, "std")
}

// machine is this one's file system, of which a test may change what it likes: nothing
// of it stays.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	require.Zero(t, os.Geteuid(), "this test installs a package into a file system of its own, which only root may mount: run it as root on Debian")
	dir := t.TempDir()
	mount := func(args ...string) {
		t.Helper()
		out, err := exec.Command("mount", args...).CombinedOutput()
		require.NoError(t, err, "mount %v: %s", args, out)
		at := args[len(args)-1]
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount("-t", "tmpfs", "-o", "size=1g", "lockstep-test", dir)
	root := filepath.Join(dir, "root")
	for _, d := range []string{root, filepath.Join(dir, "upper"), filepath.Join(dir, "work")} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	mount("-t", "overlay", "-o", "lowerdir=/,upperdir="+filepath.Join(dir, "upper")+",workdir="+filepath.Join(dir, "work"), "lockstep-test", root)
	mount("--bind", "/dev", filepath.Join(root, "dev"))
	mount("-t", "proc", "proc", filepath.Join(root, "proc"))
	return machine{t, root}
}

// atHome is how a script on the machine begins: root's home is where the machine's own
// list of users says.
const atHome = "HOME=~root && export HOME"

// command is a script that is run on the machine by root.
func (m machine) command(script string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), "chroot", m.root, "/bin/sh", "-e", "-c", atHome+"\n"+script)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

func (m machine) run(script string) string {
	m.t.Helper()
	out, err := m.command(script).CombinedOutput()
	require.NoError(m.t, err, "%s\n%s", script, out)
	return string(out)
}

// asNode has a command run as the unit has its node run, without a service manager.
func asNode(command string) string {
	return "setpriv --reuid lockstep --regid lockstep --clear-groups --no-new-privs --bounding-set -all " + command
}

func TestDebianPackage(t *testing.T) {
	m := newMachine(t)
	packages, err := filepath.Glob(filepath.Join(here, "*.deb"))
	require.NoError(t, err)
	require.Len(t, packages, 1)
	content, err := os.ReadFile(packages[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(m.root, "lockstep.deb"), content, 0o644))

	m.run("dpkg -i /lockstep.deb")
	require.Contains(t, m.run("dpkg -s lockstep"), "/etc/lockstep/lockstep.yaml", "its settings are the operator's")
	require.Equal(t, "lockstep lockstep 700\n", m.run("stat -c '%U %G %a' /var/lib/lockstep"))
	require.Equal(t, "root lockstep 640\n", m.run("stat -c '%U %G %a' /etc/lockstep/lockstep.yaml"))
	require.Contains(t, m.run("lockstep --version"), version)
	m.run("lockstep config check")
	require.Contains(t, m.run("zcat /usr/share/man/man1/lockstep-serve.1.gz"), "Run one node")
	m.run("bash -n /usr/share/bash-completion/completions/lockstep")

	// The unit: systemd runs nothing here, but says what it makes of it.
	if m.command("command -v systemd-analyze").Run() != nil {
		m.run("apt-get -q update && apt-get -q install -y --no-install-recommends systemd")
	}
	require.Empty(t, m.run("systemd-analyze verify --man=no lockstep.service 2>&1 | grep lockstep || true"))
	require.Contains(t, m.run("systemd-analyze security --offline=true --threshold=20 lockstep.service"), "OK", "an exposure of at most 2.0")

	// What the unit starts does, as its user and without capabilities.
	unit := m.run("grep ^ExecStart= /usr/lib/systemd/system/lockstep.service")
	start := strings.TrimSpace(strings.TrimPrefix(unit, "ExecStart="))
	m.run(asNode("lockstep init"))
	m.runNode(start, func() {
		m.run("lockstep doc create greeting '{\"hello\":\"world\"}'")
		require.Contains(t, m.run("lockstep status"), "leader")
	})

	// A new version: settings and data stay.
	m.run("echo 'log-level: warn' >> /etc/lockstep/lockstep.yaml && dpkg -i /lockstep.deb")
	require.Contains(t, m.run("lockstep config show"), "log-level: WARN")
	m.runNode(start, func() { require.Contains(t, m.run("lockstep doc get greeting --data"), "world") })

	m.run("dpkg -r lockstep")
	m.run("! command -v lockstep && test -s /var/lib/lockstep/node.json && test -s /etc/lockstep/lockstep.yaml")
	m.run("dpkg -P lockstep")
	m.run("! getent passwd lockstep")
	require.Empty(t, m.run("find /etc /usr/bin /usr/lib/systemd /usr/share/man /usr/share/doc /var/lib -xdev -name '*lockstep*' -not -path '/var/lib/dpkg/*'"), "nothing is left")
}

// runNode has what the unit starts run while f does, and stop as systemd stops it.
func (m machine) runNode(start string, f func()) {
	m.t.Helper()
	port, err := ports.Take(1)
	require.NoError(m.t, err)
	cmd := m.command("exec " + asNode(start))
	cmd.Env = append(cmd.Env, fmt.Sprintf("LOCKSTEP_HTTP_PORT=%d", port))
	log, err := cmd.StderrPipe()
	require.NoError(m.t, err)
	require.NoError(m.t, cmd.Start())
	said := make(chan string, 1)
	go func() { // ends with the process
		var text strings.Builder
		for lines := bufio.NewScanner(log); lines.Scan(); {
			text.WriteString(lines.Text() + "\n")
		}
		said <- text.String()
	}()
	healthy := false
	for deadline := time.Now().Add(time.Minute); !healthy && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		healthy = m.command("lockstep health").Run() == nil
	}
	if healthy {
		f()
	}
	require.NoError(m.t, cmd.Process.Signal(unix.SIGTERM))
	text := <-said
	require.NoError(m.t, cmd.Wait(), text)
	require.True(m.t, healthy, text)
}
