// Communicators over the fake NCCL.
#pragma once

#include <array>
#include <utility>

#include "base/error.h"
#include "sharding/nccl/nccl_communicator.h"
#include "tests/sharding/fake_nccl.h"

namespace autoglm::testing {

inline NcclOptions quick() {
  NcclOptions options;
  options.patience.poll = std::chrono::milliseconds(1);
  options.patience.start_timeout = std::chrono::seconds(10);
  return options;
}

// Without sums of ours, and so without messages.
inline NcclOptions only_collectives() {
  NcclOptions options = quick();
  options.sums_by_nccl = true;
  return options;
}

// A communicator with its staging memory, which holds little, so that shards are cut into many pieces.
class Joined {
 public:
  Joined(FakeJob& job, Communicator& control, NcclStreams streams, NcclOptions options) : staging_(1024) {
    streams.reports = std::make_unique<ReportStream>(job, control.rank());
    if (!options.sums_by_nccl) options.staging = std::as_writable_bytes(std::span(staging_));
    communicator_ = make_nccl_communicator(control, std::move(streams), fake_nccl(), options);
  }
  Communicator* operator->() const { return communicator_.get(); }
  Communicator& operator*() const { return *communicator_; }

 private:
  struct alignas(16) Line {
    std::array<float, 4> values;
  };
  std::vector<Line> staging_;
  std::unique_ptr<Communicator> communicator_;
};

inline Joined join(FakeJob& job, Communicator& control, const NcclOptions& options = quick()) {
  return {job, control, {make_host_stream("collectives"), make_host_stream("sums"), nullptr}, options};
}

inline Joined join_hanging(FakeJob& job, Communicator& control, const NcclOptions& options) {
  return {job,
          control,
          {std::make_unique<HangingStream>(job), std::make_unique<HangingStream>(job), nullptr},
          options};
}

// What the event throws: its exit code and message, or done and "".
inline std::pair<ExitCode, std::string> outcome(const Event& event) {
  try {
    event.synchronize();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ExitCode::done, ""};
}

}  // namespace autoglm::testing
