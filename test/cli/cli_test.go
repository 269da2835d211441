// Package cli tests the command line as a user meets it: what it prints, where,
// and its exit codes. The scripts in testdata can be read as documentation.
package cli

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"lockstep/server/certificate"
	"lockstep/test/harness"
	"lockstep/test/ports"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// Scripts find the program as lockstep, and in CLUSTER_URL and CLUSTER_DIR a
// cluster of one node, whose account is in ACCOUNT_SID and AUTH_TOKEN. PORT is a
// free port of their own.
func TestScripts(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	runScripts(t, c, "testdata")
	s, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Nodes, 1, "every node that joined has left")
}

// Those that make services and objects have a cluster of their own.
func TestObjectScripts(t *testing.T) {
	runScripts(t, harness.Start(t, harness.Config{Nodes: 1}), filepath.Join("testdata", "objects"))
}

func runScripts(t *testing.T, c *harness.Cluster, dir string) {
	t.Run("all", func(t *testing.T) { // ends when the scripts, which run side by side, have ended
		testscript.Run(t, testscript.Params{
			Dir: dir,
			Setup: func(e *testscript.Env) error {
				port, err := ports.Take(1)
				if err != nil {
					return err
				}
				e.Setenv("PATH", filepath.Dir(harness.Binary())+string(os.PathListSeparator)+os.Getenv("PATH"))
				e.Setenv("CLUSTER_URL", c.Nodes[0].URL)
				e.Setenv("CLUSTER_DIR", c.Nodes[0].Dir)
				e.Setenv("ACCOUNT_SID", c.Account.SID)
				e.Setenv("AUTH_TOKEN", c.Account.AuthToken)
				e.Setenv("PORT", strconv.Itoa(port))
				e.Setenv("GORACE", "atexit_sleep_ms=0") // or every call takes a second
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				// exits CODE PROGRAM ARGS… runs a program that must end with this code.
				"exits": exits,
				// waitfor URL waits until something answers there with 200.
				"waitfor": waitFor,
				// waitforfile FILE waits until there is something in a file.
				"waitforfile": waitForFile,
				// certify writes a certificate for 127.0.0.1, its key and its authority.
				"certify": certify,
			},
		})
	})
}

// A backup of a data directory that was copied with its modes is nobody else's to
// read either.
func TestNodeFilesAreReadableByOwnerOnly(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	out, err := c.Run(t.Context(), "snapshot", "--data-dir", c.Nodes[0].Dir)
	require.NoError(t, err, out)
	files := 0
	require.NoError(t, filepath.WalkDir(c.Nodes[0].Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files++
			require.Zero(t, info.Mode().Perm()&0o077, "%s %s", info.Mode(), path)
		}
		return err
	}))
	snapshots, err := filepath.Glob(filepath.Join(c.Nodes[0].Dir, "*", "snapshots", "*", "state.bin"))
	require.NoError(t, err)
	require.NotEmpty(t, snapshots)
	require.Greater(t, files, 6)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = err.Error()
		if code, ok := exitCode(err); ok {
			got = strconv.Itoa(code)
		}
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, expected %s", got, args[0])
	}
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor URL")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		res, err := http.Get(args[0])
		if err != nil {
			continue
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("%s does not answer", args[0])
}

func waitForFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitforfile FILE")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(ts.MkAbs(args[0])); err == nil && info.Size() > 0 {
			return
		}
	}
	ts.Fatalf("%s does not appear", args[0])
}

func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: certify CERT KEY AUTHORITY")
	}
	until := time.Now().Add(time.Hour)
	authority, err := certificate.NewAuthority("test", until)
	ts.Check(err)
	cert, key, err := authority.Issue(until, "127.0.0.1")
	ts.Check(err)
	root, _, err := authority.PEM()
	ts.Check(err)
	for i, content := range [][]byte{cert, key, root} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i]), content, 0o600))
	}
}

func exitCode(err error) (int, bool) {
	e, ok := err.(interface{ ExitCode() int })
	if !ok {
		return 0, false
	}
	return e.ExitCode(), true
}
