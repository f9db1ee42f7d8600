#include "sharding/nccl/nccl_connection.h"
#include "sharding/reduce_route.h"

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

// The event of a collective that was not started because the connection has failed.
class FailedEvent : public Event::State {
 public:
  explicit FailedEvent(std::exception_ptr failure) : failure_(std::move(failure)) {}
  bool ready() const override { return true; }
  void wait() const override { std::rethrow_exception(failure_); }

 private:
  std::exception_ptr failure_;
};

ncclConfig_t make_config(NcclUse use) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // a call that waits for a peer could not be aborted
  if (use == NcclUse::messages) config.maxCTAs = kMessageChannels;
  return config;
}

// Waits between polls of the calling thread.
void pause_after(Clock::duration waited) {
  std::this_thread::sleep_for(
      std::clamp<Clock::duration>(waited / 8, std::chrono::microseconds(5), std::chrono::microseconds(250)));
}

}  // namespace

// What rank 0 tells the others, and all compare.
struct NcclConnection::Invitation {
  int version = 0;
  Ids ids = {};
};

NcclConnection::NcclConnection(Communicator& control, bool with_messages, std::unique_ptr<Stream> stream,
                               std::unique_ptr<Stream> reports, const NcclFunctions& nccl,
                               const NcclPatience& patience)
    : control_(control),
      rank_(control.rank()),
      size_(control.size()),
      nccl_(nccl),
      patience_(patience),
      num_comms_(with_messages ? 2 : 1),
      reports_(std::move(reports)),
      stream_(std::move(stream)) {}

NcclConnection::~NcclConnection() {
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
  if (comms_[0] != nullptr) finalize(unwinding);
}

void NcclConnection::connect() {
  const Ids ids = invite();
  run_agreed(control_, [&] {
    stream_->submit([this, &ids] { initialize(ids); });
    stream_->synchronize();
  });
  watch_ = std::thread([this] { watch(); });
}

NcclConnection::Ids NcclConnection::invite() {
  Invitation mine;
  run_agreed(control_, [&] {
    check(nccl_.get_version(&mine.version), "getting the version");
    for (std::size_t i = 0; rank_ == 0 && i < num_comms_; ++i) {
      check(nccl_.get_unique_id(&mine.ids[i]), "getting an id for the job");
    }
  });
  const std::vector<Invitation> all = gather(control_, mine);
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r].version == all[0].version) continue;
    throw AgreedError(
        ExitCode::unavailable,
        fmt::format("rank {} has version {} of NCCL and rank 0 has {}: install the same on all hosts", r,
                    all[r].version, all[0].version));
  }
  return all[0].ids;
}

void NcclConnection::initialize(const Ids& ids) {
  const std::string name = fmt::format("rank {}, coming together", rank_);
  try {
    for (std::size_t i = 0; i < num_comms_; ++i) {
      ncclConfig_t config = make_config(static_cast<NcclUse>(i));
      ncclResult_t result = ncclSuccess;
      {
        const std::lock_guard lock(mutex_);
        result = nccl_.comm_init_rank_config(&comms_[i], size_, ids[i], rank_, &config);
      }
      if (result == ncclInProgress) result = settle(name, patience_.start_timeout);
      check(result, name);
    }
  } catch (...) {
    give_up(std::current_exception());
    throw;
  }
}

// Throws unless the call succeeded. Not to be called under the mutex.
void NcclConnection::check(ncclResult_t result, const std::string& what) {
  if (result == ncclSuccess) return;
  const std::lock_guard lock(mutex_);
  const std::string text = nccl_error_text(nccl_, result, failed_comm());
  fail(nccl_exit_code(result, text), "{}: {}", what, text);
}

Event NcclConnection::start(std::string_view operation, std::int64_t bytes, const Event& after,
                            const std::function<void(const std::string& name)>& queue) {
  std::string name = fmt::format("rank {}, {} number {}", rank_, operation, num_collectives_++);
  if (bytes > 0) name += fmt::format(" of {} bytes", bytes);
  if (const std::exception_ptr failure = failed()) return Event(std::make_shared<FailedEvent>(failure));
  Event done;
  try {
    stream_->wait(after);
    queue(name);
    done = stream_->record();
  } catch (const std::exception&) {  // a CUDA stream throws to the caller
    give_up(std::current_exception());
    return Event(std::make_shared<FailedEvent>(failed()));
  }
  const std::lock_guard lock(mutex_);
  pending_.push_back({std::move(name), after, done});
  return done;
}

void NcclConnection::submit(const std::string& name, NcclUse use, NcclCall call) {
  stream_->submit([this, name, use, call = std::move(call)] { launch(name, use, call); });
}

// Returns when NCCL has queued what the call asks for.
void NcclConnection::launch(const std::string& name, NcclUse use, const NcclCall& call) {
  try {
    ncclResult_t result = ncclSuccess;
    {
      const std::lock_guard lock(mutex_);
      if (failure_) std::rethrow_exception(failure_);
      result = call(nccl_, comms_[static_cast<std::size_t>(use)],
                    static_cast<cudaStream_t>(stream_->native_handle()));
    }
    if (result == ncclInProgress) result = settle(name, patience_.timeout);
    check(result, name);
  } catch (...) {
    give_up(std::current_exception());
    throw;
  }
}

