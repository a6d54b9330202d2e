#!/usr/bin/env bash
# Lanes between two processes over UCX, beside our shared memory and beside ucx_perftest, in turns;
# medians. Needs ucx_perftest (Debian: ucx-utils); see README.md.   benches/ucx.sh [TURNS]
set -euo pipefail
cd "$(dirname "$0")/.."

turns=${1:-5}
cargo build --release --locked -p zepto-transport --example lanes
lanes=${CARGO_TARGET_DIR:-target}/release/examples/lanes
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
export UCX_LOG_FILE=stderr UCX_WARN_UNUSED_ENV_VARS=n

# One figure of ucx_perftest: perftest TLS TEST BYTES ITERATIONS COLUMN
perftest() {
    local port=$((20000 + RANDOM % 20000))
    UCX_TLS=$1 ucx_perftest -p "$port" >"$work/server" 2>&1 &
    server=$!
    sleep 0.3
    UCX_TLS=$1 ucx_perftest 127.0.0.1 -p "$port" -t "$2" -s "$3" -n "$4" -f 2>/dev/null |
        awk -v column="$5" '$1 ~ /^[0-9]+$/ { found = $column } END { print found }'
    wait "$server" 2>/dev/null || true
    server=
}

for turn in $(seq "$turns"); do
    "$lanes" shm >>"$work/lanes"
    for tls in shm tcp tcp,shm; do
        UCX_TLS=$tls "$lanes" ucx >>"$work/lanes"
    done
    for tls in shm tcp; do
        iterations=$([ "$tls" = tcp ] && echo 20000 || echo 500000)
        echo "$tls" "$(perftest "$tls" ucp_put_lat 64 "$iterations" 2)" \
            "$(perftest "$tls" ucp_put_lat 4096 "$iterations" 2)" \
            "$(perftest "$tls" ucp_put_bw 64 "$iterations" 8)" \
            "$(perftest "$tls" ucp_put_bw 4096 "$iterations" 6)" >>"$work/peer"
    done
done

middle() { awk -v what="$2" -v place="$3" '$1 == what { print $place }' "$work/$1" | sort -n |
    awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
for what in shm ucx:shm ucx:tcp ucx:tcp,shm; do
    echo "$what: one way of a slot $(middle lanes $what 2) ns, of 64 slots (4 KiB)" \
        "$(middle lanes $what 3) ns; $(middle lanes $what 4) M slots/s until settled"
done
for tls in shm tcp; do
    echo "ucx_perftest $tls: put_lat 64 B $(middle peer $tls 2) us, 4 KiB $(middle peer $tls 3) us;" \
        "put_bw 64 B $(middle peer $tls 4) messages/s, 4 KiB $(middle peer $tls 5) MB/s"
done
