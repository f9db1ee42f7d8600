// What an allocation is for. Allocations carry the category that is current on the allocating thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace autoglm {

enum class MemoryCategory : std::uint8_t {
  weights,      // working weights, what the forward pass reads
  master,       // fp32 master weights and the optimizer's moments
  gradients,    // accumulators and the per-block flat gradient buffers
  activations,  // what the forward pass keeps for the backward pass
  head,         // logits chunks and what goes with them
  workspace,    // scratch space inside one op
  data,         // token ids, positions, targets
  slots,        // where weights of one block are gathered or uploaded to
  staging,      // on the way between device and host
  other,
};
inline constexpr std::size_t kNumMemoryCategories = 10;

constexpr std::string_view category_name(MemoryCategory category) {
  constexpr std::array<std::string_view, kNumMemoryCategories> names = {
      "weights",   "master", "gradients", "activations", "head",
      "workspace", "data",   "slots",     "staging",     "other"};
  return names[static_cast<std::size_t>(category)];
}

// Category of the calling thread's allocations.
MemoryCategory current_category();

// Sets the calling thread's category for a scope.
class CategoryScope {
 public:
  explicit CategoryScope(MemoryCategory category);
  ~CategoryScope();
  CategoryScope(const CategoryScope&) = delete;
  CategoryScope& operator=(const CategoryScope&) = delete;

 private:
  MemoryCategory previous_;
};

// Which memory an allocation comes from: the device's own, or the host's that the device copies from and to
// (page-locked with CUDA). A CPU rank keeps both in host memory, but apart, as a GPU would.
enum class MemoryPool : std::uint8_t { device, host };

constexpr std::string_view pool_name(MemoryPool pool) {
  return pool == MemoryPool::host ? "host" : "device";
}

// Pool of the calling thread's allocations: the device's unless a PoolScope says otherwise.
MemoryPool current_pool();

// Sets the calling thread's pool for a scope.
class PoolScope {
 public:
  explicit PoolScope(MemoryPool pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  MemoryPool previous_;
};

}  // namespace autoglm
