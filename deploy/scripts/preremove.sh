#!/bin/sh
# Runs before the files are removed. The argument is "remove" for a deb, and 0 for an rpm. Any
# other argument means an upgrade, during which the hub keeps running; postinstall.sh restarts it.
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
