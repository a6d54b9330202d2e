#!/usr/bin/env bash
# The crates with `unsafe` and the fuzz targets under AddressSanitizer, the crates with threads
# under ThreadSanitizer: `tests/sanitize.sh`. A command of its own beside tests/run.sh: it compiles
# everything again.
#
# Sanitizers are options of nightly compilers, which RUSTC_BOOTSTRAP=1 allows on any. For threads
# the standard library must be instrumented too (its locks and counts look like races otherwise),
# so that part needs its source: the component rust-src of a rustup toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
host=$(rustc -vV | sed -n 's/^host: //p')
base=${CARGO_TARGET_DIR:-target}
broken=0

# Runs tests with a sanitizer: sanitized NAME ARGUMENTS...
sanitized() {
    local name=$1
    shift
    echo "== $name: cargo test $*"
    RUSTFLAGS="-Zsanitizer=$name" cargo test --target "$host" --target-dir "$base/$name" \
        --locked --lib --tests "$@" || broken=1
}

sanitized address -p zepto-store -p zepto-transport -p zepto-fuzz

if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    sanitized thread -Zbuild-std -p zepto-store -p zepto-transport
else
    echo "missing: the standard library's source (rust-src); ThreadSanitizer did not run"
    broken=1
fi
[ "$broken" -ne 0 ] || echo "both sanitizers found nothing"
exit "$broken"
