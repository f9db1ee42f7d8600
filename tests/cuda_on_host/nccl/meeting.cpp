#include "tests/cuda_on_host/nccl/meeting.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

#include "tests/cuda_on_host/runtime/interface.h"

namespace cuda_on_host {

struct Meeting::Shared {
  std::atomic<int> joined;
  std::atomic<pid_t> pid[kMostRanks];
  std::atomic<std::uint64_t> arrived[kMostRanks];  // barriers that the rank has reached
  Call call[kMostRanks];
  char card[kMostRanks][128];
  char data[kMostRanks][kSlot];
  Mailbox mail[kMostRanks][kMostRanks];
};

Meeting::~Meeting() {
  if (shared_ == nullptr) return;
  if (shared_->joined < size_) shm_unlink(name_.c_str());
  munmap(shared_, sizeof(Shared));
}

bool Meeting::open() {
  const int file = shm_open(name_.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0) return false;
  const bool sized = ftruncate(file, sizeof(Shared)) == 0;
  void* at = sized ? mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (at == MAP_FAILED) return false;
  shared_ = static_cast<Shared*>(at);
  return true;
}

Met Meeting::join(const std::string& card) {
  if (!open()) return Met::aborted;
  std::strncpy(shared_->card[rank_], card.c_str(), sizeof shared_->card[rank_] - 1);
  shared_->pid[rank_] = getpid();
  ++shared_->joined;
  const Met met = wait_until([&] { return shared_->joined >= size_; });
  if (met == Met::yes && rank_ == 0) shm_unlink(name_.c_str());
  return met;
}

bool Meeting::two_on_one_card() const {
  for (int a = 0; a < size_; ++a) {
    for (int b = 0; b < a; ++b) {
      if (std::strcmp(shared_->card[a], shared_->card[b]) == 0) return true;
    }
  }
  return false;
}

// What comes before the card.
bool Meeting::on_one_host(int a, int b) const {
  const auto host = [this](int rank) {
    const std::string_view place = shared_->card[rank];
    return place.substr(0, place.rfind('/'));
  };
  return host(a) == host(b);
}

bool Meeting::somebody_is_gone() const {
  for (int rank = 0; rank < size_; ++rank) {
    const pid_t pid = shared_->pid[rank];
    if (pid != 0 && kill(pid, 0) != 0 && errno == ESRCH) return true;
  }
  return false;
}

Met Meeting::wait_until(const std::function<bool()>& met) const {
  constexpr int kSpins = 200, kLooks = 512;
  for (int turn = 0; !met(); ++turn) {
    if (aborted_) return Met::aborted;
    if (turn > kSpins) std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (turn % kLooks != kLooks - 1 || !somebody_is_gone() || met()) continue;
    // Ranks that come together have connections that break.
    if (shared_->joined < size_ || cuda_on_host_sees_dead_peers()) return Met::peer_gone;
  }
  return Met::yes;
}

Met Meeting::barrier() {
  const std::uint64_t mine = ++barriers_;
  shared_->arrived[rank_] = mine;
  return wait_until([&] {
    for (int rank = 0; rank < size_; ++rank) {
      if (shared_->arrived[rank] < mine) return false;
    }
    return true;
  });
}

Met Meeting::agree(const Call& call, bool& same) {
  shared_->call[rank_] = call;
  if (const Met met = barrier(); met != Met::yes) return met;
  same = true;
  for (int rank = 0; rank < size_; ++rank) same = same && shared_->call[rank] == call;
  return barrier();
}

Call Meeting::call_of(int rank) const {
  return shared_->call[rank];
}

char* Meeting::slot(int rank) const {
  return shared_->data[rank];
}

Mailbox& Meeting::mailbox(int from, int to) const {
  return shared_->mail[from][to];
}

}  // namespace cuda_on_host
