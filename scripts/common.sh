# Functions shared by the scripts beside this file. To be sourced by bash.
# shellcheck shell=bash

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$repository/.cache
mkdir -p "$cache"

# say TEXT: one line, stamped with the seconds since the script was started. A script that starts another
# hands its own beginning down, so that the whole shows one clock.
export AUTOGLM_SCRIPT_START=${AUTOGLM_SCRIPT_START:-$(date +%s)}
say() {
  printf '[%4d s] %s\n' "$(($(date +%s) - AUTOGLM_SCRIPT_START))" "$*"
}

stop() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# refuse TEXT: of arguments that cannot be meant.
refuse() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 64
}

# explain_if_asked ARGUMENT...: --help prints the script's first comment.
explain_if_asked() {
  case ${1:-} in
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;;
  esac
}

# need_number NAME VALUE: refuses what is no whole number above 0.
need_number() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || refuse "$1 is a whole number above 0, not $2"
}

# run_logged LOG COMMAND...: runs quietly; if the command fails, the end of its output is shown.
run_logged() {
  local log=$1 status=0
  shift
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 25 "$log" >&2
    printf 'The whole output is in %s\n' "$log" >&2
  fi
  return "$status"
}

# retry ATTEMPTS COMMAND...: for downloads, which may fail once for no lasting reason.
retry() {
  local attempts=$1 attempt
  shift
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    "$@" && return
    [ "$attempt" -eq "$attempts" ] || { say "that failed; trying again"; sleep $((3 * attempt)); }
  done
  return 1
}

# Compile jobs: one a core, but no more than memory carries (a file that includes LibTorch takes up to 2 GiB).
build_jobs() {
  local cores memory_kib by_memory
  cores=$(nproc)
  memory_kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  by_memory=$((memory_kib / (2 * 1024 * 1024)))
  [ "$by_memory" -ge 1 ] || by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# Whether this machine has NVIDIA's driver or a card that it drives.
has_nvidia_driver() {
  local ldconfig file
  ldconfig=$(command -v ldconfig || echo /sbin/ldconfig)  # seldom on the PATH of users
  if "$ldconfig" -p 2>/dev/null | grep -q 'libcuda\.so\.1 ' || command -v nvidia-smi >/dev/null; then
    return 0
  fi
  for file in ${AUTOGLM_DRIVER_FILES-/proc/driver/nvidia/version /dev/nvidia0 /usr/lib/wsl/lib/libcuda.so.1}; do
    [ ! -e "$file" ] || return 0
  done
  return 1
}

# How many ranks a job here may have on GPUs: the visible cards, or one where a card is divided (MIG).
count_cards() {
  local listed="" number visible
  if command -v nvidia-smi >/dev/null; then
    listed=$(timeout 60 nvidia-smi -L 2>/dev/null) || listed=""
    number=$(grep -c '^GPU ' <<<"$listed" || true)
  else
    number=$(find /dev -maxdepth 1 -name 'nvidia[0-9]*' 2>/dev/null | wc -l)
  fi
  if grep -q '^ *MIG ' <<<"$listed"; then number=1; fi
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    visible=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | sed '/^ *-1/,$d' | grep -c '[^ ]' || true)
    [ "$visible" -ge "$number" ] || number=$visible
  fi
  echo "$number"
}

# Open MPI refuses root unless told otherwise. In a container or on a rented machine root is all there is.
allow_mpirun_as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
}

# in_background COMMAND...: starts a command beside whatever the caller does next; one at a time. Job control
# gives it a process group of its own, so that all of it ends if the caller does.
in_background() {
  set -m
  "$@" </dev/null &
  background_job=$!
  set +m
  trap 'kill -- "-$background_job" 2>/dev/null || true' EXIT
}

# Waits for that command and returns its status.
await_background() {
  local status=0
  wait "$background_job" || status=$?
  trap - EXIT
  return "$status"
}

# Downloads and converts the example model and data into .cache.
prepare_assets() {
  "$repository/.venv/bin/python" "$repository/scripts/prepare_data.py" &&
    "$repository/.venv/bin/python" "$repository/scripts/prepare_smollm2.py"
}

# build_benchmark TARGET: a program of scripts/bench, optimized, in build-bench/bin.
build_benchmark() {
  say "building"
  run_logged "$cache/configure-bench.log" cmake --preset release -B build-bench || stop "configuring failed"
  run_logged "$cache/build-bench.log" cmake --build build-bench -j "$(build_jobs)" --target "$1" || stop "building failed"
}

# run_stoppable COMMAND...: runs mpirun so that Ctrl-C or TERM ask the ranks for a checkpoint; mpirun itself would kill
# them two seconds later, whatever they do. A second one ends them at once. Returns the command's status.
run_stoppable() {
  local job status asked=no
  set -m # a process group of its own, which the terminal's Ctrl-C does not reach
  "$@" </dev/null &
  job=$!
  set +m
  # shellcheck disable=SC2317  # called by the trap
  ask() {
    if [ "$asked" = yes ]; then
      kill -TERM "$job" 2>/dev/null || true
    else
      asked=yes
      say "stopping after a checkpoint; once more ends it at once"
      kill -USR1 "$job" 2>/dev/null || true
    fi
  }
  trap ask INT TERM
  # A signal to this script ends the wait alone.
  while kill -0 "$job" 2>/dev/null; do wait "$job" || true; done
  status=0
  wait "$job" || status=$?
  trap - INT TERM
  return "$status"
}
