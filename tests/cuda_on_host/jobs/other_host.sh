#!/usr/bin/env bash
# Plays a remote shell for mpirun: runs the command on this machine, which has the host's name for it.
#   other_host.sh [OPTION...] HOST COMMAND...
set -euo pipefail
while [[ ${1:-} = -* ]]; do shift; done
[ $# -ge 2 ] || { sed -n '2,3p' "$0" >&2; exit 64; }
host=$1
shift
# shellcheck disable=SC2016  # expanded inside
exec unshare --uts sh -c 'hostname "$0" && exec sh -c "$1"' "$host" "$*"
