#!/usr/bin/env bash
# Speed of the tokenizer beside the `tokenizers` package, one thread each, in one run: MB of text per second of CPU
# time, for SmolLM2's tokenizer.json and for one of LLaMA 2's shape.
#
#   scripts/bench/tokenizer.sh [BUILD_DIR]      (default: build)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
explain_if_asked "$@"
[ $# -le 1 ] || refuse "unexpected argument $2"
[[ ${1:-} != -* ]] || refuse "unknown option $1"
root=$repository
build="${1:-$root/build}"
tool="$build/bin/autoglm_tokenize_texts"
if [[ ! -x "$tool" ]]; then
  echo "$tool is missing; build it with: ninja -C $build autoglm_tokenize_texts" >&2
  exit 66
fi
if [[ ! -f "$root/.cache/smollm2-135m-instruct/tokenizer.json" ]]; then
  echo "$root/.cache/smollm2-135m-instruct/tokenizer.json is missing; run scripts/setup.sh" >&2
  exit 66
fi
export TOKENIZERS_PARALLELISM=false RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1
exec "$root/.venv/bin/python" "$root/scripts/bench/tokenizer.py" "$tool" "$root"
