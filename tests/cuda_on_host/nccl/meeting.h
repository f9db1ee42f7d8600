// Where the ranks of a communicator meet: shared memory of the host, barriers, and who is gone.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace cuda_on_host {

// What a rank is about to do; all must do the same.
struct Call {
  char kind = 0;
  std::uint64_t count = 0;
  int type = 0, root = 0;
  bool operator==(const Call&) const = default;
};

// Where messages from one rank to another pass, piece by piece.
struct Mailbox {
  static constexpr std::size_t kPiece = std::size_t{256} << 10;

  std::atomic<std::uint64_t> written, taken;  // pieces
  std::uint64_t message_bytes;                // of the whole message, as the sender says
  char data[kPiece];
};

enum class Met { yes, aborted, peer_gone };

class Meeting {
 public:
  static constexpr int kMostRanks = 16;
  static constexpr std::size_t kSlot = std::size_t{1} << 20;  // bytes that a rank shows at a time

  Meeting(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  // Waits for all ranks. `card` says where the rank works: two may not say the same.
  Met join(const std::string& card);
  bool two_on_one_card() const;
  bool on_one_host(int a, int b) const;

  Met barrier();
  Met agree(const Call& call, bool& same);  // shows the call to all
  Call call_of(int rank) const;
  char* slot(int rank) const;

  Mailbox& mailbox(int from, int to) const;

  Met wait_until(const std::function<bool()>& met) const;
  void abort() { aborted_ = true; }

 private:
  struct Shared;

  bool open();
  bool somebody_is_gone() const;

  std::string name_;
  int rank_, size_;
  std::uint64_t barriers_ = 0;
  std::atomic<bool> aborted_{false};
  Shared* shared_ = nullptr;
};

}  // namespace cuda_on_host
