#!/usr/bin/env bash
# The tests that take too long for every run, on the build in build/: scripts/long_tests.sh
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$repository"

python=.venv/bin/python
[ -x "$python" ] && [ -x build/bin/autoglm-train ] || stop "run scripts/test.sh first, which sets up and builds"
export OMP_NUM_THREADS=1

say "configurations in all spellings, against transformers"
"$python" tests/launcher/end_to_end/config_variants.py build/bin/autoglm-train
