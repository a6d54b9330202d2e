#!/usr/bin/env bash
# Acknowledged ticks per second of one node, alone and beside a plugin that never returns: it is cut
# after 50 ms and opened again, once a second and then at once. In turns, medians; see README.md.
#   benches/misbehaving.sh ZEPTO_HOST TICKS_FILE [TURNS]
set -euo pipefail

host=$(realpath "$1") ticks=$(realpath "$2") turns=${3:-11}
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
# shellcheck source=benches/node.sh
. "$here/node.sh"
trap 'stop_node; rm -rf "$work"' EXIT

clang -std=c11 -O2 --target=wasm32 -nostdlib -ffreestanding -mbulk-memory -Wl,--no-entry \
    -I"$here/../include" -o "$work/endless.wasm" "$here/endless.c"

# One node, three files sent to it; ticks per second of each go to a list.
turn() {
    local list=$1
    shift
    start_node "$host" "$work/node" "$@"
    for _ in 1 2 3; do
        "$host" feed "$ticks" --to "$at" --json | jq .ticks_per_s >>"$work/$list"
    done
    if [ $# -gt 0 ]; then
        "$host" status --at "$at" --json | jq '.plugins[0].faults' >>"$work/$list.faults"
    fi
    stop_node
    rm -rf "$work/node"
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
