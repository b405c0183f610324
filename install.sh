#!/bin/sh
# Builds start_server, start_simulation and hubctl in the root folder of the project.
set -eu
cd "$(dirname "$0")"

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

needed=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
command -v go >/dev/null 2>&1 ||
	fail "Go is missing: install Go $needed or newer (https://go.dev/dl), and make sure that 'go' is in your PATH"

# Go can download a newer toolchain by itself. Check the version that it uses in this folder.
found=$(go env GOVERSION 2>&1) ||
	fail "Go $needed or newer is needed (https://go.dev/dl); 'go' says: $found"
found=${found#devel } # prefix of a Go built from source
older=$(printf '%s\n%s\n' "$needed" "${found#go}" | sort -t . -k 1,1n -k 2,2n | head -n 1)
case ${found#go} in
"$needed" | "$needed".* | "$needed"[!0-9]*) ;;
*) [ "$older" = "$needed" ] || fail "Go $needed or newer is needed (https://go.dev/dl), this is $found" ;;
esac

# The binaries contain the commit that they were built from, if git knows it.
stamp=true
git rev-parse HEAD >/dev/null 2>&1 || stamp=false

for program in start_server start_simulation hubctl; do
	echo "building $program"
	go build -buildvcs="$stamp" -o "$program" "./cmd/$program" || fail "$program could not be built"
done
echo "done. Try:  ./start_simulation -embed    or    ./start_server -h"
