#include "launcher/job/lost_peers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "launcher/report/failure.h"

namespace autoglm {
namespace {

constexpr const char* kProgram = "autoglm-train";

}  // namespace

void LostPeers::begin(Communicator& control, const std::string& host, const PeerPatience& patience) {
  control_ = &control;
  const auto on_loss = [this](const LostPeer& peer) {
    const std::lock_guard lock(mutex_);
    if (control_ != nullptr) control_->abandon(peer.sentence);
  };
  // Whatever this rank is in the middle of, nobody waits for it any more.
  const auto on_stuck = [this](const LostPeer& peer) {
    if (watch_->speaks()) console_.print(fmt::format("{}: {}", kProgram, peer.sentence));
    std::_Exit(static_cast<int>(ExitCode::peer_lost));
  };
  watch_.emplace(control, host, patience, PeerActions{on_loss, on_stuck});
  if (control.rank() == 0 && !watch_->problem().empty()) {
    spdlog::warn(
        "ranks cannot watch each other ({}): if one dies and mpirun does not end the job, that is noticed "
        "after half an hour",
        watch_->problem());
  }
}

void LostPeers::release_control() {
  const std::lock_guard lock(mutex_);
  control_ = nullptr;
}

// NCCL and MPI may find a connection broken a moment before the watch does, and do not know whose it was.
std::optional<LostPeer> LostPeers::await_name() const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (watch_ && !watch_->lost() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return watch_ ? watch_->lost() : std::nullopt;
}

int LostPeers::report(const RankEnvironment& environment, const std::exception_ptr& failure) {
  const FailureSummary summary = summarize_failure(failure);
  const bool lost = summary.exit_code == static_cast<int>(ExitCode::peer_lost);
  const std::optional<LostPeer> peer = lost ? await_name() : std::nullopt;
  if (!peer) return report_failure(kProgram, console_, environment, failure);
  console_.set_live_line("");
  if (watch_->speaks()) console_.print(fmt::format("{}: {}", kProgram, peer->sentence));
  return summary.exit_code;
}

}  // namespace autoglm
