package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/ports"
)

// The part of docs/getting-started.md about one machine, as it stands: what is pasted
// into a shell, into app.cjs, and into a Go file. The part about three machines is run in
// test/packages.
func TestGettingStartedRuns(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	require.NoError(t, err)
	page, _, found := strings.Cut(string(text), "\n## Three machines")
	require.True(t, found)
	port, err := ports.Take(3)
	require.NoError(t, err)
	for i := range 3 {
		page = strings.ReplaceAll(page, fmt.Sprintf("127.0.0.1:%d", 8080+i), fmt.Sprintf("127.0.0.1:%d", port+i))
	}
	blocks := map[string][]string{}
	for _, b := range regexp.MustCompile("(?s)```(sh|js|go)\n(.*?)```").FindAllStringSubmatch(page, -1) {
		blocks[b[1]] = append(blocks[b[1]], b[2])
	}
	require.Len(t, blocks["sh"], 4)
	require.Equal(t, "lockstep dev\n", blocks["sh"][0])
	here := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := func(script string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "bash", "-e", "-c", script)
		cmd.Dir, cmd.Env = here, append(os.Environ(), "PATH="+filepath.Dir(harness.Binary())+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0")
		return cmd
	}

	dev := command("exec lockstep dev --http-port " + strconv.Itoa(port))
	untilItSays(t, dev, "\nready")
	defer func() {
		require.NoError(t, dev.Process.Signal(syscall.SIGTERM))
		require.NoError(t, dev.Wait())
	}()
	env := blocks["sh"][1]
	run := func(script string) string {
		t.Helper()
		out, err := command(env + script).CombinedOutput()
		require.NoError(t, err, "%s\n%s", script, out)
		return string(out)
	}
	out := run(blocks["sh"][2])
	require.Contains(t, out, `"points":3`)
	require.NotContains(t, out, `"status":4`)
	require.Contains(t, run(blocks["sh"][3]), "bob")

	watch := command(env + "exec lockstep watch map/scores --count 2")
	var watched bytes.Buffer
	watch.Stdout = &watched
	start(t, watch)

	for _, file := range []string{"package.json", "package-lock.json"} { // the packages that the page names, as the suites pin them
		content, err := os.ReadFile(filepath.Join("..", "conformance", "sdk", file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(here, file), content, 0o644))
	}
	run("npm ci --silent --no-audit --no-fund --ignore-scripts")
	require.Len(t, blocks["js"], 1)
	require.NoError(t, os.WriteFile(filepath.Join(here, "app.cjs"), []byte(blocks["js"][0]), 0o644))
	app := command(env + "exec node app.cjs")
	untilItSays(t, app, "alice { points: 4 }")
	require.NoError(t, app.Process.Kill())
	_ = app.Wait() // killed

	require.Len(t, blocks["go"], 1)
	require.NoError(t, os.WriteFile(filepath.Join(here, "app.go"), []byte(blocks["go"][0]), 0o644))
	require.Contains(t, run("go run app.go"), "201 Created")
	require.NoError(t, watch.Wait())
	require.Regexp(t, `(?s)item updated\s+alice.*item added\s+carol`, watched.String())
}

// start starts a program, which the end of the test stops if it has failed before.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // or it has ended
}

// untilItSays starts a program and waits until it has said something.
func untilItSays(t *testing.T, cmd *exec.Cmd, words string) {
	t.Helper()
	said, err := os.CreateTemp(t.TempDir(), "said")
	require.NoError(t, err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	start(t, cmd)
	harness.Until(t, "it says "+words, func() error {
		now, err := os.ReadFile(said.Name())
		if err == nil && !bytes.Contains(now, []byte(words)) {
			err = fmt.Errorf("it says only: %s", now)
		}
		return err
	})
}
