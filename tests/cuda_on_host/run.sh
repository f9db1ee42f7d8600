#!/usr/bin/env bash
# Runs a command on pretend cards: run.sh LIBRARIES COMMAND... See --help and docs/cuda_on_host.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: run.sh LIBRARIES COMMAND...

LIBRARIES is the build's folder cuda_on_host/lib, or cuda_on_host/tsan for ThreadSanitizer. Environment, each name with
CUDA_ON_HOST_ before it:

  CARDS=1            how many cards there are
  CARD_BYTES, CARD_NAME   what each holds and says it is (those of an A100 40GB)
  CAPABILITY=80      the cards' compute capability, 8.0; 86, 89, 90 and 120 have their shared memory
  GIVES=N            a process gets no more of a card, whatever seems to be free: as if others took the rest just then
  OUT_OF_MEMORY=KIND:CALL[:RANK],...   that call finds no memory, with CALL+ all from it on; KIND is memory (allocations),
                     kernel (first launches), product or message (NCCL's); "count" tells at the end how many there were
  DRIVER=13000       the driver's version; of an older major version than the runtime's it shows no cards
  CONTEXT_BYTES, KERNEL_BYTES   what a process's context and a kernel's code take of a card
  LEDGER=NAME        who shares cards; by default the ranks of one mpirun on a host
  DEAD_PEERS=seen    NCCL notices that a peer's process has ended; "unseen": it waits, as between cards of one host
  COMPUTE_MODE=default   "taken": another process has the cards, and their compute mode is exclusive
  SCHEDULE=threads   streams are threads; "immediate": work is done when it is queued
  DELAY_US=0         the longest of random delays before each piece of work
  QUERIES=prompt     "late": an event is not said to be ready before the host has waited for it
  BLOCKS=serial      one thread plays all of a block; "fibers": real blocks of threads
  THREAD_ORDER=0     the order of a block's threads: 0 upwards, 1 downwards, others mixed
  BYTES_ONLY=no      "yes": everything is allocated, charged and waited for, nothing is computed or copied
  HOST_BYTES=N       the memory that the host says it has, for BYTES_ONLY: page-locked memory takes none then
  FRESH_MEMORY=nan   what new memory of a card holds; or "zero"
  READS_HOST=no      "yes": cards read pageable memory when a copy's turn comes; "unsaid": and say that they do not
  MISUSE=tell        what is done about calls that a device takes but no program should make; "stop", "ignore"
  LEAVE_OUT_WAIT=none   at these places, or at "all", nothing waits for events; a broken device, on purpose
  LIST_WAITS=no      "yes": the places where streams and threads wait, as LEAVE_OUT_WAIT takes them
  COUNT_MESSAGES=no  "yes": how many bytes NCCL's messages moved within a host and between hosts
  TRACE=no           "yes": first launches of kernels, and all products
TEXT
}

case ${1:-} in
  -h | --help) usage; exit ;;
esac
if [ $# -lt 2 ] || [ ! -e "$1/libcudart.so.13" ]; then
  usage >&2
  exit 64
fi
libraries=$(cd "$1" && pwd)
shift
preload=$libraries/libcudart.so.13:$libraries/libcublasLt.so.13:$libraries/libcublas.so.13:$libraries/libnccl.so.2
if [ -e "$libraries/sanitizer" ]; then preload=$(cat "$libraries/sanitizer"):$preload; fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_PRELOAD=$preload${LD_PRELOAD:+:$LD_PRELOAD}
exec "$@"
