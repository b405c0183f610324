#!/bin/sh
# Builds the package and runs all its tests, against a hub that it builds and in Chromium. Needs
# Go, Node 20 or later, and Debian's chromium (CHROMIUM names another one).
set -eu
cd "$(dirname "$0")"

for program in go node npm; do
	command -v $program >/dev/null || {
		echo "js/test.sh: $program is missing" >&2
		exit 1
	}
done

npm ci --no-audit --no-fund --silent
npm run --silent build
npx tsc -p test
node test/build.mjs
hub=$(mktemp -d)
trap 'rm -rf "$hub"' EXIT
[ -n "${START_SERVER:-}" ] || {
	go build -C .. -o "$hub/start_server" ./cmd/start_server
	export START_SERVER="$hub/start_server"
}
node --test build/test/*.test.js
npx publint --strict
npx attw --pack .
