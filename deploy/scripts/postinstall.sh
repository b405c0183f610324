#!/bin/sh
# Runs after the files are installed. The arguments are "configure OLD-VERSION" for a deb, and the
# number of installed versions for an rpm.
set -e

# By default the hub accepts any client that can reach it. The installation therefore does not
# start the hub, but it restarts a running hub with the new program.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	case $1:$2 in
	configure:) ;; # first installation
	configure:* | [2-9]*) systemctl try-restart go-message-hub.service || true ;;
	esac
fi
case $1:$2 in
configure: | 1:*) echo "go-message-hub: the config file is /etc/go-message-hub/hub.conf; systemctl enable --now go-message-hub starts the hub" ;;
esac
