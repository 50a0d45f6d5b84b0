#!/bin/sh
# One host's journal into the lake, as `kvmwhy scan` reads it: one JSON object a line, with host, writer and time.
# Run it daily from a timer; the cursor makes each run go on where the last one was.
#
#   journald.sh /srv/lake
set -eu
lake=$1
day=$(date -u +%F)
mkdir -p "$lake/$day"
out="$lake/$day/$(hostname).jsonl.zst"
journalctl --output=json --output-fields=MESSAGE,_HOSTNAME,SYSLOG_IDENTIFIER,_PID,__REALTIME_TIMESTAMP \
    --cursor-file="$lake/.$(hostname).cursor" --no-pager |
    zstd -q -f -o "$out.$$"
mv "$out.$$" "$out"
