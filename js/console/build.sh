#!/bin/sh
# Builds the console into internal/admin/console. With --check it builds into a folder of its own
# and fails unless the committed files are the same. It needs Node and the packages of npm ci.
set -eu
cd "$(dirname "$0")"

if [ "${1:-}" != --check ]; then
	exec node build.js
fi
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
node build.js "$built"
diff -r "$built" ../../internal/admin/console || {
	echo "internal/admin/console is not what js/console builds: run js/console/build.sh" >&2
	exit 1
}
