#!/bin/sh
# Runs before the files go: with "remove" for a deb, and 0 for an rpm. Anything else is an
# upgrade, for which the hub runs on until the new program is there.
set -e
case $1 in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl stop go-message-hub.service || true
fi
if command -v systemctl >/dev/null 2>&1; then
	systemctl --no-reload disable go-message-hub.service >/dev/null 2>&1 || true
fi
