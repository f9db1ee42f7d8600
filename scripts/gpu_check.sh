#!/usr/bin/env bash
# Checks on a machine with a GPU what machines without one cannot: see --help. From a bundle (scripts/bundle.sh), or
# from a checkout that was built.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: gpu_check.sh [--cpu | --small] [--output FOLDER] [--only PART,...]

  --cpu            the same parts at toy sizes on the CPU
  --small          some of the parts at toy sizes on the GPUs: is everything there?
  --output FOLDER  where gpu_check.txt and gpu_check.json are written, and gpu_check.tar.gz, which holds both, with what
                   all programs said and what is known of the machine (gpu_check)
  --only PART,...  some of the parts:
    parity      logits, gradients and losses beside transformers, where this Python has it
    strategies  every stage, recompute level, master, weight source and offload on one rank: the same bits
    command     autoglm-train from a model directory to a model directory
    ranks       the same over all cards, up to 8; two ranks on one card are refused, or compared if NCCL allows it
    width       bytes per second of gathers and of sums in the order of ranks, between all cards
    cards       one training on one card and on all: tokens/s, share of the peak, what waits, bytes, losses
    large       GLM-4-9B with random weights, all trained under 40 GB of the card, the rest on the host
    memory      foreseen beside measured bytes under caps of 8, 16, 24 and 40 GB

Takes under 9 minutes: every part has a share of them, and is told when it was not finished in it. Ends with a verdict:
what passed, what failed and why, what differs from the plan. Nothing is downloaded or compiled. Exit code 1 when a part
failed or was not finished. Environment: PYTHON, the Python with torch (python3); BUILD_DIR, of a checkout (build).
TEXT
}

arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --cpu | --small) arguments+=("$1"); shift ;;
    --output | --only)
      [ -n "${2:-}" ] || { echo "gpu_check.sh: $1 needs a value" >&2; exit 64; }
      arguments+=("$1" "$2")
      shift 2
      ;;
    -h | --help) usage; exit ;;
    *) usage >&2; echo "gpu_check.sh: unknown argument $1" >&2; exit 64 ;;
  esac
done

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
if [ -x "$here/bin/launch" ]; then
  export PYTHON="${PYTHON:-python3}"
  bin=$here/bin mpirun=$here/bin/mpirun parity=$here/gpu_check/parity.py
else
  repository=$(dirname "$here")
  if [ -z "${PYTHON:-}" ] && [ -x "$repository/.venv/bin/python" ]; then PYTHON=$repository/.venv/bin/python; fi
  export PYTHON="${PYTHON:-python3}"
  bin=${BUILD_DIR:-$repository/build}/bin mpirun=$(command -v mpirun || true)
  parity=$repository/tests/trainer/parity/parity.py
fi
for program in engine_run engine_dump autoglm-train; do
  [ -x "$bin/$program" ] || { echo "gpu_check.sh: $bin/$program is missing: build it first" >&2; exit 69; }
done
exec "$PYTHON" "$here/gpu_check/gpu_check.py" --bin "$bin" --mpirun "$mpirun" --parity "$parity" "${arguments[@]}"
