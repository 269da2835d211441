// Package architecture holds the rules of the house as tests: which way
// imports point, what the deterministic store may not know, and that every
// package says what it is for.
package architecture

import (
	"bufio"
	"encoding/json"
	"errors"
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

	IgnoredGoFiles []string // for other systems or tags
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

// mayImport says which of the module's own packages each one may import. Every
// package but those of tests has a row of its own: a new one has its place decided
// here. On the right a name ending in /... stands for a whole folder, for those
// who put its parts together.
var mayImport = map[string][]string{
	"lockstep/objects":            {},
	"lockstep/cluster/durable":    {},
	"lockstep/cluster/loglimit":   {},
	"lockstep/cluster/slots":      {},
	"lockstep/fsm":                {"lockstep/objects"},
	"lockstep/fsm/commandid":      {"lockstep/fsm"},
	"lockstep/fsm/fsmtest":        {"lockstep/fsm", "lockstep/objects"},
	"lockstep/cluster":            {"lockstep/fsm", "lockstep/objects", "lockstep/cluster/..."},
	"lockstep/server/auth":        {"lockstep/objects"},
	"lockstep/server/bounds":      {},
	"lockstep/server/source":      {},
	"lockstep/server/refusal":     {"lockstep/objects"},
	"lockstep/server/jsonbody":    {"lockstep/server/refusal", "lockstep/objects"},
	"lockstep/server/requestid":   {"lockstep/server/audit", "lockstep/server/origin", "lockstep/objects"},
	"lockstep/server/origin":      {"lockstep/server/source"},
	"lockstep/server/plain":       {},
	"lockstep/server/budget":      {"lockstep/server/cond"},
	"lockstep/server/audit":       {"lockstep/server/source"},
	"lockstep/server/guard":       {"lockstep/server/audit"},
	"lockstep/server/panics":      {},
	"lockstep/server/histogram":   {},
	"lockstep/server/trace":       {"lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/cond":        {},
	"lockstep/server/query":       {"lockstep/objects"},
	"lockstep/server/ratelimit":   {},
	"lockstep/server/limits":      {"lockstep/server/ratelimit", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/hub":         {"lockstep/server/cond", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/livequery":   {"lockstep/server/cond", "lockstep/server/hub", "lockstep/server/query", "lockstep/server/budget", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/retry":       {},
	"lockstep/server/webhook":     {"lockstep/server/retry", "lockstep/server/histogram", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/resource":    {"lockstep/objects"},
	"lockstep/server/api":         {"lockstep/server/resource", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/rest":        {"lockstep/server/api", "lockstep/server/resource", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/budget", "lockstep/server/refusal", "lockstep/server/requestid", "lockstep/server/origin", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/realtime":    {"lockstep/server/realtime/wire", "lockstep/server/api", "lockstep/server/resource", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/budget", "lockstep/server/refusal", "lockstep/server/origin", "lockstep/server/source", "lockstep/server/ratelimit", "lockstep/server/hub", "lockstep/server/livequery", "lockstep/server/histogram", "lockstep/server/panics", "lockstep/server/query", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/console":     {"lockstep/server/admin", "lockstep/server/jsonbody", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/backup", "lockstep/server/limits", "lockstep/server/origin", "lockstep/server/realtime", "lockstep/server/refusal", "lockstep/server/webhook", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server/transfer":    {"lockstep/objects"},
	"lockstep/server/admin":       {"lockstep/server/audit", "lockstep/server/jsonbody", "lockstep/server/auth", "lockstep/server/refusal", "lockstep/server/requestid", "lockstep/server/transfer", "lockstep/objects"},
	"lockstep/server/memory":      {},
	"lockstep/server/acme":        {"lockstep/server/certificate", "lockstep/fsm"},
	"lockstep/server/certificate": {},
	"lockstep/server/nodedir":     {},
	"lockstep/server/backup":      {"lockstep/fsm"},
	"lockstep/server/enrol":       {"lockstep/server/admin", "lockstep/server/auth", "lockstep/server/backup", "lockstep/server/nodedir", "lockstep/server/origin", "lockstep/server/retry", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},
	"lockstep/server":             {"lockstep/server/...", "lockstep/cluster", "lockstep/fsm", "lockstep/objects"},

	"lockstep/server/durablestreams": {"lockstep/server/api", "lockstep/server/requestid", "lockstep/server/hub", "lockstep/server/resource", "lockstep/server/audit", "lockstep/server/auth", "lockstep/server/budget", "lockstep/server/refusal", "lockstep/server/origin", "lockstep/server/panics", "lockstep/fsm", "lockstep/objects"},

	"lockstep/server/realtime/wire": {"lockstep/server/resource", "lockstep/objects"},

	"lockstep/cmd/lockstep/internal/dev":      {"lockstep/server/certificate", "lockstep/server/admin", "lockstep/server/nodedir", "lockstep/server/retry"},
	"lockstep/cmd/lockstep":                   {"lockstep/cluster", "lockstep/server", "lockstep/server/admin", "lockstep/server/auth", "lockstep/server/backup", "lockstep/server/enrol", "lockstep/server/limits", "lockstep/server/memory", "lockstep/server/nodedir", "lockstep/server/origin", "lockstep/server/retry", "lockstep/server/bounds", "lockstep/server/transfer", "lockstep/objects", "lockstep/cmd/lockstep/internal/..."},
	"lockstep/cmd/lockstep/internal/client":   {},
	"lockstep/cmd/lockstep/internal/contexts": {},
	"lockstep/cmd/lockstep/internal/live":     {"lockstep/server/retry"},
	"lockstep/cmd/lockstep/internal/explain":  {"lockstep/objects"},
	"lockstep/cmd/lockstep/internal/migrate":  {"lockstep/cmd/lockstep/internal/client", "lockstep/server/admin", "lockstep/server/transfer", "lockstep/objects"},

	"lockstep/cmd/lockstep/internal/load":     {"lockstep/server/admin", "lockstep/server/auth"},
	"lockstep/cmd/lockstep/internal/settings": {},

	"lockstep/scripts/release": {}, // it knows the program by its name only

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
	"lockstep/cluster/internal/asynclog":   {},
	"lockstep/cluster/internal/disk":       {},
	"lockstep/cluster/internal/journal":    {"lockstep/cluster/durable"},
	"lockstep/cluster/internal/transport":  {"lockstep/cluster/internal/lifetime"},
	"lockstep/cluster/internal/nudge":      {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/fsm"},
	"lockstep/cluster/internal/takeover":   {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/status"},
	"lockstep/cluster/internal/replica":    {"lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/watch", "lockstep/cluster/internal/wire", "lockstep/fsm"},
	"lockstep/cluster/internal/recall":     {"lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/member", "lockstep/cluster/internal/status", "lockstep/cluster/internal/wire"},
	"lockstep/cluster/internal/readindex":  {"lockstep/cluster/internal/leadership", "lockstep/cluster/internal/lifetime", "lockstep/cluster/internal/wire", "lockstep/fsm", "lockstep/objects"},
}

// forAll may be imported by all but the store: what logs for strangers, what
// bounds their connections, and how files are written.
var forAll = []string{"lockstep/cluster/durable", "lockstep/cluster/loglimit", "lockstep/cluster/slots"}

func TestImportsPointOneWay(t *testing.T) {
	all := packages(t)
	for _, p := range all {
		require.Empty(t, againstTheTable(p))
	}
	for path := range mayImport {
		require.True(t, slices.ContainsFunc(all, func(p pkg) bool { return p.ImportPath == path }), "%s has a row, and is not there", path)
	}
}

func TestForbiddenImportIsFound(t *testing.T) {
	for _, p := range []pkg{
		{ImportPath: "lockstep/objects", Imports: []string{"lockstep/fsm"}},
		{ImportPath: "lockstep/objects", Imports: []string{"lockstep/cluster/slots"}},
		{ImportPath: "lockstep/fsm", Imports: []string{"lockstep/cluster"}},
		{ImportPath: "lockstep/fsm", Imports: []string{"lockstep/fsm/commandid"}},
		{ImportPath: "lockstep/cluster", Imports: []string{"lockstep/server/api"}},
		{ImportPath: "lockstep/cluster/internal/wire", Imports: []string{"lockstep/fsm/commandid"}},
		{ImportPath: "lockstep/server/rest", Imports: []string{"lockstep/cluster"}},
		{ImportPath: "lockstep/server/rest", Imports: []string{"lockstep/server"}},
		{ImportPath: "lockstep/server/new", Imports: nil},
		{ImportPath: "lockstep/server/rest/new", Imports: nil},
		{ImportPath: "lockstep/cmd/new", Imports: nil},
		{ImportPath: "lockstep/server", Imports: []string{"lockstep/test/golden"}},
		{ImportPath: "lockstep/server", Imports: []string{"lockstep/serverless"}},
	} {
		require.NotEmpty(t, againstTheTable(p), "%v", p)
	}
}

// againstTheTable returns what a package imports of the module's own and may not.
// Tests put together what they like.
func againstTheTable(p pkg) (wrong []string) {
	if strings.HasPrefix(p.ImportPath, "lockstep/test/") {
		return nil
	}
	allowed, known := mayImport[p.ImportPath]
	if !known {
		return []string{p.ImportPath + " has no row in the table of who may import what"}
	}
	store := p.ImportPath == "lockstep/objects" || p.ImportPath == "lockstep/fsm"
	for _, imported := range p.Imports {
		switch {
		case !strings.HasPrefix(imported, "lockstep/"):
		case slices.Contains(forAll, imported) && !store:
		case imported == "lockstep/fsm/commandid" && !store && slices.Contains(allowed, "lockstep/fsm"): // for whoever proposes
		case !matches(allowed, imported):
			wrong = append(wrong, p.ImportPath+" must not import "+imported)
		}
	}
	return wrong
}

func matches(allowed []string, path string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		folder, whole := strings.CutSuffix(a, "...")
		return a == path || whole && strings.HasPrefix(path, folder)
	})
}

// TestTopLevelPackagesAreFixed keeps packages in the folder whose job they share.
func TestTopLevelPackagesAreFixed(t *testing.T) {
	folders := []string{"cmd", "cluster", "fsm", "objects", "scripts", "server", "test"}
	for _, p := range packages(t) {
		top, _, _ := strings.Cut(strings.TrimPrefix(p.ImportPath, "lockstep/"), "/")
		require.Contains(t, folders, top, "%s", p.ImportPath)
	}
}

func TestNoPatchLeftovers(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "*.orig", "*.rej", "*.fail", "*.prof", "*.test")
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

func TestFilesAreNotTooLong(t *testing.T) {
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
