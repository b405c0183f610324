#!/bin/sh
# Tests the console: compares the committed files with a new build, and runs the tests of its parts
# and those in Chromium, with a real hub. It needs Go, Node 20 or later and Chromium (CHROMIUM,
# /usr/bin/chromium). With "fast" it uses the packages that are installed.
set -eu
cd "$(dirname "$0")"

[ "${1:-}" = fast ] || npm ci --no-audit --no-fund
./build.sh --check
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd ../.. && go build -o "$work/start_server" ./cmd/start_server)
START_SERVER="$work/start_server" node --test --test-concurrency=2 test/*.test.js