// Waits for the outcome of a call that NCCL goes on with in the background.
ncclResult_t NcclConnection::settle(const std::string& name, std::chrono::duration<double> timeout) {
  const Clock::time_point began = Clock::now();
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) std::rethrow_exception(failure_);
      const ncclResult_t state = background_state();
      if (state != ncclInProgress) return state;
    }
    if (const auto why = control_.abandoned())
      fail(ExitCode::peer_lost, "{}: abandoned because {}", name, *why);
    if (Clock::now() - began > timeout) fail(ExitCode::peer_lost, "{}: {}", name, silence(timeout));
    pause_after(Clock::now() - began);
  }
}

// An error of any communicator, or whether one is still at work. Under the mutex, before a failure.
ncclResult_t NcclConnection::background_state() const {
  ncclResult_t all = ncclSuccess;
  for (const ncclComm_t comm : comms_) {
    if (comm == nullptr) continue;
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = nccl_.comm_get_async_error(comm, &state);
    if (result != ncclSuccess) return result;
    if (state != ncclSuccess && state != ncclInProgress) return state;
    if (state == ncclInProgress) all = state;
  }
  return all;
}

// The one whose last error is that of a failure. Under the mutex.
ncclComm_t NcclConnection::failed_comm() const {
  for (const ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    if (comm == nullptr) continue;
    if (nccl_.comm_get_async_error(comm, &state) != ncclSuccess) return comm;
    if (state != ncclSuccess && state != ncclInProgress) return comm;
  }
  return comms_[0];
}

std::string NcclConnection::silence(std::chrono::duration<double> timeout) const {
  const std::string who = size_ == 2 ? fmt::format("rank {}", 1 - rank_) : "some other rank";
  return fmt::format("{} has not answered for {}", who, format_duration(timeout.count()));
}

std::exception_ptr NcclConnection::failed() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

// Makes this failure the one of everything to come. The first one counts.
void NcclConnection::give_up(const std::exception_ptr& failure) noexcept {
  std::array<ncclComm_t, kMostComms> comms{};
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = failure;
    comms = std::exchange(comms_, {});
  }
  // First the report: once aborted, kernels end and their events look like those of good collectives.
  try {
    reports_->wait(Event(std::make_shared<FailedEvent>(failure)));
    reports_->synchronize();
  } catch (const std::exception&) {
  }
  for (const ncclComm_t comm : comms) {
    if (comm != nullptr) static_cast<void>(nccl_.comm_abort(comm));
  }
}

void NcclConnection::watch() {
  std::unique_lock lock(mutex_);
  while (!ended_ && !failure_) {
    if (const std::exception_ptr failure = look()) {
      lock.unlock();
      give_up(failure);
      return;
    }
    changed_.wait_for(lock, patience_.poll, [this] { return ended_ || abandoned_; });
  }
}

void NcclConnection::stop_waiting() noexcept {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  changed_.notify_all();
}

// What has gone wrong, if anything. Under the mutex.
std::exception_ptr NcclConnection::look() {
  while (!pending_.empty() && pending_.front().done.ready()) pending_.pop_front();
  const std::string name =
      pending_.empty() ? fmt::format("rank {}, between collectives", rank_) : pending_.front().name;
  const auto failure = [&name](ExitCode code, const std::string& what) {
    return std::make_exception_ptr(Error(code, fmt::format("{}: {}", name, what)));
  };
  if (const auto why = control_.abandoned()) {
    return failure(ExitCode::peer_lost, fmt::format("abandoned because {}", *why));
  }
  if (abandoned_) return failure(ExitCode::peer_lost, "this rank has given up waiting for the others");
  const ncclResult_t state = background_state();
  if (state != ncclSuccess && state != ncclInProgress) {
    const std::string text = nccl_error_text(nccl_, state, failed_comm());
    return failure(nccl_exit_code(state, text), text);
  }
  if (pending_.empty() || !pending_.front().after.ready()) return nullptr;
  Pending& next = pending_.front();
  next.since = std::min(next.since, Clock::now());
  if (Clock::now() - next.since <= patience_.timeout) return nullptr;
  return failure(ExitCode::peer_lost, silence(patience_.timeout));
}

// Ends NCCL in order, or by force if the peers do not end with it.
void NcclConnection::finalize(bool by_force) noexcept {
  bool ended = false;
  if (!by_force) {
    ncclResult_t result = ncclSuccess;
    const Clock::time_point began = Clock::now();
    for (std::size_t i = 0; i < num_comms_; ++i) {
      const ncclResult_t one = nccl_.comm_finalize(comms_[i]);
      if (result == ncclSuccess || result == ncclInProgress) result = one;
    }
    if (result == ncclSuccess || result == ncclInProgress) result = background_state();
    while (result == ncclInProgress && Clock::now() - began < std::chrono::seconds(10)) {
      pause_after(Clock::now() - began);
      result = background_state();
    }
    ended = result == ncclSuccess;
  }
  for (std::size_t i = 0; i < num_comms_; ++i) {
    static_cast<void>(ended ? nccl_.comm_destroy(comms_[i]) : nccl_.comm_abort(comms_[i]));
  }
}

}  // namespace autoglm
