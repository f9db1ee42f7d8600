// What a rank does when another one is lost: its collectives fail, and if it does not end upon that, it is ended.
#pragma once

#include <exception>
#include <mutex>
#include <optional>
#include <string>

#include "launcher/report/console.h"
#include "sharding/launch.h"
#include "sharding/peers/peer_watch.h"

namespace autoglm {

// Outlives MPI's session, whose end waits for the other ranks.
class LostPeers {
 public:
  explicit LostPeers(Console& console) : console_(console) {}

  // Connects the ranks on a host of this name. Collective.
  void begin(Communicator& control, const std::string& host, const PeerPatience& patience = {});

  // From now on `control` is not used; it may end.
  void release_control();

  // Reports a failure that not all ranks have met, and returns its exit code. That of a peer that is lost is reported
  // by one rank, by the peer's name.
  int report(const RankEnvironment& environment, const std::exception_ptr& failure);

 private:
  std::optional<LostPeer> await_name() const;

  Console& console_;
  std::mutex mutex_;  // of the following
  Communicator* control_ = nullptr;
  std::optional<PeerWatch> watch_;
};

}  // namespace autoglm
