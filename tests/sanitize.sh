#!/usr/bin/env bash
# The crates with `unsafe`, under AddressSanitizer and ThreadSanitizer: `tests/sanitize.sh`.
# A command of its own beside tests/run.sh: it compiles everything twice more.
#
# Sanitizers are options of nightly compilers, which RUSTC_BOOTSTRAP=1 allows on any. For threads
# the standard library must be instrumented too, so that run needs its source: of a rustup
# toolchain (`rustup component add rust-src`), or Debian's rustc-web and rust-web-src, which are
# installed as root where apt has them.
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
    RUSTFLAGS="-Zsanitizer=$name" RUSTDOCFLAGS="-Zsanitizer=$name" \
        cargo test --target "$host" --target-dir "$base/$name" --locked --lib --tests "$@" || broken=1
}

sanitized address -p zepto-store -p zepto-transport -p zepto-fuzz

if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    sanitized thread -Zbuild-std -p zepto-store -p zepto-transport
else
    if [ ! -d /usr/share/cargo/registry ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get install -q -y --no-install-recommends rustc-web rust-web-src >/dev/null || true
    fi
    if /usr/bin/rustc --version >/dev/null 2>&1; then
        RUSTC=/usr/bin/rustc sanitized thread -Zbuild-std -p zepto-store -p zepto-transport
    else
        echo "missing: the standard library's source (rust-src); ThreadSanitizer did not run"
        broken=1
    fi
fi
[ "$broken" -eq 0 ] && echo "both sanitizers found nothing"
exit "$broken"
