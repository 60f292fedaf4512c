# SPDX-License-Identifier: Apache-2.0
# tests/harness/full.sh: sourced by `tests/run.sh --full` after the normal run.

# valgrind_one EXECUTABLE: every test of one file, Lua and OpenSSL included. Only what valgrind
# finds counts: a test that is too slow here, or sees valgrind's own memory, is judged without it.
valgrind_one() {
    RIG_BUILD_DIR=$PWD/build/valgrind RIG_SOURCE_DIR=$PWD timeout 1200 valgrind -q \
        --leak-check=full --errors-for-leak-kinds=definite,indirect --error-exitcode=99 "$1"
    local status=$?
    [ $status -lt 99 ]
}

section "valgrind"
build_for_valgrind() {
    rig_cmake build/valgrind -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=gcc \
        -DCMAKE_C_FLAGS='-O1 -g' && ninja -C build/valgrind
}
if check "valgrind build" build_for_valgrind; then
    for executable in build/valgrind/bin/test_*; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
        check "valgrind $(basename "$executable")" valgrind_one "$executable" &
    done
    wait
fi

section "clang-tidy"
check "clang-tidy build" rig_cmake build/tidy -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang &&
    check "clang-tidy generated files" ninja -C build/tidy product standalone_proto &&
    for file in core/*.c plugins/*/*.c; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
        check "clang-tidy $file" clang-tidy -p build/tidy --quiet "$file" &
    done
wait

section "fuzzing, 5 minutes each"
fuzz_all 300

section "soak, 10 minutes"
check "soak" env RIG_SOAK_S=600 .deps/peers/bin/python -m pytest -c tests/pytest.ini \
    tests/integration/soak -v --timeout=1200 -p no:cacheprovider
