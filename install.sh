#!/bin/sh
# Builds start_server, start_simulation and hubctl into the folder of this project.
set -eu
cd "$(dirname "$0")"

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

needed=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
command -v go >/dev/null 2>&1 ||
	fail "Go is missing: install Go $needed or newer (https://go.dev/dl), and see that 'go' is on your PATH"

# Go fetches a newer Go by itself when it is allowed to; what counts is what it
# has in this folder.
found=$(go env GOVERSION 2>&1) ||
	fail "Go $needed or newer is needed (https://go.dev/dl); 'go' says: $found"
found=${found#devel } # what a Go built from its sources calls itself
older=$(printf '%s\n%s\n' "$needed" "${found#go}" | sort -t . -k 1,1n -k 2,2n | head -n 1)
case ${found#go} in
"$needed" | "$needed".* | "$needed"[!0-9]*) ;;
*) [ "$older" = "$needed" ] || fail "Go $needed or newer is needed (https://go.dev/dl), this is $found" ;;
esac

# The binaries carry the commit they were built from, where git can tell.
stamp=true
git rev-parse HEAD >/dev/null 2>&1 || stamp=false

for program in start_server start_simulation hubctl; do
	echo "building $program"
	go build -buildvcs="$stamp" -o "$program" "./cmd/$program" || fail "$program could not be built"
done
echo "done. Try:  ./start_simulation -embed    or    ./start_server -h"
