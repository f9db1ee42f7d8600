#!/usr/bin/env bash
# Runs one program on several ranks of this machine, as the tests do: mpirun_test.sh RANKS PROGRAM [ARG...]
set -euo pipefail
if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: mpirun_test.sh RANKS PROGRAM [ARG...]" >&2
  exit 64
fi
ranks=$1
shift
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl_vader_single_copy_mechanism none \
  -np "$ranks" "$@"
