#!/usr/bin/env bash
# Puts libzepto under a prefix: libraries, headers, pkg-config file and CMake package.
#   host/capi/install.sh [--prefix DIR] [--from TARGET_DIR]
# Without --from it is built first, optimised. The default prefix is /usr/local.
set -euo pipefail
cd "$(dirname "$0")/../.."

prefix=/usr/local from=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=$2; shift 2 ;;
        --from) from=$2; shift 2 ;;
        *) sed -n '2,4p' "$0" >&2; exit 2 ;;
    esac
done
if [ -z "$from" ]; then
    cargo build --release --locked -p zepto-capi
    from=${CARGO_TARGET_DIR:-target}/release
fi
for file in libzepto.so libzepto.a; do
    [ -f "$from/$file" ] || { echo "there is no $from/$file: cargo build -p zepto-capi" >&2; exit 1; }
done
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
# Of the interface, which is what a program is compiled for.
number() { sed -n "s/^#define ZEPTO_ABI_$1 //p" include/zepto.h; }
version=$(number MAJOR).$(number MINOR).0

install -d "$prefix/lib/pkgconfig" "$prefix/lib/cmake/zepto" "$prefix/include"
install -m 755 "$from/libzepto.so" "$prefix/lib/libzepto.so.$version"
ln -sf "libzepto.so.$version" "$prefix/lib/libzepto.so.1"
ln -sf libzepto.so.1 "$prefix/lib/libzepto.so"
install -m 644 "$from/libzepto.a" "$prefix/lib/"
install -m 644 include/zepto.h include/zepto.hpp include/zepto_plugin.h "$prefix/include/"
install -m 644 host/capi/install/zeptoConfig.cmake "$prefix/lib/cmake/zepto/"
fill() { sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" "$1"; }
fill host/capi/install/zepto.pc.in >"$prefix/lib/pkgconfig/zepto.pc"
fill host/capi/install/zeptoConfigVersion.cmake.in >"$prefix/lib/cmake/zepto/zeptoConfigVersion.cmake"
echo "libzepto $version is in $prefix"
