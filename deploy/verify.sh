#!/bin/bash
# Builds a release twice, from two clones of the repository in different folders and with empty
# build caches, and compares the results byte by byte:
#
#   verify.sh VERSION [FOLDER]
#
# FOLDER contains a downloaded release: its files are compared with its SHA256SUMS, and the
# SHA256SUMS with the result of the build. If VERSION has no tag, the last commit is built.
# SHARE_CACHE=1 lets both builds use the build cache of the user, which is faster but verifies
# less. TARGETS is the same as in release.sh. RESULT is a folder to which the result is copied.
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
	(cd "$published" && sha256sum --check --strict --ignore-missing SHA256SUMS) || fail "the files in $published do not match its SHA256SUMS"
fi
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT # Go's caches are read-only

# once builds the release in a clone of the repository.
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
	# With other versions of tar, gzip and zip the archives can differ although the programs do not.
	(cd "$work/result1" && sha256sum --check --strict --ignore-missing "$published/SHA256SUMS") ||
		fail "the published files differ from the build of this commit; differences of the build tools (BUILD):
$(diff "$published/BUILD" "$work/result1/BUILD" || true)"
fi
if [ -n "${RESULT:-}" ]; then cp "$work/result1"/* "$RESULT"; fi
echo "two identical builds: $(cd "$work/result1" && echo *)"
