#!/usr/bin/env bash
# Acknowledged ticks per second of one node, alone and beside a plugin that never returns: it is cut
# after 50 ms and opened again, once a second and then at once. In turns, medians; see README.md.
#   benches/misbehaving.sh ZEPTO_HOST TICKS_FILE [TURNS]
set -euo pipefail

host=$(realpath "$1") ticks=$(realpath "$2") turns=${3:-11}
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
node=
stop() {
    [ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null || true
    node=
}
trap 'stop; rm -rf "$work"' EXIT

clang -std=c11 -O2 --target=wasm32 -nostdlib -ffreestanding -mbulk-memory -Wl,--no-entry \
    -I"$here/../include" -o "$work/endless.wasm" "$here/endless.c"

# One node, three files sent to it; ticks per second of each go to a list.
turn() {
    local list=$1
    shift
    "$host" --node-id a --listen 127.0.0.1:0 --copies 1 --data-dir "$work/data" --announce "$@" \
        >"$work/announced" 2>"$work/log" &
    node=$!
    until [ -s "$work/announced" ]; do
        kill -0 "$node" || { cat "$work/log" >&2; exit 1; }
        sleep 0.05
    done
    local at
    at=$(jq -r .address "$work/announced")
    for _ in 1 2 3; do
        "$host" feed "$ticks" --to "$at" --json | jq .ticks_per_s >>"$work/$list"
    done
    if [ $# -gt 0 ]; then
        "$host" status --at "$at" --json | jq '.plugins[0].faults' >>"$work/$list.faults"
    fi
    stop
    rm -rf "$work/data" "$work/announced"
}

beside() {
    turn "$1" --plugin "$work/endless.wasm" --on-failure "endless=max=100000/10m;backoff=$2..$2"
}

for _ in $(seq "$turns"); do
    turn alone
    beside once-a-second 1s
    beside at-once 1ms
done
for list in alone once-a-second at-once; do
    sort -n "$work/$list" | awk -v what="$list" '
        { all[NR] = $1 }
        END { printf "%-14s %.2f M ticks/s (%.2f to %.2f), %d runs\n",
              what, all[int((NR + 1) / 2)] / 1e6, all[1] / 1e6, all[NR] / 1e6, NR }'
done
cat "$work"/*.faults | awk '{ all += $1 } END { print all " times cut" }'
