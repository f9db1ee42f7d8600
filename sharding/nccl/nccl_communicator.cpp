#include "sharding/nccl/nccl_communicator.h"

#include <optional>
#include <utility>

#include "sharding/agree.h"
#include "sharding/cuda/cuda_stream.h"
#include "sharding/nccl/one_nccl.h"
#include "sharding/nccl/ordered_reduce.h"

namespace autoglm {
namespace {

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Communicator& control, NcclStreams streams, const NcclFunctions& nccl,
                   const NcclOptions& options)
      : control_(control),
        staging_bytes_(static_cast<std::int64_t>(options.staging.size())),
        sums_(std::move(streams.sums)),
        connection_(control, !options.sums_by_nccl && control.size() > 1, std::move(streams.collectives),
                    std::move(streams.reports), nccl, options.patience) {}

  // Brings the ranks together; all fail together.
  void connect(const NcclOptions& options) {
    check_same(
        control_, "how gradients are added",
        options.sums_by_nccl ? std::string("by NCCL") : fmt::format("in {} bytes", options.staging.size()));
    const std::vector<int> hosts = number_hosts(gather_text(control_, options.host));
    run_agreed(control_, [&] {
      if (!options.sums_by_nccl) reduce_.emplace(hosts, rank(), options.staging, std::move(sums_));
    });
    connection_.connect();
  }

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }
  std::int64_t scratch_bytes() const override { return staging_bytes_; }

  using Communicator::reduce_scatter;
  Event reduce_scatter(float* input, float* output, std::int64_t count, Parts parts,
                       const Event& after) override {
    AUTOGLM_CHECK(count >= 0 && (reduce_ || parts == Parts::fp32), "{} elements", count);
    const auto bytes = count * static_cast<std::int64_t>(sizeof(float));
    return connection_.start("reduce_scatter", bytes, after, [&](const std::string& name) {
      if (reduce_) return reduce_->queue(connection_, name, input, output, count, parts);
      submit(name, [=](const NcclFunctions& nccl, ncclComm_t comm, cudaStream_t stream) {
        return nccl.reduce_scatter(input, output, static_cast<std::size_t>(count), ncclFloat32, ncclSum, comm,
                                   stream);
      });
    });
  }

  Event all_gather(const void* shard, void* whole, std::int64_t bytes, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0, "{} bytes", bytes);
    return connection_.start("all_gather", bytes, after, [&](const std::string& name) {
      submit(name, [=](const NcclFunctions& nccl, ncclComm_t comm, cudaStream_t stream) {
        return nccl.all_gather(shard, whole, static_cast<std::size_t>(bytes), ncclUint8, comm, stream);
      });
    });
  }

  Event broadcast(void* data, std::int64_t bytes, int root, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0 && 0 <= root && root < size(), "{} bytes from rank {}", bytes, root);
    return connection_.start("broadcast", bytes, after, [&](const std::string& name) {
      submit(name, [=](const NcclFunctions& nccl, ncclComm_t comm, cudaStream_t stream) {
        return nccl.broadcast(data, data, static_cast<std::size_t>(bytes), ncclUint8, root, comm, stream);
      });
    });
  }

  Event all_reduce(std::span<double> values, const Event& after) override {
    return control_.all_reduce(values, after);
  }
  Event barrier() override { return control_.barrier(); }
  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    return control_.exchange(mine);
  }

  void abandon(std::string_view why) noexcept override {
    control_.abandon(why);
    connection_.stop_waiting();
  }
  std::optional<std::string> abandoned() const override { return control_.abandoned(); }

 private:
  void submit(const std::string& name, NcclCall call) {
    connection_.submit(name, NcclUse::collectives, std::move(call));
  }

  Communicator& control_;
  std::int64_t staging_bytes_;
  std::unique_ptr<Stream> sums_;  // until reduce_ takes it
  std::optional<OrderedReduce> reduce_;
  NcclConnection connection_;  // last: it waits for the collectives
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, NcclStreams streams,
                                                     const NcclFunctions& nccl, const NcclOptions& options) {
  auto communicator = std::make_unique<NcclCommunicator>(control, std::move(streams), nccl, options);
  communicator->connect(options);
  return communicator;
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, int device,
                                                     const NcclOptions& options) {
  NcclStreams streams;
  run_agreed(control, [&] {
    check_one_nccl(linked_nccl());
    streams = {make_cuda_stream(device, true), make_cuda_stream(device, true), make_cuda_stream(device)};
  });
  return make_nccl_communicator(control, std::move(streams), linked_nccl(), options);
}

}  // namespace autoglm
