package cli

import (
	"context"
	"fmt"
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

// curlScript stands for curl: an answer that is a refusal fails the page, and one that
// does not end is looked at for a while, in which something has to come.
const curlScript = `#!/bin/sh
case " $* " in
*" -N "*) timeout 2 CURL --no-progress-meter --fail-with-body "$@" | grep . ;;
*) exec CURL --no-progress-meter --fail-with-body "$@" ;;
esac
`

// The commands of these pages work, one after the other, against a cluster of its
// own. Those about a node's directory are about the first node.
func TestCommandsOfThePagesRun(t *testing.T) {
	for _, name := range []string{"concepts", "operations", "security", "protocol", "configuration", "durable-streams", "observability", "transactions"} {
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
	text, err := os.ReadFile(filepath.Join("..", "..", "scripts", "package", "lockstep.yaml"))
	require.NoError(t, err)
	if example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page); name == "configuration" {
		require.NotNil(t, example)
		text = example[1]
	}
	require.NoError(t, os.WriteFile(settings, text, 0o644))
	bin := filepath.Join(here, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	for _, program := range elsewhere {
		require.NoError(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755))
	}
	curl, err := exec.LookPath("curl")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "curl"), []byte(strings.ReplaceAll(curlScript, "CURL", curl)), 0o755))
	here = filepath.Join(here, "work")
	dev := filepath.Join(here, "data", "dev")
	require.NoError(t, os.MkdirAll(dev, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dev, "dev.env"), fmt.Appendf(nil, "LOCKSTEP_URLS=%s\nLOCKSTEP_ACCOUNT_SID=%s\nLOCKSTEP_AUTH_TOKEN=%s\n", node.URL, c.Account.SID, c.Account.AuthToken), 0o600))
	if name == "durable-streams" {
		_, err := node.REST().Post(t.Context(), "/Maps", harness.Form("UniqueName", "scores"))
		require.NoError(t, err)
	}

	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, block := range blocks {
		script := strings.NewReplacer("leave node-3", "leave n2", "/var/lib/lockstep ", node.Dir+" ", "/etc/lockstep/lockstep.yaml", settings, "http://127.0.0.1:8080", node.URL,
			"http://sync1:8080", node.URL, "--time 10s", "--time 1s").Replace(block[1])
		for _, file := range regexp.MustCompile(`docs/deploy/[a-z/.]+`).FindAllString(script, -1) {
			require.FileExists(t, filepath.Join("..", "..", file))
		}
		cmd := exec.CommandContext(ctx, "bash", "-e", "-c", script+"\nwait\n")
		cmd.Dir = here
		cmd.Env = append(c.Environment(), "PATH="+bin+":"+filepath.Dir(harness.Binary())+":"+os.Getenv("PATH"), "HOME="+here, "GORACE=atexit_sleep_ms=0",
			"LOCKSTEP_URLS="+node.URL, "LOCKSTEP_API_KEY="+key.SID, "LOCKSTEP_API_SECRET="+key.Secret, "LOCKSTEP_CONFIG="+settings,
			"GOCACHE="+strings.TrimSpace(string(cache))) // of go tool
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it left behind ends with it, too
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", script, out)
	}
}
