#!/bin/sh
# Runs when the files are gone.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
