#!/usr/bin/env bash
# The planner's choices beside every feasible strategy of a grid, on 1 and 2 CPU ranks, as rows of a table.
# usage: scripts/bench/choices.sh [ROUNDS]
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
explain_if_asked "$@"
[ $# -le 1 ] || refuse "unexpected argument $2"
rounds=${1:-7}
need_number ROUNDS "$rounds"
cd "$repository"
allow_mpirun_as_root

build_benchmark bench_choices
export OMP_NUM_THREADS=1
echo "| setting | chosen | ms | foreseen | best measured | ms | strategies | regret | spread | |"
echo "|---|---|---|---|---|---|---|---|---|---|"
status=0
for ranks in 1 2; do
  timeout 1800 mpirun -np "$ranks" --bind-to none --oversubscribe build-bench/bin/bench_choices "$rounds" || status=1
done
exit $status
