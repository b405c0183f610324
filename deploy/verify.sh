#!/bin/bash
# Builds a release twice, from two copies of the repository in different folders and without
# anything that was built before, and compares the results byte by byte:
#
#   verify.sh VERSION [FOLDER]
#
# FOLDER is a release that was downloaded: its files are compared with its SHA256SUMS, and these
# with what was built. A version without a tag is that of the last commit. SHARE_CACHE=1
# lets both builds use the cache of Go, which is faster and shows less; TARGETS is as in
# release.sh. RESULT names a folder that gets what was built.
set -euo pipefail

fail() {
	echo "verify.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] || fail "usage: verify.sh VERSION [FOLDER]"
version=$1
published=
if [ $# -ge 2 ]; then
	published=$(cd "$2" && pwd)
	(cd "$published" && sha256sum --check --strict --ignore-missing SHA256SUMS) || fail "$published is not what its SHA256SUMS say"
fi
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT # Go's caches are read-only

# once builds the release in a copy of the repository, with its results beside it.
once() {
	local copy=$work/$1
	git clone -q --no-hardlinks . "$copy"
	git -C "$copy" rev-parse -q --verify "v$version" >/dev/null || git -C "$copy" -c tag.gpgSign=false tag "v$version"
	git -C "$copy" -c advice.detachedHead=false checkout -q "v$version"
	if [ "${SHARE_CACHE:-}" != 1 ]; then export GOCACHE=$work/cache$2; fi
	"$copy/deploy/release.sh" "$version" "$work/result$2"
}

(once short 1)
(once "a/folder with a longer name" 2)
diff -r "$work/result1" "$work/result2" || fail "two builds of the same commit differ"
if [ -n "$published" ]; then
	# What was built by other versions of tar, gzip and zip may differ although the programs do not.
	(cd "$work/result1" && sha256sum --check --strict --ignore-missing "$published/SHA256SUMS") ||
		fail "what was published is not what this commit gives; BUILD says by what it was built:
$(diff "$published/BUILD" "$work/result1/BUILD" || true)"
fi
if [ -n "${RESULT:-}" ]; then cp "$work/result1"/* "$RESULT"; fi
echo "built twice alike: $(cd "$work/result1" && echo *)"
