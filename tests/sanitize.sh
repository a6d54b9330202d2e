#!/usr/bin/env bash
# The crates with `unsafe` and the fuzz targets under AddressSanitizer, the crates with threads
# under ThreadSanitizer: `tests/sanitize.sh`. A command of its own beside tests/run.sh: it compiles
# everything again.
#
# Sanitizers are options of nightly compilers, which RUSTC_BOOTSTRAP=1 allows on any. For threads
# the standard library must be instrumented too (its locks and counts look like races otherwise),
# so that part needs its source: the component rust-src of a rustup toolchain. UCX is never
# instrumented: its jumps over `mmap` would be the end under either, and to ThreadSanitizer its
# own thread would be a race, so tests whose files begin as its name does are not for that.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
export UCX_MEM_EVENTS=n UCX_HANDLE_ERRORS=none
# Some tests look whether the process grows: what was freed is kept, but not much of it.
export ASAN_OPTIONS=quarantine_size_mb=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
host=$(rustc -vV | sed -n 's/^host: //p')
base=${CARGO_TARGET_DIR:-target}
broken=0

# Runs tests with a sanitizer: sanitized NAME ARGUMENTS...
sanitized() {
    local name=$1
    shift
    echo "== $name: cargo test $*"
    RUSTFLAGS="-Zsanitizer=$name" cargo test --target "$host" --target-dir "$base/$name" \
        --locked --lib "$@" || broken=1
}

# Not those of a process that ends in the midst, and so leaves things behind, and of what `mmap`
# begins with, which is the sanitizer's here.
sanitized address --tests -p zepto-store -p zepto-transport -p zepto-fuzz -- \
    --skip a_process_may_end_while_its_threads_are_in_ucx \
    --skip a_program_hears_whether_its_mmap_was_written_over

if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    sanitized thread -Zbuild-std --test '[!u]*' -p zepto-store -p zepto-transport -- --skip ucx::
else
    echo "missing: the standard library's source (rust-src); ThreadSanitizer did not run"
    broken=1
fi
[ "$broken" -ne 0 ] || echo "both sanitizers found nothing"
exit "$broken"
