# SPDX-License-Identifier: Apache-2.0
# tests/harness/checks.sh: sourced by tests/run.sh and .ci/run. Each check is a test: it has a
# name, a log in $results, a time, and its verdict in a file that totals.py adds up.
# Expects: working directory the root of the tree, $results a directory.

# Copies of the tree (without a plugin, with a planted defect) share what they have in common.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

section() { printf '\n== %s\n' "$*"; }

# result NAME pass|fail|skip [sentence]
result() {
    printf '%s\t%s\t%s\n' "$2" "$1" "${3:-}" >>"$results/checks.tsv"
    printf '%-4s  %s%s\n' "${2^^}" "$1" "${3:+: $3}"
}

# check NAME command...: passes when the command does; shows the end of its log when not.
check() {
    local name=$1 log started=$SECONDS status
    shift
    log="$results/$(tr -c 'A-Za-z0-9_.\n' - <<<"$name").log"
    ("$@") >"$log" 2>&1 </dev/null
    status=$?
    if [ $status = 0 ]; then
        result "$name" pass "$((SECONDS - started)) s"
    else
        tail -n 60 "$log" | sed 's/^/    /'
        result "$name" fail "status $status after $((SECONDS - started)) s"
    fi
    return $status
}

# step NAME command...: shows what the command prints; only a failure counts as a test.
step() {
    local name=$1 started=$SECONDS
    shift
    "$@" </dev/null
    local status=$?
    printf '%s: %s s\n' "$name" $((SECONDS - started))
    [ $status = 0 ] || result "$name" fail "status $status"
    return $status
}

# rig_cmake DIRECTORY option...: configures this tree (or $source) into a build directory.
rig_cmake() {
    local dir=$1
    shift
    cmake -G Ninja -S "${source:-.}" -B "$dir" -DRIG_DEPS_DIR="$PWD/.deps" "$@" >/dev/null
}

# What people get, and the peers that load it.
rig_release() {
    rig_cmake build/release -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc &&
        ninja -C build/release product
}

# A leak, an overflow, an undefined operation ends a test with a failure.
sanitizer_options() {
    export ASAN_OPTIONS=detect_leaks=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
}

fuzz_build() { # DIRECTORY target...
    local dir=$1
    shift
    rig_cmake "$dir" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DRIG_FUZZ=ON \
        -DCMAKE_C_FLAGS='-O1 -g' -DRIG_SANITIZE=fuzzer-no-link,address,undefined \
        -DRIG_WERROR="${werror:-ON}" &&
        ninja -C "$dir" "$@"
}

# fuzz_targets: the names, "grpc yaml ..."
fuzz_targets() {
    local file
    for file in tests/fuzz/fuzz_*.c; do
        [ ! -e "$file" ] || basename "$file" .c | sed 's/^fuzz_//'
    done
}

# fuzz_run BUILD_DIRECTORY NAME SECONDS: from the seeds that are in the tree; 0 when it found
# nothing. New inputs stay in the build directory.
fuzz_run() {
    local dir=$1 name=$2 seconds=$3 work=$1/fuzz-work/$2
    rm -rf "$work"
    mkdir -p "$work/new"
    "$dir/bin/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$work/" "$work/new" "tests/fuzz/corpus/$name"
}

# fuzz_all SECONDS: builds every target and runs each for so long, two at a time.
fuzz_all() {
    local seconds=$1 names=() name
    mapfile -t names < <(fuzz_targets)
    [ ${#names[@]} -gt 0 ] || { result fuzz fail "no fuzz target in tests/fuzz"; return; }
    check "fuzz build" fuzz_build build/fuzz fuzz_all || return
    for name in "${names[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
        check "fuzz $name ($seconds s)" fuzz_run build/fuzz "$name" "$seconds" &
    done
    wait
}
