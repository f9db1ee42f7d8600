// Reads the states that a rank saves, on a thread of its own, while the engine goes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "sharding/stream.h"
#include "trainer/states/block_state.h"

namespace autoglm {

enum class SavedKind { master, moment1, moment2 };

// A run of elements of one parameter that this rank saves, where it lies. Nothing is copied.
struct SavedRun {
  SavedKind kind = SavedKind::master;
  const Parameter* parameter = nullptr;
  std::int64_t offset = 0;  // of the first element within the parameter: the same for every number of ranks
  DType dtype = DType::float32;  // as saved: of a master fp32, of moments theirs
  at::Tensor values;             // flat; of a split master the working weights
  at::Tensor remainder;          // of a split master what these lack
};

class StateSaver {
 public:
  // Allocates what it copies through, in the host's pool: a piece for a master that is joined, and on CUDA two that are
  // copied from the device. The same for every layout of the master, so that no plan is chosen for it. On meta it
  // allocates alike, and nothing may be read.
  explicit StateSaver(const StatePlacement& placement);
  ~StateSaver();
  StateSaver(const StateSaver&) = delete;
  StateSaver& operator=(const StateSaver&) = delete;

  // Calls `take` on the saver's thread with the values of all runs, in their order, a piece at a time; states in host
  // memory that are saved as they lie come as they lie. The runs must not change until the returned event is ready:
  // working weights and optimizer states change in the optimizer's step alone. Then `done` is called on that thread,
  // with what `take` has thrown, which ends the reading. The event never rethrows. One at a time.
  Event start(std::vector<SavedRun> runs, std::function<void(std::span<const std::byte>)> take,
              std::function<void(std::exception_ptr)> done);

 private:
  static constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements

  void read(const SavedRun& run, const std::function<void(std::span<const std::byte>)>& take);
  std::span<const std::byte> piece_of(const SavedRun& run, std::int64_t begin, std::int64_t count);
  // The elements in host memory: where they lie, or in the piece that they are copied to.
  const void* on_host(const at::Tensor& values, std::int64_t begin, std::int64_t count, at::Tensor& piece);

  at::Device device_;
  at::Tensor joined_, values_, remainder_;  // bytes [4 * kPiece], the last one half of that
  std::unique_ptr<Stream> copies_;          // from the device
  std::unique_ptr<Stream> thread_;
};

}  // namespace autoglm
