#include "sharding/nccl/nccl_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "base/units.h"
#include "sharding/agree.h"
#include "sharding/cuda/cuda_stream.h"
#include "sharding/nccl/one_nccl.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

// The event of a collective that was not started because the communicator has failed.
class FailedEvent : public Event::State {
 public:
  explicit FailedEvent(std::exception_ptr failure) : failure_(std::move(failure)) {}
  bool ready() const override { return true; }
  void wait() const override { std::rethrow_exception(failure_); }

 private:
  std::exception_ptr failure_;
};

// What rank 0 tells the others, and all compare.
struct Invitation {
  int version = 0;
  ncclUniqueId id = {};
};

void require_setting(const char* name, const char* value) {
  const char* const set = std::getenv(name);
  if (set != nullptr && std::string_view(set) != value) {
    fail(ExitCode::usage, "{}={} contradicts the deterministic mode, which needs {}: unset it", name, set,
         value);
  }
  setenv(name, value, 1);
}

ncclConfig_t make_config(const NcclOptions& options) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // a call that waits for a peer could not be aborted
  if (options.deterministic) config.minCTAs = config.maxCTAs = 1;
  return config;
}

// Waits between polls of the calling thread.
void pause_after(Clock::duration waited) {
  std::this_thread::sleep_for(
      std::clamp<Clock::duration>(waited / 8, std::chrono::microseconds(5), std::chrono::microseconds(250)));
}

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Communicator& control, std::unique_ptr<Stream> stream, std::unique_ptr<Stream> reports,
                   const NcclFunctions& nccl, const NcclOptions& options)
      : control_(control),
        rank_(control.rank()),
        size_(control.size()),
        nccl_(nccl),
        options_(options),
        reports_(std::move(reports)),
        stream_(std::move(stream)) {}

  // Brings the ranks together; all fail together.
  void connect() {
    const Invitation invitation = invite();
    run_agreed(control_, [&] {
      stream_->submit([this, &invitation] { initialize(invitation.id); });
      stream_->synchronize();
    });
    watch_ = std::thread([this] { watch(); });
  }

  ~NcclCommunicator() override {
    const bool unwinding = std::uncaught_exceptions() > 0;
    if (unwinding) stop_waiting();
    try {
      stream_->synchronize();
    } catch (const std::exception&) {  // whoever waited for the work has seen it
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    if (watch_.joinable()) watch_.join();
    if (comm_ != nullptr) finalize(unwinding);
  }

  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::int64_t scratch_bytes() const override { return 0; }

  Event reduce_scatter(float* input, float* output, std::int64_t count, const Event& after) override {
    AUTOGLM_CHECK(count >= 0, "{} elements", count);
    const auto bytes = count * static_cast<std::int64_t>(sizeof(float));
    return start("reduce_scatter", bytes, after, [=, this](ncclComm_t comm, cudaStream_t stream) {
      return nccl_.reduce_scatter(input, output, static_cast<std::size_t>(count), ncclFloat32, ncclSum, comm,
                                  stream);
    });
  }

  Event all_gather(const void* shard, void* whole, std::int64_t bytes, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0, "{} bytes", bytes);
    return start("all_gather", bytes, after, [=, this](ncclComm_t comm, cudaStream_t stream) {
      return nccl_.all_gather(shard, whole, static_cast<std::size_t>(bytes), ncclUint8, comm, stream);
    });
  }

  Event broadcast(void* data, std::int64_t bytes, int root, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0 && 0 <= root && root < size_, "{} bytes from rank {}", bytes, root);
    return start("broadcast", bytes, after, [=, this](ncclComm_t comm, cudaStream_t stream) {
      return nccl_.broadcast(data, data, static_cast<std::size_t>(bytes), ncclUint8, root, comm, stream);
    });
  }

  Event all_reduce(std::span<double> values, const Event& after) override {
    return control_.all_reduce(values, after);
  }
  Event barrier() override { return control_.barrier(); }
  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    return control_.exchange(mine);
  }

  void abandon() noexcept override {
    stop_waiting();
    control_.abandon();
  }

 private:
  // A collective that was started and may still be under way.
  struct Pending {
    std::string name;
    Event after;
    Event done;
    Clock::time_point since = Clock::time_point::max();  // it was seen to be next and free to run
  };

  Invitation invite() {
    Invitation mine;
    run_agreed(control_, [&] {
      if (options_.deterministic) {
        require_setting("NCCL_ALGO", "Ring");
        require_setting("NCCL_PROTO", "Simple");
        require_setting("NCCL_NVLS_ENABLE", "0");
      }
      check(nccl_.get_version(&mine.version), "getting the version");
      if (rank_ == 0) check(nccl_.get_unique_id(&mine.id), "getting an id for the job");
    });
    const auto all = control_.exchange(std::as_bytes(std::span(&mine, 1)));
    Invitation theirs;
    for (std::size_t r = all.size(); r-- > 0;) {  // ends with rank 0's
      AUTOGLM_CHECK(all[r].size() == sizeof(theirs), "{} bytes", all[r].size());
      std::memcpy(&theirs, all[r].data(), sizeof(theirs));
      if (r > 0 && theirs.version != version_of(all[0])) {
        throw AgreedError(
            ExitCode::unavailable,
            fmt::format("rank {} has version {} of NCCL and rank 0 has {}: install the same on all hosts", r,
                        theirs.version, version_of(all[0])));
      }
    }
    return theirs;
  }

  static int version_of(const std::vector<std::byte>& invitation) {
    Invitation read;
    std::memcpy(&read, invitation.data(), sizeof(read));
    return read.version;
  }

  void initialize(const ncclUniqueId& id) {
    ncclConfig_t config = make_config(options_);
    ncclResult_t result = ncclSuccess;
    {
      const std::lock_guard lock(mutex_);
      result = nccl_.comm_init_rank_config(&comm_, size_, id, rank_, &config);
    }
    const std::string name = fmt::format("rank {}, coming together", rank_);
    try {
      if (result == ncclInProgress) result = settle(name, options_.start_timeout);
      check(result, name);
    } catch (...) {
      give_up(std::current_exception());
      throw;
    }
  }

  // Throws unless the call succeeded. Not to be called under the mutex.
  void check(ncclResult_t result, const std::string& what) {
    if (result == ncclSuccess) return;
    const std::lock_guard lock(mutex_);
    fail(nccl_exit_code(result), "{}: {}", what, nccl_error_text(nccl_, result, comm_));
  }

  template <typename Call>
  Event start(const char* operation, std::int64_t bytes, const Event& after, Call call) {
    std::string name = fmt::format("rank {}, {} number {}", rank_, operation, num_collectives_++);
    if (bytes > 0) name += fmt::format(" of {} bytes", bytes);
    if (const std::exception_ptr failure = failed()) return Event(std::make_shared<FailedEvent>(failure));
    Event done;
    try {
      stream_->wait(after);
      stream_->submit([this, name, call] { launch(name, call); });
      done = stream_->record();
    } catch (const std::exception&) {  // a CUDA stream throws to the caller
      give_up(std::current_exception());
      return Event(std::make_shared<FailedEvent>(failed()));
    }
    const std::lock_guard lock(mutex_);
    pending_.push_back({std::move(name), after, done});
    return done;
  }

  // Returns when NCCL has queued the collective.
  template <typename Call>
  void launch(const std::string& name, const Call& call) {
    try {
      ncclResult_t result = ncclSuccess;
      {
        const std::lock_guard lock(mutex_);
        if (failure_) std::rethrow_exception(failure_);
        result = call(comm_, static_cast<cudaStream_t>(stream_->native_handle()));
      }
      if (result == ncclInProgress) result = settle(name, options_.timeout);
      check(result, name);
    } catch (...) {
      give_up(std::current_exception());
      throw;
    }
  }

  // Waits for the outcome of a call that NCCL goes on with in the background.
  ncclResult_t settle(const std::string& name, std::chrono::duration<double> timeout) {
    const Clock::time_point began = Clock::now();
    while (true) {
      {
        const std::lock_guard lock(mutex_);
        if (failure_) std::rethrow_exception(failure_);
        const ncclResult_t state = background_state();
        if (state != ncclInProgress) return state;
      }
      if (Clock::now() - began > timeout) fail(ExitCode::peer_lost, "{}: {}", name, silence(timeout));
      pause_after(Clock::now() - began);
    }
  }

  // Under the mutex, with a living communicator.
  ncclResult_t background_state() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = nccl_.comm_get_async_error(comm_, &state);
    return result == ncclSuccess ? state : result;
  }

  std::string silence(std::chrono::duration<double> timeout) const {
    const std::string who = size_ == 2 ? fmt::format("rank {}", 1 - rank_) : "some other rank";
    return fmt::format("{} has not answered for {}", who, format_duration(timeout.count()));
  }

  std::exception_ptr failed() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  // Makes this failure the one of everything to come. The first one counts.
  void give_up(const std::exception_ptr& failure) noexcept {
    ncclComm_t comm = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (failure_) return;
      failure_ = failure;
      comm = std::exchange(comm_, nullptr);
    }
    // First the report: once aborted, kernels end and their events look like those of good collectives.
    try {
      reports_->wait(Event(std::make_shared<FailedEvent>(failure)));
      reports_->synchronize();
    } catch (const std::exception&) {
    }
    if (comm != nullptr) static_cast<void>(nccl_.comm_abort(comm));
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!ended_ && !failure_) {
      if (const std::exception_ptr failure = look()) {
        lock.unlock();
        give_up(failure);
        return;
      }
      changed_.wait_for(lock, options_.poll, [this] { return ended_ || abandoned_; });
    }
  }

  void stop_waiting() noexcept {
    {
      const std::lock_guard lock(mutex_);
      abandoned_ = true;
    }
    changed_.notify_all();
  }

  // What has gone wrong, if anything. Under the mutex.
  std::exception_ptr look() {
    while (!pending_.empty() && pending_.front().done.ready()) pending_.pop_front();
    const std::string name =
        pending_.empty() ? fmt::format("rank {}, between collectives", rank_) : pending_.front().name;
    const auto failure = [&name](ExitCode code, const std::string& what) {
      return std::make_exception_ptr(Error(code, fmt::format("{}: {}", name, what)));
    };
    if (abandoned_) return failure(ExitCode::peer_lost, "this rank has given up waiting for the others");
    const ncclResult_t state = background_state();
    if (state != ncclSuccess && state != ncclInProgress) {
      return failure(nccl_exit_code(state), nccl_error_text(nccl_, state, comm_));
    }
    if (pending_.empty() || !pending_.front().after.ready()) return nullptr;
    Pending& next = pending_.front();
    next.since = std::min(next.since, Clock::now());
    if (Clock::now() - next.since <= options_.timeout) return nullptr;
    return failure(ExitCode::peer_lost, silence(options_.timeout));
  }

  // Ends NCCL in order, or by force if the peers do not end with it.
  void finalize(bool by_force) noexcept {
    bool ended = false;
    if (!by_force) {
      ncclResult_t result = nccl_.comm_finalize(comm_);
      const Clock::time_point began = Clock::now();
      if (result == ncclSuccess) result = background_state();
      while (result == ncclInProgress && Clock::now() - began < std::chrono::seconds(10)) {
        pause_after(Clock::now() - began);
        result = background_state();
      }
      ended = result == ncclSuccess;
    }
    static_cast<void>(ended ? nccl_.comm_destroy(comm_) : nccl_.comm_abort(comm_));
  }

  Communicator& control_;
  const int rank_;
  const int size_;
  const NcclFunctions nccl_;
  const NcclOptions options_;
  std::int64_t num_collectives_ = 0;

  mutable std::mutex mutex_;  // of the following; held during calls of NCCL, of which none blocks
  std::condition_variable changed_;
  ncclComm_t comm_ = nullptr;
  std::exception_ptr failure_;
  std::deque<Pending> pending_;
  bool abandoned_ = false;
  bool ended_ = false;

  std::unique_ptr<Stream> reports_;
  std::unique_ptr<Stream> stream_;
  std::thread watch_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, std::unique_ptr<Stream> stream,
                                                     std::unique_ptr<Stream> reports,
                                                     const NcclFunctions& nccl, const NcclOptions& options) {
  auto communicator =
      std::make_unique<NcclCommunicator>(control, std::move(stream), std::move(reports), nccl, options);
  communicator->connect();
  return communicator;
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, int device,
                                                     const NcclOptions& options) {
  std::unique_ptr<Stream> stream, reports;
  run_agreed(control, [&] {
    check_one_nccl(linked_nccl());
    stream = make_cuda_stream(device, true);
    reports = make_cuda_stream(device);
  });
  return make_nccl_communicator(control, std::move(stream), std::move(reports), linked_nccl(), options);
}

}  // namespace autoglm
