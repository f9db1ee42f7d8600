#include "tests/cuda_on_host/nccl/communicator.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/sanitizer.h"
#include "tests/cuda_on_host/runtime/shortage.h"

using namespace cuda_on_host;

namespace {

constexpr std::int64_t kCommunicatorBytes = std::int64_t{64} << 20;  // made up; a real one takes some too

// Where a rank works: its host, and the card there. NCCL takes ranks for those of another host that say so.
std::string place_of(int card) {
  char bus[32] = {}, name[65] = {};
  cudaDeviceGetPCIBusId(bus, sizeof bus, card);
  gethostname(name, sizeof name - 1);
  const char* host = std::getenv("NCCL_HOSTID");
  return std::string(host != nullptr ? host : name) + "/" + bus;
}

// Streams may still look at a communicator that was aborted.
void keep(ncclComm* aborted) {
  static auto* kept = new std::vector<ncclComm*>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  kept->push_back(aborted);
}

}  // namespace

ncclComm::ncclComm(const std::string& name, int rank_of_this, int size_of_all, int card_of_this)
    : rank(rank_of_this), size(size_of_all), card(card_of_this), meeting(name, rank, size) {}

ncclComm::~ncclComm() {
  if (background.joinable()) background.join();
  cuda_on_host_charge(card, -kCommunicatorBytes);
  if (!cuda_on_host_counts_messages()) return;
  std::fprintf(stderr,
               "cuda_on_host: messages of rank %d: %lld bytes within its host, %lld bytes to others\n", rank,
               static_cast<long long>(sent_within_), static_cast<long long>(sent_between_));
}

void ncclComm::start() {
  if (!cuda_on_host_charge(card, kCommunicatorBytes)) {
    fail(ncclUnhandledCudaError, "out of memory");
    return;
  }
  switch (meeting.join(place_of(card))) {
    case Met::aborted:
      fail(ncclSystemError, "aborted while ranks were joining, or without shared memory");
      return;
    case Met::peer_gone:
      fail(ncclRemoteError, "a peer's process is gone");
      return;
    case Met::yes:
      break;
  }
  if (meeting.two_on_one_card()) {
    fail(ncclInvalidUsage, "Duplicate GPU detected: two ranks on one device");
  } else {
    state = ncclSuccess;
  }
}

void ncclComm::finish() {
  while (queued_ > 0 && !aborted_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (!failed_) state = ncclSuccess;
}

void ncclComm::abort() {
  aborted_ = true;
  meeting.abort();
  if (background.joinable()) background.join();
  keep(this);
}

void ncclComm::fail(ncclResult_t status, const std::string& text) {
  const std::lock_guard lock(mutex_);
  if (failed_.exchange(true)) return;
  problem_ = text;
  state = status;
}

std::string ncclComm::last_error() {
  const std::lock_guard lock(mutex_);
  return problem_;
}

bool ncclComm::went_well(Met met) {
  if (met == Met::peer_gone) fail(ncclRemoteError, "a peer's process is gone");
  return met == Met::yes;
}

bool ncclComm::barrier() {
  return went_well(meeting.barrier());
}

void ncclComm::perform(const Call& call, const std::function<bool()>& collective) {
  bool same = false;
  if (!went_well(meeting.agree(call, same))) return;
  if (same) {
    collective();
    return;
  }
  for (int other = 0; other < size; ++other) {
    const Call theirs = meeting.call_of(other);
    std::fprintf(stderr, "cuda_on_host: on rank %d, NCCL's calls differ: rank %d is at %c of %lu\n", rank,
                 other, theirs.kind, theirs.count);
  }
  fail(ncclInvalidUsage, "ranks called different collectives");
}

ncclResult_t ncclComm::submit_work(cudaStream_t stream, std::function<void()> work) {
  if (failed_ || aborted_) return state == ncclSuccess ? ncclInvalidUsage : state.load();
  if (cuda_on_host_card(stream) != card) {
    fail(ncclInvalidUsage, "a stream of another card");
    return ncclInvalidUsage;
  }
  if (cuda_on_host_finds_none(static_cast<int>(Taker::message))) {
    fail(ncclUnhandledCudaError, "Cuda failure 2 'out of memory'");
    return ncclUnhandledCudaError;
  }
  if (cuda_on_host_bytes_only()) return ncclSuccess;
  ++queued_;
  const cudaError_t status = submit(stream, [this, work = std::move(work)] {
    if (!aborted_ && !failed_) work();
    const Unseen unseen;
    --queued_;
  });
  if (status == cudaSuccess) return ncclSuccess;
  --queued_;
  return ncclUnhandledCudaError;
}

ncclResult_t ncclComm::queue(const Call& call, cudaStream_t stream, std::function<bool()> collective) {
  return submit_work(stream, [this, call, collective = std::move(collective)] { perform(call, collective); });
}

void ncclComm::count_message(int peer, std::size_t bytes) {
  (meeting.on_one_host(rank, peer) ? sent_within_ : sent_between_) += static_cast<std::int64_t>(bytes);
}

ncclResult_t ncclComm::queue_messages(cudaStream_t stream, std::function<void()> messages) {
  return submit_work(stream, std::move(messages));
}

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> count{0};
  *id = {};
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  std::snprintf(id->internal, sizeof id->internal, "/cuda_on_host-nccl-%d-%d-%lx", getpid(), ++count,
                static_cast<unsigned long>(now));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (size < 1 || size > Meeting::kMostRanks || rank < 0 || rank >= size) return ncclInvalidArgument;
  int card = 0;
  if (cudaGetDevice(&card) != cudaSuccess) return ncclUnhandledCudaError;
  auto* const made = new ncclComm(id.internal, rank, size, card);
  *handle = made;
  const bool blocking = config == nullptr || config->blocking != 0;
  if (blocking) {
    made->start();
    return made->state;
  }
  made->background = std::thread([made, card] {
    cudaSetDevice(card);
    made->start();
  });
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->state;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm->state != ncclSuccess) return comm->state;
  if (comm->background.joinable()) comm->background.join();
  comm->state = ncclInProgress;
  comm->background = std::thread([comm] { comm->finish(); });
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->background.joinable()) comm->background.join();
  comm->finish();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->abort();
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t status) {
  switch (status) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "an error of NCCL on the host";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  static thread_local std::string text;
  text = comm == nullptr ? "" : comm->last_error();
  return text.c_str();
}

}  // extern "C"
