#!/usr/bin/env bash
# soak.sh SEED SEEDS simulates that many clusters, from that seed on, and says how
# many a minute. One process a core, each with one thread that runs Go: a cluster's
# goroutines wait for each other most of the time, and one core does not have to wake
# the next for that (a fifth less CPU time). go test ./test/sim runs them on all cores.
set -euo pipefail
cd "$(dirname "$0")"
seed=$1 seeds=$2 part=100
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go test -c -o "$bin/sim.test" .

# one FIRST: the clusters of a part of the seeds; what it says only if one fails.
one() {
  local first=$1 count=$((seed + seeds - $1))
  count=$((count < part ? count : part))
  if ! GOMAXPROCS=1 GOGC=400 "$bin/sim.test" -test.run 'TestWholeClusters$' -test.v -test.failfast -test.timeout 0 -seed "$first" -seeds "$count" >"$bin/$first" 2>&1; then
    grep -vE '^ *(=== |--- PASS: .*/)' "$bin/$first"
    return 255 # xargs begins no more
  fi
}
export -f one
export seed seeds part bin

began=$(date +%s%N)
seq "$seed" "$part" $((seed + seeds - 1)) | xargs -P "$(nproc)" -I{} bash -c 'one {}'
took=$((($(date +%s%N) - began) / 1000000))
sed -nE 's/^ *whole_test.go:[0-9]+: //p' "$bin"/[0-9]* | awk -v ms="$took" '
  /clusters in/ { clusters += $1; virtual += $1 * $(NF - 2) }
  /calls to registers/ { calls += $1; writes += $5; events += $8; anew += $11; restored += $17 }
  /faults:/ { faults += $1 }
  END {
    printf "%d clusters in %.1f s: %.0f a minute, each %.1f virtual seconds\n", clusters, ms / 1000, clusters * 60000 / ms, virtual / clusters
    printf "%d calls to registers, %d writes acknowledged, %d events heard, %d subscribers had to open anew; %d clusters were restored from a backup; %d faults\n", calls, writes, events, anew, restored, faults
  }'
