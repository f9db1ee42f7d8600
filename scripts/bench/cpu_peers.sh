#!/usr/bin/env bash
# Training on CPU ranks beside torch DDP, FSDP2 and DeepSpeed with `transformers`, in interleaved runs on the same rows:
# tokens per second, peak resident memory and the time to the first step. scripts/bench/cpu_peers.sh --help lists the options.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
cd "$repository"
allow_mpirun_as_root
[ -x .venv/bin/python ] || stop ".venv is missing; run scripts/setup.sh"
.venv/bin/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("transformers") is None)' ||
  stop "the peers need the full torch and transformers; run scripts/setup.sh for the tests (scripts/test.sh)"
exec .venv/bin/python scripts/bench/cpu_peers.py "$@"
