// Saved inputs of recomputed layers that wait for the backward pass in host memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/states/streams.h"

namespace autoglm {

class ActivationStore {
 public:
  // Host buffers for the inputs of the layers from `first` on, of so many `elements` of `type` each.
  ActivationStore(std::int64_t first, std::span<const std::int64_t> elements, at::ScalarType type,
                  at::Device device, EngineStreams& streams);

  // Waits until nothing touches the buffers any more.
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

  bool holds(std::int64_t layer) const {
    return first_ <= layer && layer < first_ + static_cast<std::int64_t>(entries_.size());
  }

  // Starts copying a layer's input to the host: before the layer runs, so that both overlap.
  void save(std::int64_t layer, const at::Tensor& input);

  // The layer has run: waits for the copy, after which the input may be freed on the device.
  void settle(std::int64_t layer);

  // Allocates the input on the device again and starts copying it back, unless that has begun.
  void prefetch(std::int64_t layer);

  // Waits until nothing is on its way and forgets what was saved: a forward pass may begin anew.
  void clear();

  // The input, ready for compute.
  at::Tensor take(std::int64_t layer);

 private:
  struct Entry {
    at::Tensor on_host;
    at::Tensor on_device;  // between prefetch and take
    std::vector<std::int64_t> shape;
    Event saved, loaded;
  };
  Entry& entry(std::int64_t layer) { return entries_[static_cast<std::size_t>(layer - first_)]; }

  std::int64_t first_;
  at::Device device_;
  EngineStreams& streams_;
  std::vector<Entry> entries_;
};

}  // namespace autoglm
