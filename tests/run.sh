#!/usr/bin/env bash
# All checks and tests, from a fresh clone: `tests/run.sh`. The last line says how many tests passed
# and failed; the exit code is 0 only if every step held.
#
# Beyond Rust it needs C compilers (gcc; clang and lld for wasm32), Rust for wasm32, and iproute2 and
# iptables for the tests with network namespaces. As root on a machine with apt it installs what is
# missing; elsewhere it names in one line what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_INCREMENTAL=0
export CARGO_TERM_COLOR=never
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=()

# Installs the packages whose commands are missing: provide COMMAND=PACKAGES...
provide() {
    local missing=() commands=() need
    for need in "$@"; do
        command -v "${need%%=*}" >/dev/null && continue
        commands+=("${need%%=*}")
        # shellcheck disable=SC2206  # one word per package is meant
        missing+=(${need#*=})
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${missing[*]}"
        apt-get update -q >"$log" 2>&1 || true
        if apt-get install -q -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
            return
        fi
    fi
    echo "missing: ${commands[*]} (install: ${missing[*]}); what needs them fails or is skipped"
}

# Runs one step, shows it, and goes on whatever becomes of it: step NAME COMMAND...
step() {
    local name=$1 begun=$SECONDS
    shift
    echo "== $name: $*"
    if "$@" 2>&1 | tee "$log.step"; then
        echo "== $name: passed in $((SECONDS - begun)) s"
    else
        broken+=("$name")
        echo "== $name: FAILED in $((SECONDS - begun)) s"
        # A step that failed without a failed test is one failure by itself.
        grep -q '^test result: FAILED' "$log.step" ||
            echo 'test result: FAILED. 0 passed; 1 failed;' >>"$log.step"
    fi
    cat "$log.step" >>"$log.all"
    rm -f "$log.step"
}

provide "cc=gcc libc6-dev" "c++=g++" "ip=iproute2" "iptables=iptables" "unshare=util-linux" "clang=clang" "wasm-ld=lld" \
    "nm=binutils" "cmake=cmake make" "pkg-config=pkg-config" "valgrind=valgrind libc6-dbg" \
    "abidiff=abigail-tools" "ucx_info=ucx-utils"
# Plugins are built for wasm32: by rustup's target if it is there, else by Debian's compiler.
if [ ! -d "$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ]; then
    provide "/usr/bin/rustc=rustc-web rust-web-src"
fi
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || echo "missing: cargo $component; its step fails"
done

trap 'rm -f "$log" "$log.step" "$log.all"' EXIT
: >"$log.all"

step format cargo fmt --all --check
step lint cargo clippy --profile ci --workspace --all-targets --locked -- -D warnings
# The programs and native plugins first: tests run and load them, and refuse a program that is out
# of date.
step build cargo build --profile ci --workspace --locked
# What is committed beside the sources of the stock plugins is what they make.
step plugins plugins/build.sh --check
step test cargo test --profile ci --workspace --locked --no-fail-fast
# Every interleaving of the mailbox's two ends.
step loom env RUSTFLAGS="--cfg loom" cargo test --profile ci -p zepto-transport --locked \
    --target-dir "${CARGO_TARGET_DIR:-target}/loom" --lib loom_
# The simulator must catch every planted defect. Only this build of the test crate has them: it
# makes no zepto-host.
step defects cargo test --profile ci -p zepto-tests --features defects --locked \
    --test simulation

grep -o 'SKIPPED.*' "$log.all" | sort -u || true
[ ${#broken[@]} -eq 0 ] || echo "failed steps: ${broken[*]}"
awk '/^test result:/ { passed += $4; failed += $6 }
     END { printf "%d passed, %d failed\n", passed, failed }' "$log.all"
[ ${#broken[@]} -eq 0 ]
