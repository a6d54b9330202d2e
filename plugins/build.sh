#!/usr/bin/env bash
# Builds the plugins that come with zepto for wasm32: `plugins/build.sh`. They are committed beside
# their sources, so that nobody has to; `--write` puts them there, `--check` compares the bytes, if
# the compiler is the one that made those.
#
# With rustup: `rustup target add wasm32-unknown-unknown`. Without that target, Debian's rustc-web
# and rust-web-src do (`apt-get install rustc-web rust-web-src`), beside any other compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-}
case $mode in '' | --write | --check) ;; *) echo "usage: plugins/build.sh [--write|--check]"; exit 2 ;; esac
plugins=(gossip k8s migrate-steady snapshot-veto static)
target=wasm32-unknown-unknown
directory=${CARGO_TARGET_DIR:-target}/wasm
made_by=plugins/COMPILER

packages=()
for plugin in "${plugins[@]}"; do packages+=(-p "zepto-$plugin"); done
arguments=(build --profile wasm --target "$target" --target-dir "$directory" --locked "${packages[@]}")
# No path of the machine that builds, so that the bytes are the same everywhere.
RUSTFLAGS="--remap-path-prefix=$PWD=zepto"
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    RUSTFLAGS+=" --remap-path-prefix=$registry=registry"
done
export RUSTFLAGS

if [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    compiler=rustc
    cargo "${arguments[@]}"
elif [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ]; then
    compiler=/usr/bin/rustc
    linker=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
    export RUSTC_BOOTSTRAP=1 RUSTC=$compiler CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker
    cargo "${arguments[@]}" -Z build-std=std,panic_abort
else
    echo "cannot build for wasm32: no target (rustup target add $target) and no rust-web-src" \
        "(apt-get install rustc-web rust-web-src)"
    exit 1
fi
version=$($compiler --version)

broken=0
for plugin in "${plugins[@]}"; do
    made=$directory/$target/wasm/zepto_${plugin//-/_}.wasm
    kept=plugins/$plugin/$plugin.wasm
    case $mode in
    --write) install -m 644 "$made" "$kept" ;;
    --check)
        if [ "$version" != "$(cat $made_by)" ]; then
            echo "$kept was made by $(cat $made_by), not by $version: the bytes are not compared"
        elif ! cmp "$made" "$kept"; then
            echo "$kept is not what its source makes: run plugins/build.sh --write"
            broken=1
        fi ;;
    esac
done
[ "$mode" != --write ] || echo "$version" >$made_by
exit $broken
