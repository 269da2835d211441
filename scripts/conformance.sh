#!/usr/bin/env bash
# Runs the black-box suites, which drive the official clients, against a fresh
# three-node cluster with default settings, and prints each suite's counts.
#
#   scripts/conformance.sh [FOLDER] [SUITE...]
#
# FOLDER holds sdk/, rest/node/ and rest/go/ (default: test/conformance), with
# the OpenAPI description in ../spec beside it. SUITE is one of sdk, rest-node,
# rest-go (default: all). Needs Go, Node 20 and the built bin/lockstep.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(cd "${1:-$root/test/conformance}" && pwd)
shift || true
suites=("${@:-sdk rest-node rest-go}")
read -r -a suites <<<"${suites[*]}"
binary=${LOCKSTEP_BINARY:-$root/bin/lockstep}

work=$(mktemp -d)
cluster=
cleanup() {
  if [ -n "$cluster" ]; then
    kill -TERM "$cluster" 2>/dev/null || true
    wait "$cluster" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

# The suites install what they need beside themselves, so they run from a copy.
mkdir "$work/conformance"
tar -C "$folder" --exclude=node_modules -cf - . | tar -C "$work/conformance" -xf -
cp -R "$folder/../spec" "$work/spec"
chmod -R u+w "$work"

free_ports() {
  node -e '
    const net = require("net");
    const free = (p) => new Promise((ok) => { const s = net.createServer().once("error", () => ok(false)).once("listening", () => s.close(() => ok(true))).listen(p, "127.0.0.1"); });
    (async () => { for (let p = 20000 + 4 * Math.floor(Math.random() * 5000); ; p += 4) if (await free(p) && await free(p + 1) && await free(p + 2)) { console.log(p); return; } })();'
}

start_cluster() {
  : >"$work/dev.out"
  "$binary" dev --data-dir "$work/dev" --http-port "$(free_ports)" >"$work/dev.out" 2>&1 &
  cluster=$!
  for _ in $(seq 300); do
    if grep -q ready "$work/dev.out"; then
      # shellcheck disable=SC1091
      . "$work/dev/dev.env"
      export SYNC_BASE_URLS=$LOCKSTEP_URLS SYNC_BASE_URL=${LOCKSTEP_URLS%%,*}
      export SYNC_ACCOUNT_SID=$LOCKSTEP_ACCOUNT_SID SYNC_AUTH_TOKEN=$LOCKSTEP_AUTH_TOKEN
      export SYNC_API_KEY=$LOCKSTEP_API_KEY SYNC_API_SECRET=$LOCKSTEP_API_SECRET
      return
    fi
    kill -0 "$cluster" 2>/dev/null || break
    sleep 0.2
  done
  cat "$work/dev.out" >&2
  echo "the cluster did not start" >&2
  exit 1
}

failures=0
report() { # name, passed, failed
  echo "conformance $1: $2 passed, $3 failed"
  [ "$3" = 0 ] && [ "$2" != 0 ] || failures=$((failures + 1))
}

run_node() { # name, folder, command...
  local name=$1 dir=$2 out
  shift 2
  out=$work/$name.out
  (cd "$dir" && npm ci --no-audit --no-fund >"$work/$name.npm" 2>&1) || { cat "$work/$name.npm" >&2; exit 1; }
  (cd "$dir" && "$@") >"$out" 2>&1 || true
  local passed failed
  passed=$(sed -n 's/^. pass \([0-9]*\)$/\1/p' "$out" | tail -n 1)
  failed=$(sed -n 's/^. fail \([0-9]*\)$/\1/p' "$out" | tail -n 1)
  if [ "${failed:-1}" != 0 ]; then
    sed -n '/failing tests/,$p' "$out"
    [ -n "$failed" ] || tail -n 40 "$out"
    tail -n 20 "$work"/dev/node*/log 2>/dev/null || true
  fi
  report "$name" "${passed:-0}" "${failed:-1}"
}

run_go() {
  local out=$work/rest-go.out
  (cd "$work/conformance/rest/go" && go test -count=1 -v ./...) >"$out" 2>&1 || true
  local passed failed
  passed=$(grep -c '^--- PASS' "$out" || true)
  failed=$(grep -c -e '^--- FAIL' -e '^FAIL.*\[' "$out" || true)
  [ "$failed" = 0 ] || cat "$out"
  report rest-go "$passed" "$failed"
}

start_cluster
for suite in "${suites[@]}"; do
  case $suite in
    sdk) run_node sdk "$work/conformance/sdk" npm test --silent ;;
    rest-node) run_node rest-node "$work/conformance/rest/node" npm test --silent ;;
    rest-go) run_go ;;
    *) echo "unknown suite $suite" >&2; exit 2 ;;
  esac
done
[ "$failures" = 0 ]
