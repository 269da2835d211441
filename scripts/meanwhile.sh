#!/usr/bin/env bash
# Runs a command, and another one meanwhile with the time that it leaves:
# scripts/meanwhile.sh OTHER COMMAND [ARGUMENT...]. What the other one says is shown when it
# has ended. The first of them that fails stops both, and so does a signal.
set -euo pipefail
set -m # each is a group of processes, which can be stopped as a whole

other=$1
shift
log=$(mktemp)
leave() {
  trap '' INT TERM
  for group in $(jobs -pr); do kill -TERM -- "-$group" 2>/dev/null || true; done
  wait
  rm -f "$log"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "== meanwhile, and shown when it has ended: $other"
nice -n 19 bash -c "$other" >"$log" 2>&1 </dev/null &
behind=$!
"$@" </dev/null &

for _ in 1 2; do
  status=0
  wait -n -p ended || status=$?
  if [ "$ended" = "$behind" ]; then
    what=$other
    echo "== $other, which took $SECONDS s:"
    cat "$log"
  else
    what=$*
  fi
  if [ "$status" != 0 ]; then
    echo "== FAILED: $what"
    exit "$status"
  fi
done
