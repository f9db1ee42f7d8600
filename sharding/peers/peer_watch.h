// Notices that another rank's process has ended, or gives no sign of life: neither MPI nor NCCL tells before their
// timeouts, if at all.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "sharding/communicator.h"
#include "sharding/peers/peer_sockets.h"

namespace autoglm {

struct PeerPatience {
  // How long ranks may take to connect at the start.
  std::chrono::duration<double> connect = std::chrono::seconds(20);
  // Between signs of life, and without any before a rank counts as lost. A debugger stops a process for longer, but so
  // do hosts that swap.
  std::chrono::duration<double> beat = std::chrono::seconds(1);
  std::chrono::duration<double> silence = std::chrono::seconds(120);
  // What a launcher gets to end this process too, before it acts by itself, when a peer has ended.
  std::chrono::duration<double> grace = std::chrono::seconds(3);
  // How long this process may take to end after that.
  std::chrono::duration<double> ending = std::chrono::seconds(15);
};

// Once a rank is lost the others stay as they are: the first loss is the one that counts.
struct LostPeer {
  int rank = 0;
  std::string sentence;  // "rank 3 on node7 has ended ..."
};

// Called on the watch's thread.
struct PeerActions {
  std::function<void(const LostPeer&)> on_loss;   // makes this process end
  std::function<void(const LostPeer&)> on_stuck;  // it has not in PeerPatience::ending
};

// All ranks are connected to rank 0, which tells the others of losses. A process that ends closes its connections,
// whatever ends it; one that is stopped or out of reach falls silent.
class PeerWatch {
 public:
  // Connects the ranks of `control`, on the host of this name. Where that is impossible there is no watch, and
  // problem() says why on all ranks. Collective.
  PeerWatch(Communicator& control, const std::string& host, const PeerPatience& patience,
            PeerActions actions);

  // Tells the others that this rank ends as it should, unless it is an exception that ends it.
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  const std::string& problem() const { return problem_; }

  // The rank that was lost, if one was.
  std::optional<LostPeer> lost() const;

  // Whether this rank is the one that tells of the loss.
  bool speaks() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Message;
  // A rank that this one hears.
  struct Link {
    int rank = 0;
    Socket socket;
    Clock::time_point heard = Clock::now();
    bool watched = true;      // until it leaves or is lost
    std::string unread = {};  // the beginning of a message
  };

  void connect(Communicator& control);
  void run();
  void wait_for_messages(Clock::time_point until);
  void receive(Link& link);
  void take(Link& link, const Message& message);
  void look_for_silence();
  void lose(int rank, bool silent);
  void act();
  void send_to_all(const Message& message);

  const int rank_;
  const int size_;
  const PeerPatience patience_;
  const PeerActions actions_;
  std::vector<std::string> hosts_;
  std::string problem_;
  std::vector<Link> links_;   // of the thread
  Clock::time_point looked_;  // for silence, by the thread
  Socket wake_reader_, wake_writer_;

  mutable std::mutex mutex_;  // of the following
  std::optional<LostPeer> lost_;
  bool ending_ = false;

  Clock::time_point next_action_ = Clock::time_point::max();
  int num_actions_ = 0;
  std::thread thread_;
};

}  // namespace autoglm
