#!/usr/bin/env bash
# Builds some tests with GCC's sanitizers and runs them:
#   scripts/sanitize.sh tsan [TARGET...]   data races; by default streams, communicators and what runs on them
#   scripts/sanitize.sh asan [TARGET...]   memory errors, leaks and undefined behaviour
# TARGETs are test programs as the CMakeLists.txt files under tests/ name them.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
explain_if_asked "$@"
cd "$repository"

# GCC's ThreadSanitizer cannot place its shadow memory where the kernel spreads addresses widely.
if [[ -z ${AUTOGLM_FIXED_ADDRESSES:-} ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
  AUTOGLM_FIXED_ADDRESSES=1 exec setarch "$(uname -m)" -R "$0" "$@"
fi

kind=${1:-}
targets=("${@:2}")
streams=(stream_test ring_plan_test communicator_test agree_test peer_watch_test mpi_communicator_test)
case $kind in
  tsan) preset=tsan ;;
  asan) preset=debug ;;
  *) refuse "say tsan or asan, and perhaps some test targets" ;;
esac
[[ ${#targets[@]} -gt 0 ]] || targets=("${streams[@]}")

allow_mpirun_as_root

say "building ${#targets[@]} test programs (build-$preset/)"
run_logged "$cache/configure-$preset.log" cmake --preset "$preset" || stop "configuring failed"
run_logged "$cache/build-$preset.log" cmake --build --preset "$preset" -j "$(build_jobs)" --target "${targets[@]}" ||
  stop "building failed"

say "testing"
# Every test carries the name of its program as a label.
exec ctest --preset "$preset" -L "^($(IFS='|' && echo "${targets[*]}"))\$" </dev/null
