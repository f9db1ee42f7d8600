// One group of a block's weights as a flat tensor: those that are trained, or those that are frozen.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "sharding/flat_layout.h"
#include "sharding/memory/category.h"
#include "trainer/models/block.h"

namespace autoglm {

// Elements [begin, end) of a group.
struct ElementRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  ElementRange within(ElementRange other) const {
    const std::int64_t low = std::max(begin, other.begin);
    return {low, std::max(low, std::min(end, other.end))};
  }
};

// Each group has a layout, a format and a sharding of its own. Parameters of the other group have no elements
// in it.
class FlatWeights {
 public:
  // Only the layout; allocate() or take() must follow. `block` must outlive the object.
  FlatWeights(const Block& block, bool trainable, int num_shards, int shard);

  const FlatLayout& layout() const { return layout_; }
  std::int64_t total_elements() const { return layout_.total_elements(); }
  ElementRange shard() const;

  // Allocates a tensor of `format` for all elements, or for the own shard alone; padding is zero, weights are
  // to be loaded.
  void allocate(bool sharded, at::ScalarType format, at::Device device, MemoryPool pool);
  // Takes the tensor of another object of the same layout and sharding.
  void take(const FlatWeights& other);
  // Copies what both hold; `other` holds all that this does.
  void copy_from(const FlatWeights& other);

  // What is held here: [held().size()].
  const at::Tensor& values() const { return values_; }
  ElementRange held() const { return sharded_ ? shard() : ElementRange{0, total_elements()}; }
  // A part of it.
  at::Tensor range(ElementRange range) const;

  // The elements of parameter `index` of the block.
  ElementRange elements_of(std::size_t index) const;

  // Binds the weights of the group's parameters to `whole` [total_elements()], or unbinds them when it is
  // undefined.
  void bind(Block& block, const at::Tensor& whole) const;
  // The same for gradients, fresh ones where `whole` holds nothing yet.
  void bind_gradients(Block& block, const at::Tensor& whole, bool fresh) const;

 private:
  template <typename Bind>
  void bind_parameters(Block& block, const at::Tensor& whole, Bind bind) const;

  bool trainable_;
  int shard_;
  FlatLayout layout_;
  bool sharded_ = false;
  at::Tensor values_;
};

// An uninitialized flat tensor in a pool: of `device`, or of the host beside it (meta's own on meta).
at::Tensor allocate_flat(std::int64_t elements, at::ScalarType type, at::Device device,
                         MemoryCategory category, MemoryPool pool = MemoryPool::device);

// Zeroes what of the elements from `first` on, which `flat` holds, lies between the parameters of a group. The
// rest is left untouched: pages that are written only when they are needed make the first step begin sooner.
void clear_padding(const at::Tensor& flat, const FlatLayout& layout, std::int64_t first);

// Pointer to an element of a flat tensor; null on meta.
inline void* element_pointer(const at::Tensor& flat, std::int64_t element) {
  if (flat.is_meta() || !flat.defined()) return nullptr;
  return static_cast<char*>(flat.mutable_data_ptr()) +
         element * static_cast<std::int64_t>(flat.element_size());
}

}  // namespace autoglm
