#!/usr/bin/env bash
# Puts the browser build of the official client that the console uses into its files,
# as the npm package has it: scripts/console-sdk.sh. The version is that of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(node -p 'require("./test/browser/package.json").dependencies["twilio-sync"]')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "twilio-sync@$version" >/dev/null
tar -xzf "$work"/twilio-sync-*.tgz -C "$work"
to=server/console/assets/vendor
cp "$work/package/builds/twilio-sync.min.js" "$to/twilio-sync.min.js"
cp "$work/package/LICENSE" "$to/LICENSE.twilio-sync.txt"
cp "$work/package/NOTICE.txt" "$to/NOTICE.twilio-sync.txt"
echo "twilio-sync $version is in $to"
