#!/bin/bash
# Runs the tests of packages repeatedly with the race detector, to find flaky tests.
#
#	tools/repeat_tests.sh [PACKAGE...]          default: all packages, including those of bench/
#
# Environment:
#	REPEAT=50          number of runs for each setting
#	PROCS="1 2 4"      values of GOMAXPROCS
#	BUSY="no yes"      whether a busy loop runs beside the tests
#	JOBS=2             number of concurrent runs
#	RUN=REGEXP         only these tests
#	EXEC=COMMAND       command that starts each run, such as nice
#	RESULT=FOLDER      folder for the output of each failed run; its file "runs" has one line
#	                   per run
#
# The script prints a table at the end. The exit code is 1 if a run has failed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export EXEC=${EXEC:-} RUN=${RUN:-} RESULT=${RESULT:-$(mktemp -d)}
mkdir -p "$RESULT"

# one runs the tests of one package once. Arguments: name, folder, round, GOMAXPROCS, busy (yes or
# no).
one() {
	local name=$1 folder=$2 round=$3 procs=$4 busy=$5 output code=0 began=$SECONDS
	output=$RESULT/$name.$procs.$busy.$round
	cd "$folder"
	# shellcheck disable=SC2016,SC2086 # the inner shell expands; EXEC is several words
	$EXEC bash -c '
		if [ "$1" = yes ]; then (while kill -0 $$; do for ((i = 0; i < 100000; i++)); do :; done; done) & trap "kill $!" EXIT; fi
		GOMAXPROCS=$2 "$3" -test.run="$4" -test.count=1 -test.timeout=30m' \
		- "$busy" "$procs" "$RESULT/$name.test" "$RUN" >"$output" 2>&1 </dev/null || code=$?
	if [ $code = 0 ]; then rm "$output"; else echo "FAIL $output"; fi
	echo "$name $procs $busy $code $((SECONDS - began))" >>"$RESULT/runs"
}
if [ "${1:-}" = -one ]; then
	shift
	one "$@"
	exit
fi

# tested prints the folders of the packages of a module that have tests.
tested() {
	go -C "$1" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' "${@:2}"
}

if [ $# = 0 ]; then
	mapfile -t folders < <(tested . ./... && tested bench ./...)
else
	mapfile -t folders < <(for p; do (cd "$p" && pwd); done)
fi
names=()
for folder in "${folders[@]}"; do
	name=${folder#"$root"/}
	names+=("${name//\//-}")
	go -C "$folder" test -race -c -o "$RESULT/${names[-1]}.test" .
done
for round in $(seq "${REPEAT:-50}"); do
	for i in "${!folders[@]}"; do
		for procs in ${PROCS:-1 2 4}; do
			for busy in ${BUSY:-no yes}; do
				echo "${names[$i]} ${folders[$i]} $round $procs $busy"
			done
		done
	done
done | xargs -P "${JOBS:-2}" -L 1 "$root/tools/repeat_tests.sh" -one
sort "$RESULT/runs" | awk '
	{ key = sprintf("%-24s GOMAXPROCS=%s busy=%-3s", $1, $2, $3); n[key]++; failed[key] += $4 != 0; bad += $4 != 0; s[key] += $5 }
	END {
		for (key in n) printf "%s %4d runs, %d failed, %.0f s each\n", key, n[key], failed[key], s[key] / n[key] | "sort"
		close("sort")
		exit bad > 0
	}'
