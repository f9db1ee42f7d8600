#!/usr/bin/env bash
# The ring collectives beside Open MPI's own: scripts/bench/collectives.sh [RANKS [MEGABYTES [ROUNDS]]].
# Both run in turns in one program; the medians are meaningful only on a machine that does nothing else.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../common.sh"
cd "$repository"
allow_mpirun_as_root

build_benchmark bench_collectives

read -r load _ </proc/loadavg
say "measuring (load before: $load)"
exec mpirun --oversubscribe --bind-to none -np "${1:-2}" build-bench/bin/bench_collectives "${2:-64}" "${3:-15}"
