#!/usr/bin/env bash
# Fails when the program can be built without go.mod's replace of go-metrics: then
# it is to be deleted, since `go install …@version` refuses a module that has one.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -q '^replace github.com/hashicorp/go-metrics ' go.mod || exit 0
without=$(mktemp -d)
trap 'rm -rf "$without"' EXIT
cp go.mod go.sum "$without"
go mod edit -dropreplace=github.com/hashicorp/go-metrics "$without/go.mod"
if out=$(go build -modfile="$without/go.mod" -mod=mod -o /dev/null ./cmd/lockstep 2>&1); then
  echo "go.mod: the replace of go-metrics is no longer needed; delete it, and scripts/replace.sh"
  exit 1
fi
grep -q 'go-metrics/compat' <<<"$out" || echo "NOT CHECKED whether the replace of go-metrics is needed: $(tail -1 <<<"$out")"
