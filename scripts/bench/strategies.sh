#!/usr/bin/env bash
# What the ZeRO stages cost and save on CPU ranks, with SmolLM2-135M:
#   scripts/bench/strategies.sh time [--rounds N ...]     step time of stages 1-3 and of offload over stage 0's
#   scripts/bench/strategies.sh memory [--ranks 1,2,4]    bytes per rank by category, rehearsed and measured
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
explain_if_asked "$@"
case ${1:-} in
  time | memory) ;;
  *) refuse "say time or memory" ;;
esac
cd "$repository"
allow_mpirun_as_root
[ -x .venv/bin/python ] || stop ".venv is missing; run scripts/setup.sh"
[ -x build/bin/autoglm-train ] || stop "build/bin/autoglm-train is missing; build it (scripts/quickstart.sh)"
exec .venv/bin/python scripts/bench/strategies.py "$@"
