#include "base/error.h"
#include "sharding/communicator.h"

namespace autoglm {
namespace {

class SelfCommunicator : public Communicator {
 public:
  explicit SelfCommunicator(std::unique_ptr<Stream> own) : own_(std::move(own)), stream_(*own_) {}
  explicit SelfCommunicator(Stream& stream) : stream_(stream) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }

  using Communicator::reduce_scatter;
  Event reduce_scatter(float* input, float* output, std::int64_t count, Parts, const Event& after) override {
    return copy(output, input, count * static_cast<std::int64_t>(sizeof(float)), after);
  }

  Event all_gather(const void* shard, void* whole, std::int64_t bytes, const Event& after) override {
    return copy(whole, shard, bytes, after);
  }

  Event all_reduce(std::span<double>, const Event& after) override { return pass(after); }

  Event broadcast(void*, std::int64_t bytes, int root, const Event& after) override {
    AUTOGLM_CHECK(root == 0 && bytes >= 0, "root {}, {} bytes", root, bytes);
    return pass(after);
  }

  Event barrier() override { return stream_.record(); }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    return {std::vector<std::byte>(mine.begin(), mine.end())};
  }

  std::int64_t scratch_bytes() const override { return 0; }

 private:
  Event copy(void* to, const void* from, std::int64_t bytes, const Event& after) {
    AUTOGLM_CHECK(bytes >= 0, "{} bytes", bytes);
    stream_.wait(after);
    if (to != from) stream_.copy(to, from, static_cast<std::size_t>(bytes));
    return stream_.record();
  }

  Event pass(const Event& after) {
    stream_.wait(after);
    return stream_.record();
  }

  std::unique_ptr<Stream> own_;
  Stream& stream_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>(make_inline_stream());
}

std::unique_ptr<Communicator> make_self_communicator(Stream& stream) {
  return std::make_unique<SelfCommunicator>(stream);
}

}  // namespace autoglm
