// NCCL between threads of one process, in host memory: collectives meet, fail and hang as a test asks.
#pragma once

#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sharding/nccl/nccl_functions.h"
#include "sharding/stream.h"

namespace autoglm::testing {
struct FakeJob;
}

// What a handle points to is NCCL's own affair, and so the fake's.
struct ncclComm {
  autoglm::testing::FakeJob* job = nullptr;
  int rank = 0;
  int number = 0;  // of the communicator, alike on all ranks
  int num_started = 0;
  int num_groups = 0;
  ncclResult_t state = ncclSuccess;
};

namespace autoglm::testing {

// One job's NCCL. Set up before the ranks start; one at a time, since NCCL's functions find it by a pointer.
struct FakeJob {
  explicit FakeJob(int num_ranks) : size(num_ranks), versions(size, NCCL_VERSION_CODE), calls(size) {
    current = this;
  }
  ~FakeJob() { current = nullptr; }
  FakeJob(const FakeJob&) = delete;
  FakeJob& operator=(const FakeJob&) = delete;

  // What a test may set.
  int size;
  std::vector<int> versions;  // get_version() gives these in the order of calls
  ncclResult_t id_result = ncclSuccess;
  int refused_rank = -1;         // comm_init fails on this rank
  bool collectives_meet = true;  // false: they are queued at once and do nothing, like kernels that wait
  int failing_rank = -1;         // its messages fail from this group of them on
  int failing_group = 0;

  // What a test may look at, under the mutex.
  std::mutex mutex;
  std::vector<std::vector<std::string>> calls;  // by rank
  std::vector<ncclConfig_t> configs;
  std::vector<std::unique_ptr<ncclComm>> comms;
  std::atomic<bool> aborted = false;

  void note(int rank, const std::string& call) {
    const std::lock_guard lock(mutex);
    calls[static_cast<std::size_t>(rank)].push_back(call);
  }
  std::vector<std::string> calls_of(int rank) {
    const std::lock_guard lock(mutex);
    return calls[static_cast<std::size_t>(rank)];
  }
  // The next look for errors on this rank finds one.
  void break_link(int rank) {
    const std::lock_guard lock(mutex);
    for (const auto& comm : comms) {
      if (comm->rank == rank) comm->state = ncclRemoteError;
    }
  }

  // Bytes that went from one rank to another in messages.
  std::map<std::pair<int, int>, std::int64_t> sent;

  // A message of a group whose other end has not come yet, if it lies on a wire.
  struct Message {
    bool receives;
    int peer;
    std::byte* data;
    std::size_t bytes;
    ncclComm_t comm;
    std::shared_ptr<int> unfinished;  // messages of its group
  };
  static inline thread_local std::vector<Message> group;
  std::map<std::pair<int, int>, std::deque<Message>> wires;  // by sender and receiver

  ncclResult_t post_group() {
    const std::vector<Message> messages = std::exchange(group, {});
    if (messages.empty()) return ncclSuccess;
    const ncclComm_t comm = messages.front().comm;
    const std::lock_guard lock(mutex);
    calls[static_cast<std::size_t>(comm->rank)].push_back("group");
    if (comm->rank == failing_rank && comm->num_groups++ >= failing_group) return ncclRemoteError;
    if (!collectives_meet) return ncclSuccess;
    const auto unfinished = std::make_shared<int>(static_cast<int>(messages.size()));
    comm->state = ncclInProgress;
    for (Message message : messages) {
      message.unfinished = unfinished;
      post(message);
    }
    return comm->state;
  }

  // Messages from one rank to another meet in the order in which they were posted.
  void post(const Message& message) {
    const int me = message.comm->rank;
    auto& wire = wires[message.receives ? std::pair(message.peer, me) : std::pair(me, message.peer)];
    if (wire.empty() || wire.front().receives == message.receives) return wire.push_back(message);
    const Message other = wire.front();
    wire.pop_front();
    if (other.bytes != message.bytes) message.comm->state = other.comm->state = ncclInvalidUsage;
    const Message& from = message.receives ? other : message;
    const Message& to = message.receives ? message : other;
    std::memcpy(to.data, from.data, std::min(from.bytes, to.bytes));
    sent[{from.comm->rank, to.comm->rank}] += static_cast<std::int64_t>(from.bytes);
    for (const Message* each : {&message, &other}) {
      if (--*each->unfinished == 0 && each->comm->state == ncclInProgress) each->comm->state = ncclSuccess;
    }
  }

