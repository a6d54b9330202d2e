#!/usr/bin/env bash
# What a tick costs through libzepto from C++, and the same in Rust, in turns against one node; then
# into a node of the program's own. Medians; see README.md.   benches/capi.sh [TURNS]
set -euo pipefail
cd "$(dirname "$0")/.."

turns=${1:-9} rounds=100
cargo build --release --locked -p zepto-host -p zepto-capi
cargo build --release --locked -p zepto-client --example ingest
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
# shellcheck source=benches/node.sh
. benches/node.sh
trap 'stop_node; rm -rf "$work"' EXIT
host/capi/install.sh --prefix "$work/prefix" --from "$target" >/dev/null
c++ -std=c++17 -O2 -I"$work/prefix/include" benches/capi/ingest.cpp -o "$work/ingest" \
    -L"$work/prefix/lib" -lzepto -Wl,-rpath,"$work/prefix/lib"

start_node "$target/zepto-host" "$work/node" --memory 4GiB
for turn in $(seq "$turns"); do
    "$target/examples/ingest" "$at" "$rounds" >>"$work/all"
    "$work/ingest" "$at" "$rounds" >>"$work/all"
    "$work/ingest" own "$work/own-$turn" "$rounds" >>"$work/all"
    rm -rf "$work/own-$turn"
done

middle() { awk -v what="$1" -v place="$2" '$1 == what { print $place }' "$work/all" | sort -n |
    awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
for what in rust cpp own; do
    echo "$what: ingest $(middle $what 2) ns, of a batch of 256 $(middle $what 3) ns," \
        "flush of one $(middle $what 4) ns"
done
echo "vwap over 1,000,000 ticks: $(middle vwap 2) ns"
