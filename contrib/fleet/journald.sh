#!/bin/sh
# What is new in a journal into a lake, as `kvmwhy scan` reads it: one JSON object a line, with host, writer and time.
# Run it daily from a timer, as root or in the group systemd-journal; it needs systemd 242 or later, and zstd.
#
#   journald.sh /srv/lake                                         this host's journal
#   journald.sh /srv/lake --since=-7d                             no further back than that, the first time
#   NAME=far journald.sh /srv/lake -D /var/log/journal/remote     what systemd-journal-remote has collected
#
# Each run writes LAKE/NAME/FROM.jsonl.zst (NAME: the host's) and goes on where the last one that succeeded ended. FROM is
# where it goes on, so a run that was killed, or found no room, is done again under the same name: nothing is lost, and
# nothing is there twice. Lines of other units are kept, as they name the kernel and the microcode; what is wanted less
# can be left out with more options, all of which go to journalctl.
set -eu
[ $# -gt 0 ] || { echo "usage: journald.sh LAKE [journalctl's options]" >&2; exit 2; }
lake=$1
shift
into=$lake/${NAME:-$(uname -n)}
cursor=$into/.cursor
work=$into/.work
mkdir -p "$into"
exec 9>"$into/.lock"
flock -n 9 || { echo "journald.sh: another one is writing to $into" >&2; exit 1; }
rm -rf "$work" # of a run that was killed
trap 'rm -rf "$work"' EXIT
mkdir "$work"
from=start
if [ -s "$cursor" ]; then
    cp "$cursor" "$work/cursor"
    at=$(sed -n 's/.*;t=\([0-9a-f]*\);.*/\1/p' "$cursor") # microseconds since 1970
    from=$(date -u -d "@$((0x$at / 1000000))" +%Y-%m-%dT%H%M%S).$at
fi
# --all: else journalctl gives null for a message above 4096 bytes, which a whole dump in one message often is.
# It gives a message that is no clean text as an array of bytes; awk makes a string of that again.
{
    journalctl "$@" --all --quiet --no-pager --output=json --cursor-file="$work/cursor" \
        --output-fields=MESSAGE,_HOSTNAME,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID 2>"$work/said" || echo $? >"$work/status"
} | {
    LC_ALL=C awk '
        BEGIN { for (n = 0; n < 256; n++) code[n] = sprintf("\\u%04x", n)
                for (n = 32; n < 127; n++) if (n != 34 && n != 92) code[n] = sprintf("%c", n) }
        match($0, /"MESSAGE" ?: ?\[[0-9, ]+\]/) {
            text = substr($0, RSTART, RLENGTH)
            size = split(substr(text, index(text, "[") + 1, length(text)), byte, ",")
            printf "%s\"MESSAGE\":\"", substr($0, 1, RSTART - 1)
            for (n = 1; n <= size; n++) printf "%s", code[byte[n] + 0]
            print "\"" substr($0, RSTART + RLENGTH)
            next
        }
        { print }' || : >"$work/failed"
} | zstd -q -o "$work/out"
cat "$work/said" >&2
# With a cursor to write and no entry at all, journalctl says nothing and ends with 1.
if [ -e "$work/status" ]; then
    [ "$(cat "$work/status")" = 1 ] && [ ! -s "$work/said" ] && [ -z "$(zstd -dcq "$work/out" | head -c 1)" ] ||
        : >"$work/failed"
fi
[ ! -e "$work/failed" ] || { echo "journald.sh: it failed, and is done again next time" >&2; exit 1; }
if [ -s "$work/cursor" ] && ! cmp -s "$work/cursor" "$cursor"; then
    sync "$work/out" "$work/cursor"
    mv "$work/out" "$into/$from.jsonl.zst"
    sync "$into"
    mv "$work/cursor" "$cursor"
fi
