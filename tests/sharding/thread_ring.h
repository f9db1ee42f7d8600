// Ranks as threads of one process, linked by queues: the ring without MPI.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "sharding/ring_communicator.h"

namespace autoglm::testing {

// Messages from one rank to the next.
class Wire {
 public:
  void put(std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    messages_.emplace_back(data.begin(), data.end());
  }
  bool take(std::span<std::byte> to) {
    const std::lock_guard lock(mutex_);
    if (messages_.empty()) return false;
    AUTOGLM_CHECK(messages_.front().size() == to.size(), "{} bytes sent, {} expected",
                  messages_.front().size(), to.size());
    std::copy(messages_.front().begin(), messages_.front().end(), to.begin());
    messages_.pop_front();
    return true;
  }

 private:
  std::mutex mutex_;
  std::deque<std::vector<std::byte>> messages_;
};

// A message leaves only when send_done() is asked, and a receive is filled only when receive_done() is: so a
// schedule that counts on progress in the background, or that touches buffers too early, fails.
class ThreadLink : public RingLink {
 public:
  ThreadLink(std::vector<Wire>& wires, int rank)
      : rank_(rank), size_(static_cast<int>(wires.size())), wires_(wires) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void start_send(std::span<const std::byte> data, int slot) override { sends_.push_back({slot, data}); }
  void start_receive(std::span<std::byte> data, int slot) override { receives_.push_back({slot, data}); }

  bool send_done(int slot) override {
    AUTOGLM_CHECK(!sends_.empty() && sends_.front().slot == slot, "sends are asked for in order");
    wires_[static_cast<std::size_t>(rank_)].put(sends_.front().data);
    sends_.pop_front();
    return true;
  }

  bool receive_done(int slot) override {
    AUTOGLM_CHECK(!receives_.empty() && receives_.front().slot == slot, "receives are asked for in order");
    Wire& wire = wires_[static_cast<std::size_t>((rank_ + size_ - 1) % size_)];
    if (!wire.take(receives_.front().data)) return false;
    receives_.pop_front();
    return true;
  }

 private:
  template <typename Byte>
  struct Message {
    int slot;
    std::span<Byte> data;
  };

  int rank_;
  int size_;
  std::vector<Wire>& wires_;
  std::deque<Message<const std::byte>> sends_;
  std::deque<Message<std::byte>> receives_;
};

// Runs `rank_main` on `size` ranks and returns what each of them threw: "" or the message.
inline std::vector<std::string> run_ranks(int size, const RingOptions& options,
                                          const std::function<void(Communicator&)>& rank_main) {
  std::vector<Wire> wires(static_cast<std::size_t>(size));
  std::vector<std::string> failures(static_cast<std::size_t>(size));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.emplace_back([&, rank] {
      try {
        auto stream = make_host_stream("ring " + std::to_string(rank));
        auto communicator =
            make_ring_communicator(std::make_unique<ThreadLink>(wires, rank), *stream, options);
        rank_main(*communicator);
      } catch (const std::exception& error) {
        failures[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return failures;
}

}  // namespace autoglm::testing
