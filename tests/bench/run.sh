#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the release and measures it once; prints the table and writes tests/bench/RESULTS.md.
#   tests/bench/run.sh           everything, about two minutes
#   tests/bench/run.sh --print   the same, RESULTS.md stays as it is
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
'' | --print) ;;
*) sed -n '3,5p' "$0" >&2; exit 2 ;;
esac
. tests/harness/checks.sh
tests/harness/setup.sh --tests
rig_release
exec env PYTHONPATH=tests .deps/peers/bin/python tests/bench/measure.py "$@"
