package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/server/certificate"
	"lockstep/test/harness"
	"lockstep/test/ports"
)

// notHere are the commands whose examples need more than one machine or node, and
// where else they are run.
var notHere = map[string]string{
	"bench":   "testdata/bench.txtar",
	"dev":     "test/cluster",
	"join":    "testdata/join.txtar",
	"leave":   "testdata/join.txtar",
	"mirror":  "testdata/objects/transfer.txtar",
	"recover": "testdata/recover.txtar",
}

// endless are those that run until they are stopped.
var endless = []string{"serve", "init", "watch"}

// examples is where they are run: a directory in which lockstep finds the cluster of
// lockstep dev, with what they name.
type examples struct {
	t    *testing.T
	c    *harness.Cluster
	here string
	env  []string
}

// Each example in the help of a command works as it stands, with the test's own
// directories and addresses in the place of those of real machines.
func TestExamplesOfTheHelpWork(t *testing.T) {
	e := newExamples(t)
	for _, line := range []string{
		`service create --name orders`, `service create --name old`, `list create journey --service orders`,
		`doc create config {"colour":"red"}`, `list create journey`, `list push journey "a" "b"`, `map create scores`,
		`map set scores alice {"points":3}`, `map set scores bob 1`, `stream create moves`, `perm set map/scores alice --read`,
		`doc create old`, `list create old`, `map create old`, `stream create old`, `list push journey 1 --service orders`,
	} {
		out, err := e.command(append([]string{harness.Binary()}, strings.Fields(line)...)...).CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
	}
	e.write("bob.json", `{"points": 1}`)
	authority, err := certificate.NewAuthority("examples", time.Now().Add(time.Hour))
	require.NoError(t, err)
	cert, _, err := authority.PEM()
	require.NoError(t, err)
	e.write("cert.pem", string(cert))
	e.write("lockstep.yaml", "data-dir: "+filepath.Join(e.here, "configured")+"\n")
	token, err := e.command(harness.Binary(), "token", "create", "--identity", "alice", "--data-dir", "data/dev").Output()
	require.NoError(t, err)
	e.write("token.txt", string(token))

	all := e.commands()
	require.Greater(t, len(all), 50)
	// Last what changes the credentials that all others use.
	last := slices.Index(all, "keys rotate-account")
	all = append(slices.Delete(slices.Clone(all), last, last+1), all[last])
	for name := range notHere {
		require.Contains(t, all, name)
	}
	for _, name := range all {
		if notHere[name] == "" {
			if !strings.HasPrefix(name, "context") { // those of its examples are of no other command
				require.NoError(t, os.RemoveAll(filepath.Join(e.here, ".config")))
			}
			for _, line := range e.examplesOf(name) {
				e.run(name, line)
			}
		}
	}
}

func newExamples(t *testing.T) *examples {
	c := harness.Start(t, harness.Config{Nodes: 1})
	key, err := c.Admin().CreateKey(t.Context(), admin.NewKey{FriendlyName: "examples"})
	require.NoError(t, err)
	e := &examples{t: t, c: c, here: t.TempDir()}
	require.NoError(t, os.MkdirAll(filepath.Join(e.here, "data", "dev"), 0o700))
	e.write("data/dev/dev.env", fmt.Sprintf("LOCKSTEP_URLS=%s\nLOCKSTEP_ACCOUNT_SID=%s\nLOCKSTEP_AUTH_TOKEN=%s\nLOCKSTEP_API_KEY=%s\nLOCKSTEP_API_SECRET=%s\n",
		c.Nodes[0].URL, c.Account.SID, c.Account.AuthToken, key.SID, key.Secret))
	// Those that name a node take credentials from here.
	e.env = []string{
		"PATH=" + filepath.Dir(harness.Binary()) + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + e.here,
		"GORACE=atexit_sleep_ms=0", // or every call takes a second
		"LOCKSTEP_ACCOUNT_SID=" + c.Account.SID, "LOCKSTEP_AUTH_TOKEN=" + c.Account.AuthToken, "LOCKSTEP_API_SECRET=" + key.Secret,
		"TWILIO_AUTH_TOKEN=" + c.Account.AuthToken,
	}
	return e
}

func (e *examples) write(name, text string) {
	require.NoError(e.t, os.WriteFile(filepath.Join(e.here, name), []byte(text), 0o600))
}

func (e *examples) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	e.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = e.here, e.env
	return cmd
}

