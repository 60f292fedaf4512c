#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs the tests; see tests/README.md.
#   tests/run.sh                         everything
#   tests/run.sh unit plugins            only these kinds: unit plugins scripts integration
#   tests/run.sh -k PATTERN              only tests whose name fits (ctest -R, pytest -k)
#   tests/run.sh --full                  and valgrind, clang-tidy, long fuzzing, a long soak
# The last line is "N passed, N failed, N skipped"; exit 1 when one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD

kinds=() pattern='' full=''
while [ $# -gt 0 ]; do
    case $1 in
    unit | plugins | scripts | integration) kinds+=("$1") ;;
    -k) pattern=${2:?-k needs a pattern}; shift ;;
    --full) full=1 ;;
    *) sed -n '3,8p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ ${#kinds[@]} -gt 0 ] || kinds=(unit plugins scripts integration)

results=$root/build/results
rm -rf "$results"
mkdir -p "$results"
. tests/harness/checks.sh

wants() { [[ " ${kinds[*]} " == *" $1 "* ]]; }

finish() {
    python3 tests/harness/totals.py "$results" tests/skips.txt
    exit $?
}

build_all() {
    rig_cmake build/test -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=gcc \
        -DCMAKE_C_FLAGS='-O1 -g' -DRIG_SANITIZE=address,undefined && ninja -C build/test || return
    # Memory and growth are gates of what people run, not of the sanitizers' build.
    ! wants integration || rig_release
}

run_ctest() {
    local labels=()
    for kind in unit plugins scripts; do
        ! wants "$kind" || labels+=("$kind")
    done
    [ ${#labels[@]} -gt 0 ] || return 0
    local select=(-L "^($(IFS='|'; echo "${labels[*]}"))\$")
    [ -z "$pattern" ] || select+=(-R "$pattern")
    section "unit, plugin and script tests"
    (cd build/test && ctest -j "$(nproc)" --output-on-failure "${select[@]}" \
        --output-junit "$results/ctest.xml" 2>&1 | grep -Ev '^ *Start +[0-9]+:')
    [ -f "$results/ctest.xml" ] || result ctest fail "ctest wrote no results"
}

# run_story NAME: one story's tests, shown when they are over.
run_story() {
    local log=$results/story-$1.log status select=()
    [ -z "$pattern" ] || select=(-k "$pattern")
    .deps/peers/bin/python -m pytest -c tests/pytest.ini "tests/integration/$1" -v --tb=short \
        -p no:cacheprovider --junitxml "$results/pytest-$1.xml" "${select[@]}" >"$log" 2>&1
    status=$?
    [ $status = 5 ] && return # nothing was selected
    grep -vE '^(platform|rootdir|configfile|plugins|timeout|collecting|-+ generated|$)' "$log"
    # Above 1 pytest itself broke, and its file may lack the reason.
    [ $status -le 1 ] || result "story $1" fail "pytest ended with status $status"
}

run_pytest() {
    wants integration || return 0
    section "integration tests, $(nproc) stories at a time"
    local story
    # Those that mostly wait come first, or they would be waited for.
    for story in memory soak failures $(cd tests/integration && ls -d */ | tr -d / |
        grep -vxE 'memory|soak|failures|__pycache__'); do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
        run_story "$story" &
    done
    wait
}

section "set-up and build"
step set-up tests/harness/setup.sh --tests || finish
step build build_all || finish
sanitizer_options
run_ctest
run_pytest
[ -z "$full" ] || . tests/harness/full.sh
finish
