// One rank's connection to NCCL: how it comes together with its peers, starts what is to be done, notices
// what has gone wrong, and ends.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "sharding/communicator.h"
#include "sharding/nccl/nccl_functions.h"

namespace autoglm {

// How long a collective that could run may stand still before the peers count as lost, how long they may take
// to come together at the start, and the time between looks for errors that NCCL reports in the background.
struct NcclPatience {
  std::chrono::duration<double> timeout = std::chrono::minutes(30);
  std::chrono::duration<double> start_timeout = std::chrono::minutes(5);
  std::chrono::duration<double> poll = std::chrono::milliseconds(100);
};

// What a communicator of NCCL is for. Collectives take as many channels as NCCL likes. Messages get
// kMessageChannels.
enum class NcclUse : std::uint8_t { collectives, messages };

// A call of NCCL that queues something on a stream.
using NcclCall = std::function<ncclResult_t(const NcclFunctions&, ncclComm_t, cudaStream_t)>;

// NCCL cannot end a kernel that waits for a lost peer. So a thread looks for errors and for collectives that
// stand still; when it finds one, or after stop_waiting() or when `control` is abandoned, it reports the failure on `reports` (a stream that
// is used for nothing else) and aborts NCCL, upon which the kernels end and every event throws.
class NcclConnection {
 public:
  NcclConnection(Communicator& control, bool with_messages, std::unique_ptr<Stream> stream,
                 std::unique_ptr<Stream> reports, const NcclFunctions& nccl, const NcclPatience& patience);
  ~NcclConnection();
  NcclConnection(const NcclConnection&) = delete;
  NcclConnection& operator=(const NcclConnection&) = delete;

  // Brings the ranks together; all fail together (AgreedError).
  void connect();

  // What collectives run on.
  Stream& stream() { return *stream_; }

  // Starts a collective: `queue` is given its name and brings its calls onto stream(), after `after` and
  // before the event that is returned. That fails at once if the connection has failed already.
  Event start(std::string_view operation, std::int64_t bytes, const Event& after,
              const std::function<void(const std::string& name)>& queue);

  // For `queue`: one call.
  void submit(const std::string& name, NcclUse use, NcclCall call);

  // Lets everything fail soon, from any thread.
  void stop_waiting() noexcept;

 private:
  // A collective that was started and may still be under way.
  struct Pending {
    std::string name;
    Event after;
    Event done;
    // Since when it was seen to be next and free to run.
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::time_point::max();
  };

  static constexpr std::size_t kMostComms = 2;
  using Ids = std::array<ncclUniqueId, kMostComms>;

  struct Invitation;
  Ids invite();
  void initialize(const Ids& ids);
  void check(ncclResult_t result, const std::string& what);
  void launch(const std::string& name, NcclUse use, const NcclCall& call);
  ncclResult_t settle(const std::string& name, std::chrono::duration<double> timeout);
  ncclResult_t background_state() const;
  ncclComm_t failed_comm() const;
  std::string silence(std::chrono::duration<double> timeout) const;
  std::exception_ptr failed() const;
  void give_up(const std::exception_ptr& failure) noexcept;
  void watch();
  std::exception_ptr look();
  void finalize(bool by_force) noexcept;

  Communicator& control_;
  const int rank_;
  const int size_;
  const NcclFunctions nccl_;
  const NcclPatience patience_;
  const std::size_t num_comms_;
  std::int64_t num_collectives_ = 0;

  mutable std::mutex mutex_;  // of the following; held during calls of NCCL, of which none blocks
  std::condition_variable changed_;
  std::array<ncclComm_t, kMostComms> comms_{};  // by use; all null after a failure
  std::exception_ptr failure_;
  std::deque<Pending> pending_;
  bool abandoned_ = false;
  bool ended_ = false;

  std::unique_ptr<Stream> reports_;
  std::unique_ptr<Stream> stream_;
  std::thread watch_;
};

}  // namespace autoglm
