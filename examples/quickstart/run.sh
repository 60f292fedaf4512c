#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to two Envoys that talk mutual TLS through our agents, on this machine. Debian 12.
set -euo pipefail

usage() {
    cat <<'TEXT'
examples/quickstart/run.sh: installs what is missing, builds, and shows two sidecars at work.

  --stay            keep everything running and print the URLs; Ctrl-C ends it
  --keep-logs       leave the logs behind and say where
  -o, --output FMT  text (default) or json; with json, progress goes to stderr
  --build-dir DIR   use the program built there and build nothing
  --envoy FILE      use this Envoy and fetch none
  -h, --help        this text

It ends by itself and takes everything it started with it. Root is needed only when Debian
packages are missing (by sudo, if you are somebody else). Exit status: 0 when every step of the
story came out as promised, 1 when one did not, 2 for a wrong flag, 130 on Ctrl-C.

Examples:
  examples/quickstart/run.sh
  examples/quickstart/run.sh --stay
  examples/quickstart/run.sh -o json | python3 -m json.tool
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
began_us=${EPOCHREALTIME/[.,]/}
build_dir='' envoy='' output=text story=()

refuse() { echo "run.sh: $1; --help lists the flags" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
    --build-dir | --envoy | --output | -o)
        [ $# -ge 2 ] || refuse "$1 needs a value"
        value=$2 name=$1
        shift
        ;;
    --build-dir=* | --envoy=* | --output=*) value=${1#*=} name=${1%%=*} ;;
    --stay | --keep-logs) story+=("$1") name='' ;;
    -h | --help) usage; exit 0 ;;
    *) refuse "unknown argument '$1'" ;;
    esac
    case $name in
    --build-dir) build_dir=$value ;;
    --envoy) envoy=$value ;;
    --output | -o) output=$value ;;
    esac
    shift
done
[ "$output" = text ] || [ "$output" = json ] || refuse "output '$output' is neither text nor json"

# All progress and the tools' own words go where the screen is not.
exec 3>&1
[ "$output" = text ] || exec 1>&2

say() {
    local ms=$(((${EPOCHREALTIME/[.,]/} - began_us) / 1000))
    printf '[%3d.%d s] %s\n' $((ms / 1000)) $((ms / 100 % 10)) "$*"
}

trap 'exit 130' INT
trap 'exit 143' TERM HUP

# patiently WHAT COMMAND ...: runs it, and says every ten seconds that it is still at it. The one
# that says so ends when its end of the pipe does, however we end.
patiently() {
    local what=$1 status=0
    shift
    exec 9> >(while read -r -t 10 _; [ $? -gt 128 ]; do say "still at it: $what"; done)
    "$@" 9>&- || status=$?
    exec 9>&-
    wait $! || true
    [ $status = 0 ] || { say "failed: $what"; return $status; }
}

build() {
    local log=$build_dir/quickstart.log
    mkdir -p "$build_dir"
    if { [ -f "$build_dir/build.ninja" ] ||
        cmake -G Ninja -S "$root" -B "$build_dir" -DCMAKE_BUILD_TYPE=Release -DRIG_TESTS=OFF; } \
        >"$log" 2>&1 && ninja -C "$build_dir" >>"$log" 2>&1; then
        return 0
    fi
    tail -n 30 "$log" >&2
    echo "All of it is in $log" >&2
    return 1
}

need=()
[ -n "$build_dir" ] || need+=(--build)
[ -n "$envoy" ] || need+=(--envoy)
if [ ${#need[@]} -gt 0 ]; then
    say "looking for what is missing"
    patiently "installing" "$root/tests/harness/setup.sh" "${need[@]}"
fi
if [ -z "$build_dir" ]; then
    build_dir=$root/build/quickstart
    say "building (build/quickstart; the first time takes a minute)"
    patiently "building" build
fi
trap - INT TERM HUP
exec python3 -B "$here/quickstart.py" --began-us "$began_us" --program "$build_dir/bin/outrigger" \
    --envoy "${envoy:-$root/.deps/envoy/envoy}" --output "$output" "${story[@]}" 1>&3 3>&-
