package architecture

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mayUse says who may import each module of others: a package, or one file of it.
// What a module is for is done in one place, so that another one can take its own.
// Tests that the product is not made of may import what they need.
var mayUse = map[string][]string{
	"github.com/hashicorp/raft": {
		"fsm", // the types of its FSM interface; see the test of the store
		"fsm/fsmtest",
		"cluster",
		"cluster/internal/asynclog", "cluster/internal/batch", "cluster/internal/clock", "cluster/internal/disk", "cluster/internal/journal", "cluster/internal/leadership",
		"cluster/internal/lifetime", "cluster/internal/link", "cluster/internal/member", "cluster/internal/membership",
		"cluster/internal/nudge", "cluster/internal/rafttest", "cluster/internal/readindex", "cluster/internal/recall", "cluster/internal/replica",
		"cluster/internal/status", "cluster/internal/takeover", "cluster/internal/transport",
	},
	"github.com/hashicorp/raft-boltdb/v2": {"cluster/compact.go", "cluster/recover.go"},
	"go.etcd.io/bbolt":                    {"cluster/compact.go", "cluster/store.go", "cluster/recover.go"},
	"github.com/hashicorp/memberlist":     {"cluster/gossip.go", "cluster/gossipport.go"},
	"github.com/hashicorp/go-sockaddr":    {"cluster/gossipport.go"},
	"github.com/hashicorp/go-hclog":       {"cluster/log.go", "cluster/internal/rafttest"},
	"github.com/google/renameio/v2":       {"cluster/durable"},
	"golang.org/x/time":                   {"cluster/gossipport.go", "server/realtime/wire/conn.go", "server/realtime/server.go", "server/realtime/session.go"},

	"github.com/fxamacker/cbor/v2":   {"fsm/command.go", "cluster/gossip.go", "cluster/recall.go", "cluster/internal/wire", "server/backup/backup.go"},
	"github.com/cespare/xxhash/v2":   {"fsm/digest.go"},
	"github.com/klauspost/compress":  {"fsm/snapshot.go", "fsm/restore.go"},
	"github.com/tidwall/gjson":       {"cmd/lockstep/internal/load", "server/query", "server/realtime/objects.go", "server/realtime/route.go", "server/realtime/wire/message.go", "server/realtime/wire/request.go", "server/realtime/wire/json.go"},
	"github.com/gorilla/websocket":   {"server/realtime/wire/conn.go", "cmd/lockstep/internal/live/conn.go"},
	"github.com/golang-jwt/jwt/v5":   {"server/auth"},
	"github.com/cenkalti/backoff/v5": {"server/retry"},
	"golang.org/x/sync":              {"fsm/restore.go", "server/realtime/query.go", "cmd/lockstep/internal/migrate/copy.go"},
	"golang.org/x/sys":               {"cluster/durable/room.go"},

	"github.com/prometheus/client_golang": {
		"server", "server/admin", "server/backup", "server/guard", "server/histogram", "server/hub", "server/livequery", "server/panics", "server/realtime", "server/webhook",
	},
	"go.opentelemetry.io/otel":              {"server/trace"},
	"github.com/caddyserver/certmagic":      {"server/acme"},
	"go.uber.org/zap":                       {"server/acme/log.go", "server/acme/acme.go"},
	"github.com/KimMachineGun/automemlimit": {"server/memory"},
	"github.com/spf13/cobra":                {"cmd/lockstep"},
	"github.com/spf13/pflag":                {"cmd/lockstep", "cmd/lockstep/internal/settings", "server/bounds"},
	"go.yaml.in/yaml/v3":                    {"cmd/lockstep/internal/settings"},
	"github.com/mattn/go-isatty":            {"cmd/lockstep"},
	"github.com/jedib0t/go-pretty/v6":       {"cmd/lockstep"},
	"github.com/schollz/progressbar/v3":     {"cmd/lockstep/benchbars.go", "cmd/lockstep/progress.go"},
	"golang.org/x/net":                      {"cmd/lockstep/mirrorhooks.go"},
	"golang.org/x/term":                     {"cmd/lockstep"},

	"github.com/stretchr/testify": {"cluster/internal/rafttest"},
}

func TestThirdPartyModulesAreUsedInTheirPlaceOnly(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range append(slices.Clone(p.GoFiles), p.IgnoredGoFiles...) {
			imports := importsOf(t, filepath.Join(p.Dir, name))
			require.Empty(t, outOfPlace(p.ImportPath, name, imports))
			for _, imported := range imports {
				used[moduleOf(imported)] = true
			}
		}
	}
	for module := range mayUse {
		require.True(t, used[module], "%s has a row, and nobody imports it", module)
	}
}

func TestMisplacedThirdPartyModuleIsFound(t *testing.T) {
	for _, x := range []struct{ pkg, file, imported string }{
		{"lockstep/server/rest", "rest.go", "github.com/hashicorp/raft"},
		{"lockstep/objects", "objects.go", "github.com/fxamacker/cbor/v2"},
		{"lockstep/cluster", "node.go", "github.com/hashicorp/memberlist"},
		{"lockstep/cluster", "node.go", "go.etcd.io/bbolt"},
		{"lockstep/cluster/internal/wire", "wire.go", "github.com/hashicorp/raft"},
		{"lockstep/fsm", "view.go", "golang.org/x/sync/errgroup"},
		{"lockstep/server/rest", "rest.go", "github.com/gorilla/websocket"},
		{"lockstep/server", "server.go", "github.com/spf13/cobra"},
		{"lockstep/server/api", "api.go", "github.com/prometheus/client_golang/prometheus"},
		{"lockstep/server/api", "api.go", "github.com/stretchr/testify/require"},
		{"lockstep/server/api", "api.go", "example.com/unknown"},
	} {
		require.NotEmpty(t, outOfPlace(x.pkg, x.file, []string{x.imported}), "%v", x)
	}
	require.Empty(t, outOfPlace("lockstep/cluster", "gossip.go", []string{"github.com/hashicorp/memberlist", "lockstep/fsm", "net/http"}))
}

// outOfPlace returns what a file imports of other modules and may not.
func outOfPlace(pkg, name string, imports []string) (wrong []string) {
	pkg = strings.TrimPrefix(pkg, "lockstep/")
	if strings.HasPrefix(pkg, "test/") {
		return nil
	}
	for _, imported := range imports {
		module := moduleOf(imported)
		if module == "" || slices.Contains(mayUse[module], pkg) || slices.Contains(mayUse[module], pkg+"/"+name) {
			continue
		}
		wrong = append(wrong, pkg+"/"+name+" must not import "+imported+": this is not where it is used")
	}
	return wrong
}

// moduleOf returns the module of others that an import is of; the import itself
// when the table has none, and "" for the standard library and this module.
func moduleOf(imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return ""
	}
	for module := range mayUse {
		if imported == module || strings.HasPrefix(imported, module+"/") {
			return module
		}
	}
	return imported
}

func importsOf(t *testing.T, path string) (imports []string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	require.NoError(t, err)
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		imports = append(imports, imported)
	}
	return imports
}