  // Nothing of an aborted rank is read or written any more.
  void forget(int rank) {
    const std::lock_guard lock(mutex);
    for (auto& [ends, wire] : wires) {
      std::erase_if(wire, [&](const Message& message) { return message.comm->rank == rank; });
    }
  }

  // A collective for which some ranks have come.
  struct Meeting {
    std::vector<const std::byte*> inputs;
    std::vector<std::byte*> outputs;
    std::vector<ncclComm_t> comms;
  };
  std::map<int, Meeting> meetings;
  std::size_t next_version = 0;
  int num_ids = 0;

  // Combines the inputs of all ranks into the output of one.
  using Combine = std::function<void(const Meeting&, int rank)>;

  ncclResult_t meet(const char* name, const void* input, void* output, ncclComm_t comm,
                    const Combine& combine) {
    const std::lock_guard lock(mutex);
    calls[static_cast<std::size_t>(comm->rank)].push_back(name);
    if (!collectives_meet) return ncclSuccess;
    Meeting& meeting = meetings[comm->num_started++];
    const auto ranks = static_cast<std::size_t>(size);
    meeting.inputs.resize(ranks);
    meeting.outputs.resize(ranks);
    meeting.inputs[static_cast<std::size_t>(comm->rank)] = static_cast<const std::byte*>(input);
    meeting.outputs[static_cast<std::size_t>(comm->rank)] = static_cast<std::byte*>(output);
    meeting.comms.push_back(comm);
    comm->state = ncclInProgress;
    if (meeting.comms.size() < ranks || aborted) return ncclInProgress;
    for (int r = 0; r < size; ++r) combine(meeting, r);
    for (const ncclComm_t each : meeting.comms) each->state = ncclSuccess;
    return ncclSuccess;
  }

