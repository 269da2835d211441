#!/usr/bin/env bash
# Runs the browser tests against bin/lockstep, or against the program that LOCKSTEP_BINARY names.
# Installs what they need: the npm packages, and Chromium where it is missing and this is root on Debian.
set -euo pipefail
cd "$(dirname "$0")"

binary=${LOCKSTEP_BINARY:-../../bin/lockstep}
[ -x "$binary" ] || { echo "$binary is missing: run make build" >&2; exit 1; }

../../scripts/chromium.sh

for folder in . ../../docs/examples; do
  [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ] && continue
  (cd "$folder" && npm ci --silent --no-audit --no-fund)
done

# Every file starts a cluster and a browser of its own, so one at a time.
results=$(mktemp)
trap 'rm -f "$results"' EXIT
status=0
node --test --test-concurrency=1 \
  --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$results" test/*.test.mjs || status=$?

count() { sed -n "s/^# $1 //p" "$results" | tail -1; }
passed=$(count pass) failed=$(( $(count fail) + $(count cancelled) ))
echo "browser: $passed passed, $failed failed"
exit "$status"
