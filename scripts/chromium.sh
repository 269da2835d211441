#!/usr/bin/env bash
# Installs Chromium for the tests where it is missing and this is root on Debian.
set -euo pipefail

[ -x "${CHROMIUM:-/usr/bin/chromium}" ] && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install Chromium, or set CHROMIUM to the path of its program" >&2
  exit 1
fi
echo "installing chromium"
apt-get update -qq -o Acquire::Retries=3
DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends chromium >/dev/null
