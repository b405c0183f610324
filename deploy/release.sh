#!/bin/bash
# Builds the files of a release:
#
#   release.sh VERSION [FOLDER]
#
# With the same versions of Go, tar, gzip and zip, a commit always gives the same bytes; verify.sh
# checks this. The script writes to FOLDER (default: dist):
#
#   for each target an archive with the programs, the manual pages and the licences,
#   for each Linux target a deb and an rpm,
#   BUILD, with the versions of the build tools,
#   SHA256SUMS, with the checksums of all these files.
#
# TARGETS replaces the default targets. GOTOOLCHAIN selects another Go.
set -euo pipefail

fail() {
	echo "release.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] || fail "usage: release.sh VERSION [FOLDER]"
version=$1
mkdir -p "${2:-dist}"
out=$(cd "${2:-dist}" && pwd)
cd "$(dirname "$0")/.."
targets=${TARGETS:-linux/amd64 linux/arm64 darwin/arm64 windows/amd64}

[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || fail "$version is not a version such as 1.2.3 or 1.2.3-rc.1"
# Go records the tag and the commit in the programs, which print them with -version.
[ "$(git rev-parse -q --verify "v$version^{commit}" || true)" = "$(git rev-parse HEAD)" ] || fail "v$version is not the tag of this commit"
[ -z "$(git status --porcelain --untracked-files=normal)" ] || fail "there are uncommitted changes"
[ -z "$(ls -A "$out")" ] || fail "$out is not empty"
for tool in tar gzip sha256sum; do command -v "$tool" >/dev/null || fail "$tool is missing"; done
case $targets in *windows*) command -v zip >/dev/null || fail "zip is missing" ;; esac

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH VERSION=$version CGO_ENABLED=0 TZ=UTC LC_ALL=C
# Settings of Go on this machine must not influence the result.
export GOFLAGS=-trimpath GOAMD64=v1 GOARM64=v8.0
umask 022
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# licences prints the licence of the project, and the licences and notices of all modules and
# JavaScript libraries that the programs contain.
licences() {
	cat LICENSE
	local name folder file found
	echo Go "$(go env GOROOT)" >"$stage/modules"
	go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/... | sort -u >>"$stage/modules"
	while read -r name folder; do
		found=
		for file in "$folder"/*LICEN[CS]E* "$folder"/COPYING*; do
			[ -f "$file" ] || continue
			found=yes
			printf '\n\n%s\n\n' "==== $name ===="
			tr -d '\r' <"$file"
		done
		[ -n "$found" ] || fail "$name has no licence"
		for file in "$folder"/NOTICE*; do
			[ -f "$file" ] || continue
			printf '\n\n%s\n\n' "==== notice of $name ===="
			tr -d '\r' <"$file"
		done
	done <"$stage/modules"
	printf '\n\n%s\n\n' "==== libraries of the console ===="
	cat internal/admin/console/licenses.txt
}

# build builds the programs of one target into a folder.
build() {
	GOOS=${1%/*} GOARCH=${1#*/} go build -buildvcs=true -ldflags='-s -w' -o "$2/" ./cmd/...
	local program
	for program in "$2"/*; do
		go version -m "$program" | grep -q "vcs.revision=$(git rev-parse HEAD)" ||
			fail "Go has not recorded the commit in $program: build in a clone, not in a worktree"
	done
}

# settle sets the modification time of all files in a folder to the time of the commit.
settle() {
	find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# pack makes an archive of a folder in $stage.
pack() {
	settle "$stage/$1"
	case $1 in
	*windows*) (cd "$stage" && find "$1" -type f | sort | zip -q -X -9 "$out/$1.zip" -@) ;;
	*) tar -C "$stage" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$1" |
		gzip -n -9 >"$out/$1.tar.gz" ;;
	esac
}

doc=$stage/doc
mkdir "$doc"
go run -buildvcs=false ./internal/documents "$doc" "go-message-hub $version"
licences >"$doc/LICENSES"

for target in $targets; do
	echo "building $version for $target"
	name=go-message-hub_${version}_${target/\//_}
	mkdir "$stage/$name"
	build "$target" "$stage/$name"
	cp "$doc"/{LICENSES,hub.conf,hubctl.bash,hubctl.zsh,*.[18]} README.md CHANGELOG.md "$stage/$name"
	pack "$name"
done

gzip -n -9 "$doc"/*.[18]
gzip -n -9 <CHANGELOG.md >"$doc/changelog.gz"
nfpm=$(go -C deploy tool -n nfpm)
for target in $targets; do
	case $target in linux/*) ;; *) continue ;; esac
	package=$stage/package_${target/\//_}
	mkdir -p "$package/bin" "$package/unit"
	cp "$stage/go-message-hub_${version}_${target/\//_}"/{start_server,start_simulation,hubctl} "$package/bin"
	cp -r "$doc" "$package/doc"
	cp -r deploy/scripts "$package/scripts"
	cp deploy/systemd/go-message-hub.service "$package/unit"
	settle "$package"
	for form in deb rpm; do
		(cd "$package" && ARCH=${target#*/} "$nfpm" package -f "$OLDPWD/deploy/nfpm.yaml" -p "$form" -t "$out/") >/dev/null
	done
done

cat >"$out/BUILD" <<END
version $version
commit $(git rev-parse HEAD)
SOURCE_DATE_EPOCH $SOURCE_DATE_EPOCH
$(go version | cut -d ' ' -f 3)
$(go -C deploy list -m -f '{{.Path}} {{.Version}}' github.com/goreleaser/nfpm/v2)
$(tar --version | head -n 1)
$(gzip --version | head -n 1)
END
(cd "$out" && sha256sum -- * >"$stage/sums" && mv "$stage/sums" SHA256SUMS)
echo "$version is in $out"