  static inline FakeJob* current = nullptr;
};

// Bytes of what messages may be of; 0: of nothing else.
inline std::size_t message_width(ncclDataType_t type) {
  return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 0;
}

inline NcclFunctions fake_nccl() {
  NcclFunctions nccl = {};
  nccl.get_version = [](int* version) {
    FakeJob& job = *FakeJob::current;
    const std::lock_guard lock(job.mutex);
    *version = job.versions.at(job.next_version++);
    return ncclSuccess;
  };
  nccl.get_unique_id = [](ncclUniqueId* id) {
    FakeJob* const job = FakeJob::current;
    job->note(0, "get_unique_id");
    std::memcpy(id->internal, &job, sizeof(job));
    std::memcpy(id->internal + sizeof(job), &job->num_ids, sizeof(job->num_ids));
    ++job->num_ids;
    return job->id_result;
  };
  nccl.comm_init_rank_config = [](ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                  ncclConfig_t* config) {
    FakeJob* job = nullptr;
    std::memcpy(&job, id.internal, sizeof(job));
    job->note(rank, "init");
    if (rank == job->refused_rank || size != job->size) return ncclSystemError;
    const std::lock_guard lock(job->mutex);
    job->configs.push_back(*config);
    *comm = job->comms.emplace_back(std::make_unique<ncclComm>(ncclComm{job, rank})).get();
    std::memcpy(&(*comm)->number, id.internal + sizeof(job), sizeof((*comm)->number));
    (*comm)->state = ncclInProgress;
    const auto is_peer = [&](const auto& each) { return each->number == (*comm)->number; };
    if (std::ranges::count_if(job->comms, is_peer) == size) {
      for (const auto& each : job->comms | std::views::filter(is_peer)) each->state = ncclSuccess;
    }
    return ncclInProgress;
  };
  nccl.comm_finalize = [](ncclComm_t comm) { return comm->job->note(comm->rank, "finalize"), ncclSuccess; };
  nccl.comm_destroy = [](ncclComm_t comm) { return comm->job->note(comm->rank, "destroy"), ncclSuccess; };
  nccl.comm_abort = [](ncclComm_t comm) {
    comm->job->note(comm->rank, "abort");
    comm->job->aborted = true;
    comm->job->forget(comm->rank);
    return ncclSuccess;
  };
  nccl.comm_get_async_error = [](ncclComm_t comm, ncclResult_t* state) {
    const std::lock_guard lock(comm->job->mutex);
    *state = comm->state;
    return ncclSuccess;
  };
  nccl.get_error_string = ncclGetErrorString;
  nccl.get_last_error = [](ncclComm_t comm) {
    return comm == nullptr ? "" : "connection closed by remote peer";
  };
  nccl.group_start = [] { return ncclSuccess; };
  nccl.group_end = [] { return FakeJob::current->post_group(); };
  nccl.send = [](const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                 cudaStream_t) {
    if (message_width(type) == 0 || peer == comm->rank) return ncclInvalidArgument;
    auto* const data = static_cast<std::byte*>(const_cast<void*>(from));
    FakeJob::group.push_back({false, peer, data, count * message_width(type), comm, nullptr});
    return ncclSuccess;
  };
  nccl.receive = [](void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                    cudaStream_t) {
    if (message_width(type) == 0 || peer == comm->rank) return ncclInvalidArgument;
    auto* const data = static_cast<std::byte*>(to);
    FakeJob::group.push_back({true, peer, data, count * message_width(type), comm, nullptr});
    return ncclSuccess;
  };
  // Shard s is the sum over ranks s+1, s+2, ..., s.
  nccl.reduce_scatter = [](const void* input, void* output, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t) {
    if (type != ncclFloat32 || operation != ncclSum) return ncclInvalidArgument;
    return comm->job->meet(
        "reduce_scatter", input, output, comm, [=](const FakeJob::Meeting& meeting, int rank) {
          const int size = static_cast<int>(meeting.inputs.size());
          std::vector<float> sum(count);
          for (int step = 1; step <= size; ++step) {
            const auto from = static_cast<std::size_t>((rank + step) % size);
            const auto* values =
                reinterpret_cast<const float*>(meeting.inputs[from]) + static_cast<std::size_t>(rank) * count;
            for (std::size_t i = 0; i < count; ++i) sum[i] = step == 1 ? values[i] : sum[i] + values[i];
          }
          std::memcpy(meeting.outputs[static_cast<std::size_t>(rank)], sum.data(), count * sizeof(float));
        });
  };
  nccl.all_gather = [](const void* shard, void* whole, std::size_t count, ncclDataType_t type,
                       ncclComm_t comm, cudaStream_t) {
    if (type != ncclUint8) return ncclInvalidArgument;
    return comm->job->meet("all_gather", shard, whole, comm, [=](const FakeJob::Meeting& meeting, int rank) {
      std::byte* to = meeting.outputs[static_cast<std::size_t>(rank)];
      for (const std::byte* from : meeting.inputs) {
        if (to != from) std::memcpy(to, from, count);
        to += count;
      }
    });
  };
  nccl.broadcast = [](const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                      ncclComm_t comm, cudaStream_t) {
    if (type != ncclUint8) return ncclInvalidArgument;
    return comm->job->meet("broadcast", from, to, comm, [=](const FakeJob::Meeting& meeting, int rank) {
      if (rank == root) return;
      std::memcpy(meeting.outputs[static_cast<std::size_t>(rank)],
                  meeting.inputs[static_cast<std::size_t>(root)], count);
    });
  };
  return nccl;
}

// Notes what the communicator reports to the other streams of the process.
class ReportStream : public Stream {
 public:
  ReportStream(FakeJob& job, int rank) : job_(job), rank_(rank) {}
  void submit(std::function<void()>) override { job_.note(rank_, "misused"); }
  void copy(void*, const void*, std::size_t) override { job_.note(rank_, "misused"); }
  Event record() override { return Event(); }
  void wait(const Event& event) override {
    try {
      event.synchronize();
    } catch (const std::exception&) {
      job_.note(rank_, "report");
    }
  }
  void synchronize() override {}

 private:
  FakeJob& job_;
  int rank_;
};

// As a CUDA stream whose kernels wait for a peer: work is called at once, and events become ready, without a
// failure, when NCCL is aborted.
class HangingStream : public Stream {
 public:
  explicit HangingStream(FakeJob& job) : job_(job) {}
  void submit(std::function<void()> work) override { work(); }
  void copy(void*, const void*, std::size_t) override {}
  Event record() override { return Event(std::make_shared<Ended>(job_)); }
  void wait(const Event&) override {}
  void synchronize() override {}

 private:
  class Ended : public Event::State {
   public:
    explicit Ended(FakeJob& job) : job_(job) {}
    bool ready() const override { return job_.aborted; }
    void wait() const override {
      while (!ready()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

   private:
    FakeJob& job_;
  };
  FakeJob& job_;
};

}  // namespace autoglm::testing
