#!/usr/bin/env bash
# The tests that take too long for every run, on the build in build/: scripts/long_tests.sh
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
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

say "a real model stops in transformers where it was trained to"
"$python" tests/launcher/end_to_end/template_test.py build/bin/autoglm-train build/bin/autoglm-data \
  scripts/mpirun_test.sh --long StopTest.test_a_real_model

say "parity, strategies and predictions by every route of products that this processor has"
for route in mkl onednn widened; do
  AUTOGLM_ALL_TESTS_PRODUCTS=$route ctest --test-dir build --output-on-failure --no-tests=error -j "$(build_jobs)" \
    -R '^(parity\.|strategies_test|prediction_test|engine_test|ops_test)'
done
