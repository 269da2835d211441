// Package architecture holds the rules of the house as tests: which way
// imports point, what the deterministic store may not know, and that every
// package says what it is for.
package architecture

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/build"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// packages returns what `go list` says of every package of the module.
func packages(t *testing.T) []pkg {
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if err == nil {
			all = append(all, p)
		}
	}
}

// mayImport says which of the module's own packages each one may import. A
// name ending in /... stands for a whole folder.
var mayImport = map[string][]string{
	"lockstep/objects":          {},
	"lockstep/cluster/durable":  {},
	"lockstep/cluster/loglimit": {},
	"lockstep/cluster/slots":    {},
	"lockstep/fsm":              {"lockstep/objects"},
	"lockstep/fsm/commandid":    {"lockstep/fsm"},
	"lockstep/fsm/fsmtest":      {"lockstep/fsm", "lockstep/objects"},
	"lockstep/cluster":          {"lockstep/fsm", "lockstep/objects", "lockstep/cluster/..."},
	"lockstep/server/auth":      {"lockstep/objects"},
	"lockstep/server/bounds":    {},
	"lockstep/server/source":    {},
	"lockstep/server/refusal":   {"lockstep/objects"},
	"lockstep/server/origin":    {"lockstep/server/source"},
	"lockstep/server/budget":    {},
	"lockstep/server/audit":     {"lockstep/server/source"},
	"lockstep/server/guard":     {"lockstep/server/audit"},
	"lockstep/server/panics":    {},
	"lockstep/server/query":     {"lockstep/objects"},
	"lockstep/server/ratelimit": {},
	"lockstep/server/limits":    {"lockstep/server/ratelimit", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/hub":       {"lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/livequery": {"lockstep/server/hub", "lockstep/server/query", "lockstep/server/budget", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/retry":     {},
	"lockstep/server/webhook":   {"lockstep/server/retry", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/api":       {"lockstep/fsm", "lockstep/objects"},
	"lockstep/server/rest":      {"lockstep/server/api", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/budget", "lockstep/server/refusal", "lockstep/server/origin", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/realtime":  {"lockstep/server/api", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/budget", "lockstep/server/refusal", "lockstep/server/origin", "lockstep/server/source", "lockstep/server/ratelimit", "lockstep/server/hub", "lockstep/server/livequery", "lockstep/server/panics", "lockstep/server/query", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/admin":     {"lockstep/server/audit", "lockstep/server/auth", "lockstep/server/refusal", "lockstep/objects"},
	"lockstep/server/nodedir":   {},
	"lockstep/server/enrol":     {"lockstep/server/admin", "lockstep/server/auth", "lockstep/server/nodedir", "lockstep/server/origin", "lockstep/server/retry", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server":           {"lockstep/server/...", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/...":       {"lockstep/server/...", "lockstep/objects"},

	"lockstep/cmd/lockstep":              {"lockstep/server", "lockstep/server/...", "lockstep/cluster", "lockstep/cmd/lockstep/internal/..."},
	"lockstep/cmd/lockstep/internal/dev": {"lockstep/server/admin", "lockstep/server/nodedir", "lockstep/server/retry"},

	"lockstep/cluster/internal/watch":      {},
	"lockstep/cluster/internal/lifetime":   {},
	"lockstep/cluster/internal/member":     {},
	"lockstep/cluster/internal/accept":     {},
	"lockstep/cluster/internal/link":       {"lockstep/cluster/internal/accept"},
	"lockstep/cluster/internal/wire":       {"lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/link"},
	"lockstep/cluster/internal/batch":      {"lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/leadership": {"lockstep/cluster/internal/batch", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/watch", "lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/proposer":   {"lockstep/cluster/internal/batch", "lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/wire", "lockstep/fsm", "lockstep/objects"},
	"lockstep/cluster/internal/rafttest":   {},
	"lockstep/cluster/internal/status":     {"lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/clock":      {"lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/status", "lockstep/cluster/internal/transport"},
	"lockstep/cluster/internal/keyring":    {"lockstep/fsm/commandid", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/status", "lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/membership": {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/status", "lockstep/cluster/internal/transport", "lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/disk":       {},
	"lockstep/cluster/internal/transport":  {"lockstep/cluster/internal/lifetime"},
	"lockstep/cluster/internal/nudge":      {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/fsm"},
	"lockstep/cluster/internal/takeover":   {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime"},
	"lockstep/cluster/internal/replica":    {"lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/watch", "lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/readindex":  {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/wire", "lockstep/fsm", "lockstep/objects"},
}

// forAll may be imported by all but the store: what logs for strangers, what
// bounds their connections, and what writes files.
var forAll = []string{"lockstep/cluster/durable", "lockstep/cluster/loglimit", "lockstep/cluster/slots"}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, "lockstep/test/") {
			continue
		}
		allowed, known := rulesFor(p.ImportPath)
		require.True(t, known, "%s has no place in the house", p.ImportPath)
		for _, imported := range p.Imports {
			if slices.Contains(forAll, imported) && p.ImportPath != "lockstep/objects" && p.ImportPath != "lockstep/fsm" {
				continue
			}
			if imported == "lockstep/fsm/commandid" { // for whoever proposes
				imported = "lockstep/fsm"
			}
			if strings.HasPrefix(imported, "lockstep/") {
				require.True(t, matches(allowed, imported), "%s must not import %s", p.ImportPath, imported)
			}
		}
	}
}

func rulesFor(path string) ([]string, bool) {
	if allowed, ok := mayImport[path]; ok {
		return allowed, true
	}
	for dir := path; strings.Contains(dir, "/"); {
		dir = dir[:strings.LastIndexByte(dir, '/')]
		if allowed, ok := mayImport[dir+"/..."]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func matches(allowed []string, path string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		folder, whole := strings.CutSuffix(a, "...")
		return a == path || whole && strings.HasPrefix(path, folder)
	})
}

// TestTheStoreKnowsNoWorld keeps clocks, chance and I/O out of what is applied.
func TestTheStoreKnowsNoWorld(t *testing.T) {
	for _, p := range packages(t) {
		switch p.ImportPath {
		case "lockstep/objects":
			for _, i := range p.Imports {
				std, err := build.Import(i, "", build.FindOnly)
				require.NoError(t, err)
				require.True(t, std.Goroot, "objects must not import %s: the standard library only", i)
			}
		case "lockstep/fsm":
			for _, banned := range []string{"time", "crypto/rand", "math/rand", "math/rand/v2", "net", "net/http", "os"} {
				require.NotContains(t, p.Imports, banned)
			}
		}
	}
}

// TestTheTopLevelIsFixed keeps packages in the folder whose job they share.
func TestTheTopLevelIsFixed(t *testing.T) {
	folders := []string{"cmd", "cluster", "fsm", "objects", "server", "test"}
	for _, p := range packages(t) {
		top, _, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, "lockstep/"), "/")
		require.Contains(t, folders, top, "%s", p.ImportPath)
	}
}

func TestNoPatchLeftovers(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "*.orig", "*.rej")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Empty(t, string(out))
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 {
			require.NotEmpty(t, p.Doc, "%s has no package comment", p.ImportPath)
		}
	}
}

func TestNoFileIsGiant(t *testing.T) {
	const most = 800
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			f, err := os.Open(filepath.Join(p.Dir, name))
			require.NoError(t, err)
			lines := 0
			for s := bufio.NewScanner(f); s.Scan(); {
				lines++
			}
			f.Close()
			require.LessOrEqual(t, lines, most, "%s/%s", p.ImportPath, name)
		}
	}
}
