#!/usr/bin/env bash
# The tests of real nodes once more with UCX between them, for each kind of lanes; takes a quarter of an
# hour, and is no part of run.sh.   tests/ucx.sh [FILTER...]   (a filter as of cargo test: failover::)
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never ZEPTO_TRANSPORT=ucx
cargo build --profile ci --workspace --locked
failed=()
for lanes in shm tcp tcp,shm; do
    echo "== over $lanes"
    # Machines share no memory.
    machines=$([ "$lanes" = shm ] || echo "--test namespaces")
    # shellcheck disable=SC2086  # two words or none are meant
    UCX_TLS=$lanes cargo test --profile ci --workspace --locked --test process $machines -- "$@" ||
        failed+=("$lanes")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed over: ${failed[*]}"; exit 1; }
