#!/usr/bin/env bash
# Sets up, builds everything and runs all tests. The last line printed is ctest's summary.
# Arguments go to ctest: scripts/test.sh -R Tokenizer
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
explain_if_asked "$@"
cd "$repository"

scripts/setup.sh --tests
allow_mpirun_as_root

say "example model and data: preparing in the background (.cache)"
in_background run_logged "$cache/assets.log" prepare_assets

say "configuring and building everything (build/, $(build_jobs) jobs)"
run_logged "$cache/configure.log" cmake --preset ci -DAUTOGLM_CUDA="${AUTOGLM_CUDA:-AUTO}" ||
  stop "configuring failed"
run_logged "$cache/build.log" cmake --build --preset ci -j "$(build_jobs)" || stop "building failed"

await_background || stop "the example model or its data could not be prepared"
say "testing"
exec ctest --preset ci "$@" </dev/null
