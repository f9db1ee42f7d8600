#include "base/error.h"
#include "sharding/communicator.h"
#include "sharding/ring.h"
#include "sharding/work.h"

namespace autoglm {
namespace {

class RehearsalCommunicator : public Communicator {
 public:
  RehearsalCommunicator(int rank, int size) : rank_(rank), size_(size) {
    AUTOGLM_CHECK(0 <= rank && rank < size, "rank {} of {}", rank, size);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  using Communicator::reduce_scatter;
  Event reduce_scatter(float*, float*, std::int64_t count, Parts parts, const Event&) override {
    return answer(WorkKind::reductions, count, count * (parts == Parts::bf16 ? 2 : 4) * (size_ - 1));
  }
  Event all_gather(const void*, void*, std::int64_t bytes, const Event&) override {
    return answer(WorkKind::gathers, bytes, bytes * (size_ - 1));
  }
  Event all_reduce(std::span<double>, const Event&) override { return Event(); }
  Event broadcast(void*, std::int64_t bytes, int root, const Event&) override {
    AUTOGLM_CHECK(0 <= root && root < size_, "root {} of {}", root, size_);
    return answer(WorkKind::gathers, bytes, size_ > 1 ? bytes : 0);
  }
  Event barrier() override { return Event(); }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    return std::vector<std::vector<std::byte>>(static_cast<std::size_t>(size_),
                                               std::vector<std::byte>(mine.begin(), mine.end()));
  }

  std::int64_t scratch_bytes() const override { return ring_scratch_bytes(size_); }

 private:
  // In a ring every rank sends as many bytes as it receives, and so it does by messages on one host.
  static Event answer(WorkKind kind, std::int64_t amount, std::int64_t sent) {
    AUTOGLM_CHECK(amount >= 0, "{}", amount);
    if (sent > 0) count_work(kind, {0, sent, 1, 0});
    return Event();
  }

  int rank_;
  int size_;
};

}  // namespace

std::unique_ptr<Communicator> make_rehearsal_communicator(int rank, int size) {
  return std::make_unique<RehearsalCommunicator>(rank, size);
}

}  // namespace autoglm
