#!/bin/sh
# Runs after the files are there: as "configure OLD-VERSION" of a deb, and with the number of
# installed versions of an rpm.
set -e

# The hub serves whoever reaches it, so that nobody gets one by installing a package: it is
# started when it is asked for. What runs goes on with the new program.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	case $1:$2 in
	configure:) ;; # for the first time
	configure:* | [2-9]*) systemctl try-restart go-message-hub.service || true ;;
	esac
fi
case $1:$2 in
configure: | 1:*) echo "go-message-hub: settings are in /etc/go-message-hub/hub.conf; systemctl enable --now go-message-hub starts the hub" ;;
esac
