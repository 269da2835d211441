package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/test/harness"
)

// elsewhere are programs that pages call and that are not run here: in their place stands
// one that succeeds. What their commands do is run in test/packages (dpkg) and by
// TestNodesOnKubernetesComeAndGo; files that they name must be there.
var elsewhere = []string{"apt-get", "docker", "kubectl"}

// The commands of these pages work, one after the other, against a cluster of its
// own. Those about a node's directory are about the first node.
func TestCommandsOfThePagesRun(t *testing.T) {
	for _, name := range []string{"concepts", "operations", "security", "protocol"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runPage(t, name)
		})
	}
}

func runPage(t *testing.T, name string) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	nodes := 1
	if strings.Contains(string(page), "lockstep leave node-3") {
		nodes = 2
	}
	c := harness.Start(t, harness.Config{Nodes: nodes})
	node := c.Nodes[0]
	key, err := c.Admin().CreateKey(t.Context(), admin.NewKey{})
	require.NoError(t, err)

	here := t.TempDir()
	settings := filepath.Join(here, "lockstep.yaml")
	packaged, err := os.ReadFile(filepath.Join("..", "..", "scripts", "package", "lockstep.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(settings, packaged, 0o644))
	bin := filepath.Join(here, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	for _, program := range elsewhere {
		require.NoError(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755))
	}
	here = filepath.Join(here, "work")
	require.NoError(t, os.Mkdir(here, 0o755))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, block := range blocks {
		script := strings.NewReplacer("leave node-3", "leave n2", "/var/lib/lockstep ", node.Dir+" ", "/etc/lockstep/lockstep.yaml", settings, "http://127.0.0.1:8080", node.URL).Replace(block[1])
		for _, file := range regexp.MustCompile(`docs/deploy/[a-z/.]+`).FindAllString(script, -1) {
			require.FileExists(t, filepath.Join("..", "..", file))
		}
		cmd := exec.CommandContext(ctx, "bash", "-e", "-c", script+"\nwait\n")
		cmd.Dir = here
		cmd.Env = append(c.Environment(), "PATH="+bin+":"+filepath.Dir(harness.Binary())+":"+os.Getenv("PATH"), "HOME="+here, "GORACE=atexit_sleep_ms=0",
			"LOCKSTEP_URLS="+node.URL, "LOCKSTEP_API_KEY="+key.SID, "LOCKSTEP_API_SECRET="+key.Secret)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it left behind ends with it, too
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", script, out)
	}
}
