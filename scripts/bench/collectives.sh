#!/usr/bin/env bash
# The ring collectives beside Open MPI's own: scripts/bench/collectives.sh [RANKS [MEGABYTES [ROUNDS]]].
# Both run in turns in one program; the medians are meaningful only on a machine that does nothing else.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
explain_if_asked "$@"
[ $# -le 3 ] || refuse "unexpected argument $4"
ranks=${1:-2} megabytes=${2:-64} rounds=${3:-15}
need_number RANKS "$ranks"
need_number MEGABYTES "$megabytes"
need_number ROUNDS "$rounds"
cd "$repository"
allow_mpirun_as_root

build_benchmark bench_collectives

read -r load _ </proc/loadavg
say "measuring (load before: $load)"
exec mpirun --oversubscribe --bind-to none -np "$ranks" build-bench/bin/bench_collectives "$megabytes" "$rounds"
