# The route by which CPU ranks multiply. To be sourced by bash.
# shellcheck shell=bash

example_model=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/smollm2-135m-instruct

# best_route: the one that this machine's processor should get.
best_route() {
  if grep -qw avx512_bf16 /proc/cpuinfo; then
    echo onednn
  elif grep -qw avx512bw /proc/cpuinfo && grep -qw avx512vl /proc/cpuinfo; then
    echo widened
  else
    echo mkl
  fi
}

# takes_route ROUTE COMMAND...: whether this is the route that the plan of COMMAND, an autoglm-train, names. Where the
# example model is missing (scripts/setup.sh prepares it), nothing is tried.
takes_route() {
  local wanted=$1 data said
  shift
  [ -e "$example_model" ] || { echo "the route of products is not tried: there is no $example_model"; return; }
  data=$(mktemp --suffix=.jsonl)
  echo '{"text": "The quick brown fox jumps over the lazy dog."}' >"$data"
  said=$("$@" --device cpu --dry-run --model "$example_model" --data "$data" --output "$data.output" --steps 1 \
    --global-batch 1 --sequence-length 32 2>&1) || true
  rm "$data"
  if ! grep -E "^plan: .* products by $wanted;" <<<"$said"; then
    printf 'not by the route %s:\n%s\n' "$wanted" "$said"
    return 1
  fi
}
