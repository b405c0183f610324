#!/bin/sh
# Runs all tests of this project and stops at the first failure: all tests with the race
# detector, the tests of allocations and memory without it, each fuzz target for FUZZ_TIME (5 s),
# and each benchmark once.
set -eu
cd "$(dirname "$0")"

fuzz_time=${FUZZ_TIME:-5s}

command -v go >/dev/null 2>&1 || {
	echo "do_test.sh: Go is missing (https://go.dev/dl)" >&2
	exit 1
}
if [ "$(go env CGO_ENABLED)" != 1 ]; then
	echo "do_test.sh: the race detector needs cgo: install a C compiler (gcc or clang), and do not set CGO_ENABLED=0" >&2
	exit 1
fi

echo "== tests, with the race detector"
go test -race -timeout 20m ./... # package hub waits for real time in many tests

echo "== tests of allocations and memory, without the race detector, which allocates"
go test -run 'AllocatesNothing|ZeroAllocs|Idle_Memory' ./...

echo "== fuzz targets, $fuzz_time each"
# go test -list prints the targets of a package, followed by a line with the package name.
listing=$(go test -list '^Fuzz' ./...)
targets=$(printf '%s\n' "$listing" | awk '
	/^Fuzz/ { names[++n] = $1 }
	/^ok/   { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }')
[ -n "$targets" ] || {
	echo "do_test.sh: no fuzz targets found" >&2
	exit 1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%s\n' "$targets" | while read -r package target; do
	echo "-- $target"
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzz_time" -fuzzminimizetime 1s "$package" >"$log" 2>&1 </dev/null; then
		tail -n 3 "$log"
	elif grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log"; then
		# Up to Go 1.26 the end of the fuzz time is sometimes reported as a failure
		# (go.dev/issue/75804). A real failure is reported with its input.
		echo "time is up, no failure found"
	else
		cat "$log"
		exit 1
	fi
done

echo "== benchmarks, once each"
go test -run '^$' -bench . -benchtime 1x ./...

if [ -d bench ]; then
	echo "== tests of bench/"
	(cd bench && go test ./...)
fi
echo "== all passed"