// commands returns all that can be called, but what cobra adds.
func (e *examples) commands(above ...string) (all []string) {
	if len(above) > 0 && !strings.Contains(e.helpOf(above...), "\nAvailable Commands:\n") {
		return nil // what a shell completes there are arguments
	}
	out, err := e.command(append(append([]string{harness.Binary(), "__complete"}, above...), "")...).Output()
	require.NoError(e.t, err)
	for line := range strings.Lines(string(out)) {
		name, _, described := strings.Cut(line, "\t")
		if !described || slices.Contains([]string{"completion", "help", "clusters", "exit-codes"}, name) {
			continue
		}
		path := append(slices.Clone(above), name)
		below := e.commands(path...)
		if len(below) == 0 || name == "backup" { // which is a command and holds one
			all = append(all, strings.Join(path, " "))
		}
		all = append(all, below...)
	}
	return all
}

func (e *examples) helpOf(command ...string) string {
	out, err := e.command(append(append([]string{harness.Binary()}, command...), "--help")...).Output()
	require.NoError(e.t, err)
	return string(out)
}

// examplesOf returns the examples in the help of a command.
func (e *examples) examplesOf(name string) (lines []string) {
	_, after, found := strings.Cut(e.helpOf(strings.Fields(name)...), "\nExamples:\n")
	require.True(e.t, found, "lockstep %s --help has no example", name)
	text, _, _ := strings.Cut(after, "\n\n")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

var (
	realURL = regexp.MustCompile(`(http://10\.0\.0\.1:8080|https://sync1?\.example\.com|https://sync\.twilio\.com)`)
	fakeKey = regexp.MustCompile(`SK0{31}2`)

	fakeAccount = regexp.MustCompile(`AC0{31}1`)
)

// run does what one example says.
func (e *examples) run(name, line string) {
	t := e.t
	if strings.Contains(line, "--advertise") {
		return // a machine of that address is needed
	}
	dir := e.c.Nodes[0].Dir
	if slices.Contains([]string{"serve", "init", "restore"}, name) {
		dir = t.TempDir()
		if name == "restore" {
			dir = filepath.Join(dir, "new")
		}
	}
	line = realURL.ReplaceAllLiteralString(line, e.c.Nodes[0].URL)
	line = fakeAccount.ReplaceAllLiteralString(line, e.c.Account.SID)
	line = strings.NewReplacer(
		"/var/lib/lockstep", dir, "/backups/", e.here+"/", "gpg --encrypt --recipient ops", "cat",
		"/etc/lockstep/lockstep.yaml", "lockstep.yaml", "man -l", "cat",
	).Replace(line)
	if strings.HasPrefix(name, "keys") && fakeKey.MatchString(line) {
		key, err := e.c.Admin().CreateKey(t.Context(), admin.NewKey{FriendlyName: "example"})
		require.NoError(t, err)
		line = fakeKey.ReplaceAllLiteralString(line, key.SID)
	}
	if name == "backup" {
		require.NoError(t, os.RemoveAll(filepath.Join(e.here, "sync.backup")), "an example wrote it")
	}
	if name == "backup" && strings.Contains(line, "verify") {
		_, err := e.command(harness.Binary(), "backup", "sync.backup").CombinedOutput()
		require.NoError(t, err)
	}
	cmd := e.command("/bin/sh", "-c", "trap : INT; "+line)
	if slices.Contains(endless, name) && !strings.Contains(line, "--count") && !strings.Contains(line, "init --config") {
		e.untilStopped(cmd, line)
		return
	}
	if strings.Contains(line, "stream/moves") {
		stop := e.publish()
		defer stop()
	}
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", line, out)
}

// untilStopped starts what runs until it is stopped, waits until it does what it is
// for, and stops it.
func (e *examples) untilStopped(cmd *exec.Cmd, line string) {
	t := e.t
	port, err := ports.Take(1)
	require.NoError(t, err)
	cmd.Env = append(slices.Clone(e.env), fmt.Sprintf("LOCKSTEP_HTTP_PORT=%d", port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	notes, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	said := bufio.NewReader(notes)
	if strings.Contains(line, "watch") {
		first, err := said.ReadString('\n')
		require.NoError(t, err, line)
		require.Contains(t, first, "lockstep: watching", line)
	} else {
		go func() { _, _ = io.Copy(io.Discard, said) }() // it ends with the process
		harness.Until(t, line, func() error {
			r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port))
			if err != nil {
				return err
			}
			r.Body.Close()
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", r.StatusCode)
			}
			return nil
		})
	}
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	require.NoError(t, cmd.Wait(), line)
}

// publish sends messages to the stream until it is stopped.
func (e *examples) publish() (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = e.c.Nodes[0].REST().Post(ctx, "/Streams/moves/Messages", harness.Form("Data", "1"))
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}
