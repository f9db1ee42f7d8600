#!/usr/bin/env bash
# The tests that take too long for every run, on the build in build/: scripts/long_tests.sh
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
explain_if_asked "$@"
[ $# -eq 0 ] || refuse "takes no arguments, not $1"
cd "$repository"

python=.venv/bin/python
if [ ! -x "$python" ] || [ ! -x build/bin/autoglm-train ]; then stop "run scripts/test.sh first, which sets up and builds"; fi
export OMP_NUM_THREADS=1

say "configurations in all spellings, against transformers"
"$python" tests/launcher/end_to_end/config_variants.py build/bin/autoglm-train

say "samples of all forms, against a reference written from docs/data.md"
for seed in 1 2 3 4 5; do
  "$python" tests/trainer/data/sample_reader_fuzz.py build/bin/sample_reader_tool --seed "$seed" \
    --program build/bin/autoglm-data --model .cache/smollm2-135m-instruct
done

say "saves of one to four ranks that are killed, lose power or meet broken disks, at every call and at random"
for name in kill power_loss disk_faults; do
  "$python" "tests/checkpoint/step_store/faults/${name}_test.py" build/bin/step_store_program \
    build/tests/checkpoint/libfaults_shim.so --all --random "$([ "$name" = kill ] && echo 3000 || echo 20)"
done

say "checkpoints of one to four ranks, gone on with on one to four, with every strategy"
"$python" tests/launcher/end_to_end/worlds_test.py build/bin/autoglm-train scripts/mpirun_test.sh build/bin/resave_program --all

say "trainings that are stopped fifty times and killed a hundred times, with several strategies"
"$python" tests/launcher/end_to_end/random_stops_test.py build/bin/autoglm-train build/bin/autoglm-data \
  scripts/mpirun_test.sh --shim build/tests/checkpoint/libfaults_shim.so --all

say "trainings whose checkpoints meet a broken disk at every call"
"$python" tests/launcher/end_to_end/broken_disks_test.py build/bin/autoglm-train build/bin/autoglm-data \
  scripts/mpirun_test.sh --shim "$PWD/build/tests/checkpoint/libfaults_shim.so" --all

say "files that may hold anything, a million inputs each"
for program in build/bin/*_fuzz; do
  (cd build && "bin/${program##*/}" --inputs 1000000 "$RANDOM")
done

say "a real model stops in transformers where it was trained to"
"$python" tests/launcher/end_to_end/template_test.py build/bin/autoglm-train build/bin/autoglm-data \
  scripts/mpirun_test.sh --long StopTest.test_a_real_model

if [ -d build/cuda_on_host ]; then
  say "bytes on pretend cards, to the byte"
  "$python" tests/cuda_on_host/jobs/memory_test.py build/cuda_on_host/bin --all --table build/cuda_on_host/memory.txt

  say "trainings on pretend cards that are stopped fifty times"
  "$python" tests/cuda_on_host/jobs/stops_test.py build/cuda_on_host/bin --stops 50

  say "every strategy to the bit on two, four and eight pretend cards"
  "$python" tests/cuda_on_host/jobs/strategies_test.py build/cuda_on_host/bin --all

  say "every wait of jobs on pretend cards is missed when it is left out"
  rm -f build/cuda_on_host/waits.txt
  "$python" tests/cuda_on_host/jobs/waits.py build/cuda_on_host/bin build/cuda_on_host/tsan \
    --table build/cuda_on_host/waits.txt
fi

say "parity, strategies and predictions by every route of products that this processor has"
for route in mkl onednn widened; do
  AUTOGLM_ALL_TESTS_PRODUCTS=$route ctest --test-dir build --output-on-failure --no-tests=error -j "$(build_jobs)" \
    -R '^(parity\.|strategies_test|prediction_test|engine_test|ops_test)'
done

say "the README's first command on a bare Debian with a driver and no toolkit, pretended: nvcc from PyPI, a job on cards"
if [ "$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null && [ -e build/cuda_on_host/lib/libcudart.so.13 ]; then
  machine=$(mktemp -d /var/tmp/driver_only.XXXXXX)
  trap 'rm -rf --one-file-system "$machine"' EXIT
  timeout 5400 tests/scripts/driver_only_machine.sh "$machine/root" build/cuda_on_host/lib \
    --steps 2 --sequence-length 64 --validation 0
else
  say "left out: it needs root, debootstrap and pretend cards (a build with device code)"
fi
